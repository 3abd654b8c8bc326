"""An answer as a JSON document: the same parts for a prediction, a frame and a whole forecast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from api.encodings import json, times
from api.routes import requests
from api.schemas import DEFAULT_PARTS, AnswerOptions
from models.contract import Verdict, Wish
from models.fields import Axis, Field
from models.physical_model import Arrays
from models.statements import Statement
from models.surrogate import Answer, Distribution, Interval, Prediction, Surrogate
from models.validity import Validity

Axes = Mapping[str, Sequence[Axis]]


@dataclass(frozen=True)
class Kept:
    """A contract and what became of it, one verdict per sample; without a wish, none."""

    wish: Wish | None = None
    verdicts: tuple[Verdict, ...] = ()


ANY = Kept()


class Writer:
    """Writes fields in the encoding asked for, without the batch axis when the client sent none.

    What is said about the surrogate's own answer is left out where a contract has put another in its place.
    """

    def __init__(self, options: AnswerOptions, batched: bool, validity: Sequence[Validity], kept: Kept = ANY) -> None:
        self.parts = options.include or DEFAULT_PARTS
        self.options, self.batched, self._kept = options, batched, kept
        self._inside = np.array([verdict.in_domain for verdict in validity], dtype=bool)
        self._own = np.ones_like(self._inside)
        for index, verdict in enumerate(kept.verdicts):
            self._own[index] = not verdict.is_changed
        self._inside &= self._own

    def array(self, values: np.ndarray) -> Any:
        """One array."""
        shown = values if self.batched else values[0]
        return json.encode_array(shown.astype(np.float32, copy=False), self.options.encoding)

    def claimed(self, values: np.ndarray) -> Any:
        """An array that is claimed for inputs in domain only: null for the others."""
        return self._where(self._inside, values)

    def _where(self, holds: np.ndarray, values: np.ndarray) -> Any:
        if holds.all():
            return self.array(values)
        if not self.batched:
            return None
        pairs = zip(values.astype(np.float32), holds, strict=True)
        return [json.encode_array(v, self.options.encoding) if keep else None for v, keep in pairs]

    def field(self, item: Field, axes: Sequence[Axis], values: np.ndarray) -> dict[str, Any]:
        """A field with its dimensions and unit."""
        dims = [*(["batch"] if self.batched else []), *(axis.name for axis in axes)]
        return {"dims": dims, "units": item.units, "data": self.array(values)}

    def uncertainty(
        self, item: Field, prediction: Prediction, band: Interval | None, law: Distribution
    ) -> dict[str, Any]:
        """Spread, band, quantiles and exceedance probabilities of one field."""
        result: dict[str, Any] = {
            "standard_deviation": self._where(self._own, prediction.deviation),
            "level": self.options.level,
            "band": self.options.band,
        }
        if band is not None:
            result |= {"lower": self.claimed(band.lower), "upper": self.claimed(band.upper)}
        if law.quantiles:
            result["quantiles"] = {str(p): self.claimed(values) for p, values in law.quantiles.items()}
        if law.exceedance:
            result["exceedance"] = [
                {"threshold": threshold, "units": item.units, "probability": self.claimed(values)}
                for threshold, values in law.exceedance.items()
            ]
        return result

    def fields(
        self, surrogate: Surrogate, axes: Axes, predictions: Mapping[str, Prediction],
        bands: Mapping[str, Interval | None], laws: Mapping[str, Distribution],
    ) -> dict[str, Any]:  # fmt: skip
        """The parts that are arrays: outputs, uncertainty, members."""
        result: dict[str, Any] = {}
        items = {item.name: item for item in surrogate.manifest.outputs if item.name in predictions}
        if "outputs" in self.parts:
            result["outputs"] = {n: self.field(item, axes[n], predictions[n].mean) for n, item in items.items()}
        if "uncertainty" in self.parts:
            result["uncertainty"] = {
                n: self.uncertainty(item, predictions[n], bands[n], laws[n]) for n, item in items.items()
            }
        if "members" in self.parts:
            result["members"] = {n: self.array(predictions[n].members) for n in items}
        return result

    def statements(self, statements: Sequence[Sequence[Statement]]) -> dict[str, Any]:
        """The statements part."""
        if "statements" not in self.parts:
            return {}
        listed = [
            statement.document() | ({"sample": index} if self.batched else {})
            for index, some in enumerate(statements)
            for statement in some
        ]
        return {"statements": listed}

    def validity(self, verdicts: Sequence[Validity]) -> dict[str, Any]:
        """The validity part."""
        if "validity" not in self.parts:
            return {}
        shown = [verdict.document() for verdict in verdicts]
        return {"validity": shown if self.batched else shown[0]}

    def contract(self) -> dict[str, Any]:
        """What became of the tolerance, where one was asked for."""
        if self._kept.wish is None:
            return {}
        shown = [verdict.document(self._kept.wish) for verdict in self._kept.verdicts]
        return {"contract": shown if self.batched else shown[0]}


def provenance(surrogate: Surrogate) -> dict[str, Any]:
    """Which files answered."""
    found = surrogate.manifest.document.get("provenance", {})
    return {
        "provenance": {
            "bundle": surrogate.manifest.digest,
            "trained": found.get("trained"),
            "code": found.get("code"),
        }
    }


def document(surrogate: Surrogate, answer: Answer, axes: Axes, writer: Writer) -> dict[str, Any]:
    """A whole answer but for its route; parts that were not asked for are left out."""
    return (
        requests.head(surrogate)
        | writer.fields(surrogate, axes, answer.predictions, answer.bands, answer.distributions)
        | writer.statements(answer.statements)
        | writer.validity(answer.validity)
        | writer.contract()
        | provenance(surrogate)
    )


def valid_times(surrogate: Surrogate, inputs: Arrays, lead_times: np.ndarray, batched: bool) -> dict[str, Any]:
    """Valid times of every lead time, where the inputs carry a reference time."""
    clocks = [item.name for item in surrogate.manifest.inputs if item.role == "reference_time"]
    if not clocks:
        return {}
    starts = np.asarray(inputs[clocks[0]], dtype=np.float64)
    rows = [[times.encode(start + lead) for lead in lead_times] for start in starts]
    return {"valid_times": rows if batched else rows[0]}
