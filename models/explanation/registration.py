"""What was measured of a bundle's explanations when it was made, and what of it failed, in words.

deletion, insertion  z of the order of shares against random orders of the regions; 3 and more is passed
randomisation        rank correlation of the gradient with that of shuffled weights; below ½ is passed. Judged by the
learned part where a classical solver in the graph gives the rest
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.manifest import Manifest

LEAST_Z = 3.0
LARGEST_CORRELATION = 0.5
FEW_LEARNED = 0.1  # share of the gradient below which it is not the network that is explained


@dataclass(frozen=True)
class Registration:
    """Medians over fresh inputs; None where it was not measured."""

    deletion_z: float | None
    insertion_z: float | None
    learned_share: float | None
    correlation: float | None

    @classmethod
    def of(cls, manifest: Manifest) -> "Registration":
        """From the report in a bundle's manifest."""
        found: Mapping[str, Any] = (manifest.document.get("report") or {}).get("explanations") or {}
        # the last entry has all layers shuffled
        correlations = list((found.get("randomisation_learned") or {}).values())
        return cls(
            found.get("deletion_z_median"), found.get("insertion_z_median"), found.get("learned_share_median"),
            correlations[-1] if correlations else None,
        )  # fmt: skip

    def document(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "deletion_z": self.deletion_z, "insertion_z": self.insertion_z, "least_z": LEAST_Z,
            "learned_share": self.learned_share, "shuffled_correlation": self.correlation,
        }  # fmt: skip

    def warnings(self, method: str) -> list[str]:
        """What failed, as far as it bears on a method."""
        found = []
        tests = {"deletion": self.deletion_z, "insertion": self.insertion_z}
        failed = [f"{name} z = {z:.1f}" for name, z in tests.items() if z is not None and z < LEAST_Z]
        if method == "integrated_gradients" and failed:
            found.append(
                f"of this model the order of the regions is no reliable guide to what happens without them: {', '.join(failed)} "
                f"against random orders where {LEAST_Z:g} is wanted; compare with occlusion or shapley"
            )
        if self.learned_share is not None and self.learned_share < FEW_LEARNED:
            found.append(
                f"the classical solver in the graph gives this gradient; what was learned is {100 * self.learned_share:.2g} % of "
                "it, and shuffling the learned weights leaves the map as it is"
            )
        if self.correlation is not None and abs(self.correlation) >= LARGEST_CORRELATION:
            found.append(
                f"the learned part of the gradient has a rank correlation of {self.correlation:.2f} with that of shuffled weights: "
                "it may show the network's architecture"
            )
        return found
