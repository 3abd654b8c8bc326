"""Are the inputs that come still those the model was trained for? A watch over the p-values of the last inputs.

    D⁺ = sup_t (Fₙ(t) − t),      p_drift = exp(−2 n D⁺²)

Fₙ is the empirical distribution of the last n validity p-values. In the domain they are stochastically no smaller than
uniform (Bonferroni makes them larger, never smaller), so only an excess of small ones counts: by the
Dvoretzky–Kiefer–Wolfowitz–Massart inequality P(D⁺ > t) ≤ exp(−2nt²) for independent inputs.

An indicator: inputs of one client resemble one another, a repeated input counts each time, and windows that overlap are
looked at again and again. A fixed calibration set of n_v inputs moves the level by about 1/√n_v, which is small beside
the 0.1 that D⁺ must reach to be noticed here.
"""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

WINDOW = 500
FEWEST = 100
"""Inputs before anything is said."""
RECENT, EVER = 1 / 50, 1 / 5000


def excess_of_small(p_values: np.ndarray) -> float:
    """p_drift of these p-values."""
    ordered = np.sort(p_values)
    count = len(ordered)
    distance = float(np.max(np.arange(1, count + 1) / count - ordered))
    return math.exp(-2.0 * count * max(0.0, distance) ** 2)


@dataclass
class DriftWatch:
    """What one model has been asked lately: p-values of its inputs and widths of its bands."""

    p_values: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    width: float = 0.0
    usual_width: float = 0.0
    seen: int = 0

    def see(self, p_value: float) -> None:
        """One input that has been judged."""
        self.p_values.append(p_value)

    def see_width(self, width: float) -> None:
        """The mean width of one answer's band; the usual one is the mean of the first answers, then moves slowly."""
        self.seen += 1
        self.width += (width - self.width) * max(RECENT, 1 / self.seen)
        self.usual_width += (width - self.usual_width) * max(EVER, 1 / self.seen)

    @property
    def p_value(self) -> float:
        """p_drift of the last inputs; 1 while there are few."""
        found = np.array(self.p_values.copy())
        return excess_of_small(found) if len(found) >= FEWEST else 1.0

    @property
    def width_ratio(self) -> float:
        """How wide bands are lately, relative to what they usually are; 1 while there are few."""
        return self.width / self.usual_width if self.seen >= FEWEST and self.usual_width > 0.0 else 1.0
