"""What mathematics says about a weather forecast from four points: nothing."""

from models.physical_model import Arrays
from models.statements import Statement, nothing

TRUTH = "observations (MERRA-2 reanalysis)"
REASON = "the atmosphere beyond the four points is not among the inputs, so no bound on the error can exist"


def statements(inputs: Arrays, outputs: Arrays) -> tuple[Statement, ...]:
    """One statement per quantity that there is no bound."""
    return tuple(nothing(name, "sup", TRUTH, REASON) for name in outputs)
