"""The quantity of interest as a function of the inputs: J(x) through the surrogate, its members, its derivatives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from jaxtyping import Float

from models.explanation.quantities import Quantity
from models.physical_model import Arrays
from models.surrogate import Prediction, Surrogate

TOGETHER = 16  # rows per run: activations then stay in the cache
Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Value:
    """J of the ensemble mean, and of every member."""

    mean: Float[np.ndarray, " batch"]
    members: Float[np.ndarray, "batch member"]


@dataclass(frozen=True)
class Functional:
    """J at rows of explained fields, all other inputs those of `sample`; `exact` or smooth where the two differ."""

    surrogate: Surrogate
    sample: Arrays
    quantity: Quantity
    exact: bool

    @property
    def times(self) -> int:
        """Runs of the graph per value."""
        times = self.quantity.moments.times
        return 1 if times is None else len(times)

    @property
    def numbers_per_row(self) -> int:
        """How many numbers the graph returns for one value."""
        manifest = self.surrogate.manifest
        return self.times * manifest.members * sum(prod(item.shape) for item in manifest.outputs)

    def batch(self, rows: Rows, repeats: int = 1) -> Arrays:
        """Inputs of the graph: every row `repeats` times, each of them at every lead time, as float32.

        Fields on whose mean nothing depends lose that of the sample: half a kilometre of height rounds hollows to 0.03 mm,
        and on a path from level ground water would run where the rounding lets it.
        """
        count = len(next(iter(rows.values())))
        found = {name: np.broadcast_to(values, (count, *values.shape)) for name, values in self.sample.items()}
        rows = {name: values - self._idle_mean(name) for name, values in rows.items()}
        found = {name: np.repeat(v, repeats * self.times, axis=0) for name, v in (found | dict(rows)).items()}
        known, times = self.surrogate.lead_times, self.quantity.moments.times
        if times is not None and known is not None and known.input is not None:
            found[known.input] = np.tile(times, count * repeats)
        return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in found.items()}

    def _idle_mean(self, name: str) -> float:
        facts = (self.surrogate.manifest.document.get("domain_checks") or {}).get(name, {})
        return float(self.sample[name].mean(dtype=np.float64)) if facts.get("mean_free") else 0.0

    def _parts(self, rows: Rows, each: int) -> Iterator[Rows]:
        size = max(1, TOGETHER // (self.times * each))
        for first in range(0, len(next(iter(rows.values()))), size):
            yield {name: values[first : first + size] for name, values in rows.items()}

    def answers(self, rows: Rows) -> dict[str, Prediction]:
        """Every output at every row and lead time."""
        return self.surrogate.run(self.batch(rows))

    def values(self, rows: Rows) -> Value:
        """J at every row."""
        means, members = [], []
        for part in self._parts(rows, 1):
            found = self.surrogate.run(self.batch(part))[self.quantity.field.name]
            means.append(self.quantity.of(found.mean, self.exact))
            columns = [self.quantity.of(found.members[:, m], self.exact) for m in range(found.members.shape[1])]
            members.append(np.stack(columns, axis=1))
        return Value(np.concatenate(means), np.concatenate(members))

    def _cotangents(self, weights: np.ndarray) -> Arrays:
        """Member cotangents of every output: `weights` (row, member, *grid) on the quantity's field, zero elsewhere."""
        count, members = weights.shape[:2]
        return {
            item.name: weights if item.name == self.quantity.field.name else np.zeros((count, members, *item.shape))
            for item in self.surrogate.manifest.outputs
        }

    def _pulled(self, inputs: Arrays, cotangents: np.ndarray, rows: Rows) -> Arrays:
        """Jᵀw of the fields of `rows`, summed over lead times."""
        _, maps = self.surrogate.vjp(inputs, self._cotangents(cotangents))
        sums = {name: maps[name].astype(np.float64) for name in rows}
        return {name: v.reshape(-1, self.times, *v.shape[1:]).sum(axis=1) for name, v in sums.items()}

    def gradients(self, rows: Rows) -> Arrays:
        """∂J/∂x of the ensemble mean at every row, by field."""
        found = []
        count = self.surrogate.manifest.members
        for part in self._parts(rows, 1):
            inputs = self.batch(part)
            shape = (len(next(iter(inputs.values()))), *self.quantity.field.shape)
            known = self.quantity.is_linear  # then the slope needs no answer
            means = np.zeros(shape) if known else self.surrogate.run(inputs)[self.quantity.field.name].mean
            shares = np.repeat(self.quantity.slope(means)[:, None] / count, count, axis=1)
            found.append(self._pulled(inputs, shares, part))
        return {name: np.concatenate([part[name] for part in found]) for name in rows}

    def member_gradients(self, rows: Rows) -> Arrays:
        """∂J(v_m)/∂x of every member v_m at every row: (row, member, *grid) by field."""
        found = []
        count = self.surrogate.manifest.members
        for part in self._parts(rows, count):
            members = self.surrogate.run(self.batch(part))[self.quantity.field.name].members
            slopes = np.stack([self.quantity.slope(members[:, m]) for m in range(count)], axis=1)
            rounds = len(members) // self.times
            own = slopes.reshape(rounds, self.times, count, *slopes.shape[2:]).swapaxes(1, 2)
            one_hot = np.einsum("rmt...,mk->rmtk...", own, np.eye(count))
            pulled = self._pulled(self.batch(part, count), one_hot.reshape(-1, count, *slopes.shape[2:]), part)
            found.append({name: v.reshape(rounds, count, *v.shape[1:]) for name, v in pulled.items()})
        return {name: np.concatenate([part[name] for part in found]) for name in rows}

    def pushed(self, row: Rows, change: Rows) -> Value:
        """The derivative of J at one row along `change`, by the JVP."""
        inputs = self.batch(row)
        tangents = {name: np.zeros_like(values) for name, values in inputs.items()}
        for name, values in change.items():
            tangents[name] = np.broadcast_to(values, inputs[name].shape).astype(np.float32)
        members, derivatives = (found[self.quantity.field.name] for found in self.surrogate.jvp(inputs, tangents))
        own = [float(np.vdot(self.quantity.slope(members[:, m]), derivatives[:, m])) for m in range(members.shape[1])]
        whole = float(np.vdot(self.quantity.slope(members.mean(axis=1)), derivatives.mean(axis=1)))
        return Value(np.array([whole]), np.array([own]))
