"""What weakens an explanation, in words: its baseline, checks that it or its bundle failed, an input nobody calibrated."""

from typing import TYPE_CHECKING

import numpy as np

from models.explanation import attribution, checks
from models.explanation.registration import Registration

if TYPE_CHECKING:
    from models.explanation.answer import Explanation


def warnings_of(found: "Explanation") -> tuple[str, ...]:
    """What weakens the explanation."""
    return (*_of_baseline(found), *_of_checks(found), *_of_registration(found), *_of_validity(found))


def _of_baseline(found: "Explanation") -> list[str]:
    plan, method = found.plan, found.plan.request.method
    if method in ("gradient", "what_if"):
        return []
    facts = plan.surrogate.manifest.document.get("domain_checks") or {}
    few_valued = [name for name in plan.names if "values" in facts.get(name, {})]
    unmoved = [n for n in plan.names if all(np.array_equal(v, plan.sample[n]) for v in plan.baseline.values[n])]
    warnings = []
    if method == "integrated_gradients" and few_valued:
        warnings.append(
            f"the path from the baseline leaves the few-valued {', '.join(few_valued)} of training; compare with occlusion"
        )
    if unmoved:
        warnings.append(
            f"nothing is attributed to {', '.join(unmoved)}: the baseline is the input's own value; give another in baseline"
        )
    return warnings


def _of_checks(found: "Explanation") -> list[str]:
    """The checks that failed, in words."""
    warnings, measured = [], found.checks
    complete, response = found.attribution.completeness, found.response
    if complete is not None and not complete.holds:
        missed = (
            f"{complete.relative:.1e} of"
            if complete.relative is not None
            else f"{complete.absolute:.1e} where nothing is left of"
        )
        warnings.append(
            f"incomplete: attributions miss {missed} the difference (limit {attribution.COMPLETE:g}) "
            f"with {complete.nodes} nodes; the answer has kinks on the path from the baseline"
        )
    if response is not None and (response.relative_gap is None or response.relative_gap > checks.DEVIATION):
        warnings.append("the change is too large for its first-order response: use the true one")
    if measured.get("adjoint_identity", 0.0) > checks.IDENTITY:
        warnings.append(f"the derivative graphs are adjoint to {measured['adjoint_identity']:.1e} only")
    cosine = measured.get("solver_adjoint_cosine")
    if cosine is not None and cosine < checks.ALIGNED:
        warnings.append(f"the gradient has a cosine of {cosine:.2f} with the reference solver's own adjoint")
    reach = measured.get("linearity")
    if found.plan.request.method == "gradient" and reach is not None and reach["range"] < checks.SHORT:
        least = max(reach["range"], float(checks.SIZES[0]))
        warnings.append(f"the gradient holds for changes below {least:.1g} of the input's standard deviation only")
    noisy = [name for name, share in measured.get("spectral_noise", {}).items() if share > checks.NOISY]
    if noisy:
        warnings.append(f"much of the gradient in {', '.join(noisy)} is at the grid scale: read regions, not points")
    return warnings


def _of_registration(found: "Explanation") -> list[str]:
    """What the bundle failed when it was made: said of methods that use its derivatives."""
    plan = found.plan
    if plan.request.method not in attribution.DIFFERENTIATING:
        return []
    return Registration.of(plan.surrogate.manifest).warnings(plan.request.method)


def _of_validity(found: "Explanation") -> list[str]:
    if found.validity.in_domain:
        return []
    return ["the input is out of domain: the explanation is the surrogate's, and nobody calibrated it there"]
