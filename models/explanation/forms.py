"""Functionals j of a field at one time, exact or smooth, with their derivatives.

linear       Σ w u
half square  ½ Σ w u²
maximum      max u; smooth: β⁻¹ log mean exp(β u), at most β⁻¹ log P below it over P points
exceedance   Σ w [u > θ]; smooth: Σ w / (1 + exp(−β (u − θ)))
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float
from scipy.special import expit, softmax

Columns = Float[np.ndarray, "batch time point"]
Values = Float[np.ndarray, "batch time"]


class Form(Protocol):
    """A functional of the values at the points of one time."""

    def of(self, columns: Columns) -> Values:
        """Its value."""
        ...

    def slope(self, columns: Columns) -> Columns:
        """Its derivative in the values."""
        ...

    def ends(self, lower: Columns, upper: Columns) -> tuple[Values, Values]:
        """Its least and greatest value of all u with lower ≤ u ≤ upper."""
        ...


@dataclass(frozen=True)
class Linear:
    """Σ w u."""

    weights: np.ndarray

    def of(self, columns: Columns) -> Values:
        """Its value."""
        return np.asarray(columns @ self.weights)

    def slope(self, columns: Columns) -> Columns:
        """W, whatever u."""
        return np.broadcast_to(self.weights, columns.shape)

    def ends(self, lower: Columns, upper: Columns) -> tuple[Values, Values]:
        """The upper end of u counts where w > 0, the lower elsewhere, and the other way round."""
        rising = self.weights > 0
        return self.of(np.where(rising, lower, upper)), self.of(np.where(rising, upper, lower))


@dataclass(frozen=True)
class HalfSquare:
    """½ Σ w u²."""

    weights: np.ndarray

    def of(self, columns: Columns) -> Values:
        """Its value."""
        return np.asarray(0.5 * np.square(columns) @ self.weights)

    def slope(self, columns: Columns) -> Columns:
        """W u."""
        return np.asarray(columns * self.weights)

    def ends(self, lower: Columns, upper: Columns) -> tuple[Values, Values]:
        """The u nearest to zero and the one farthest from it; w ≥ 0."""
        return self.of(np.clip(0.0, lower, upper)), self.of(np.maximum(np.abs(lower), np.abs(upper)))


class _Increasing:
    """A functional that grows with every value."""

    def of(self, columns: Columns) -> Values:
        """Its value."""
        raise NotImplementedError

    def ends(self, lower: Columns, upper: Columns) -> tuple[Values, Values]:
        """Those of the ends."""
        return self.of(lower), self.of(upper)


@dataclass(frozen=True)
class SoftMaximum(_Increasing):
    """β⁻¹ log mean exp(β u) over the points of a region."""

    inside: np.ndarray
    sharpness: float

    def of(self, columns: Columns) -> Values:
        """Its value, from the largest downwards: nothing cancels, however small β."""
        chosen = columns[..., self.inside]
        largest = chosen.max(axis=-1)
        below = np.expm1(self.sharpness * (chosen - largest[..., None])).mean(axis=-1)
        return np.asarray(largest + np.log1p(below) / self.sharpness)

    def slope(self, columns: Columns) -> Columns:
        """Softmax of β u."""
        result = np.zeros(columns.shape)
        result[..., self.inside] = softmax(self.sharpness * columns[..., self.inside], axis=-1)
        return result

    @property
    def gap_bound(self) -> float:
        """How far the maximum may lie above."""
        return float(np.log(self.inside.sum()) / self.sharpness)


class _NotDifferentiable(_Increasing):
    def slope(self, columns: Columns) -> Columns:  # noqa: ARG002
        """Raises TypeError: methods that differentiate take the smooth form."""
        raise TypeError("Expected the smooth form of a quantity where it is differentiated.")


@dataclass(frozen=True)
class Maximum(_NotDifferentiable):
    """Max u over the points of a region."""

    inside: np.ndarray

    def of(self, columns: Columns) -> Values:
        """Its value."""
        return np.asarray(columns[..., self.inside].max(axis=-1))


@dataclass(frozen=True)
class Exceedance(_NotDifferentiable):
    """Share of the weights where u > θ."""

    shares: np.ndarray
    threshold: float

    def of(self, columns: Columns) -> Values:
        """Its value."""
        return np.asarray((columns > self.threshold) @ self.shares)


@dataclass(frozen=True)
class SmoothExceedance(_Increasing):
    """Mean of the logistic function of β (u − θ)."""

    shares: np.ndarray
    threshold: float
    sharpness: float

    def of(self, columns: Columns) -> Values:
        """Its value."""
        return np.asarray(expit(self.sharpness * (columns - self.threshold)) @ self.shares)

    def slope(self, columns: Columns) -> Columns:
        """β s (1 − s) w."""
        s = expit(self.sharpness * (columns - self.threshold))
        return np.asarray(self.sharpness * s * (1.0 - s) * self.shares)
