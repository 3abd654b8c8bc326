"""What a bundle must show before it is served: today's graphs give yesterday's golden outputs, derivatives fit.

Doing so also warms it: sessions allocate, features compile.
"""

import numpy as np

from models.batching import LARGEST_BATCH, measure, spread
from models.bundle import CALIBRATION_FILE, GOLDEN_FILE, GRAPH_FILES
from models.errors import BrokenBundle
from models.physical_model import Arrays
from models.surrogate import Question, Surrogate

DERIVATIVE_SECONDS = 0.25  # of measuring, for each derivative graph
WHOLE_LEVEL = 0.5  # of the band that is tried: any calibration has it
GOLDEN_TOLERANCE = 1e-5  # relative; summation order differs between processors and providers


def golden_inputs(surrogate: Surrogate) -> Arrays:
    """The stored inputs, by field."""
    golden = surrogate.bundle.arrays(GOLDEN_FILE)
    return {key.removeprefix("input."): values for key, values in golden.items() if key.startswith("input.")}


def check(surrogate: Surrogate) -> float:
    """Distance from the golden outputs of a bundle that reproduces them and makes a whole answer of one.

    Raises BrokenBundle.
    """
    distance = check_golden(surrogate)
    inputs = {name: values[:1] for name, values in golden_inputs(surrogate).items()}
    try:
        surrogate.predict(inputs, Question(WHOLE_LEVEL, bounds=False))
    except Exception as error:  # facts and arrays of the calibration may disagree in any way
        got = f"{type(error).__name__}: {error}"[:200]
        raise BrokenBundle(CALIBRATION_FILE, "what bands and validity are made of", got) from error
    return distance


def check_golden(surrogate: Surrogate) -> float:
    """Relative distance of today's outputs from the stored ones.

    Raises BrokenBundle when it exceeds the tolerance, or when the graph is not the one the manifest describes.
    """
    try:
        golden = surrogate.bundle.arrays(GOLDEN_FILE)
        found = surrogate.run(surrogate.validate(golden_inputs(surrogate)))
        distances = {
            name: float(np.linalg.norm(prediction.members - golden[f"{name}_members"]))
            / float(np.linalg.norm(golden[f"{name}_members"]))
            for name, prediction in found.items()
        }
    except Exception as error:  # ONNX Runtime and NumPy raise a dozen unrelated classes
        raise BrokenBundle(GRAPH_FILES["model"], "the graph the manifest describes", str(error)[:200]) from error
    largest = max(distances.values())
    if not largest <= GOLDEN_TOLERANCE:
        raise BrokenBundle(GOLDEN_FILE, f"outputs within {GOLDEN_TOLERANCE:g}", f"{largest:.2e}")
    return largest


def check_derivatives(surrogate: Surrogate) -> None:
    """Both derivative graphs, where there are any, take and return what the fields say.

    Raises BrokenBundle.
    """
    inputs = {name: np.asarray(v[:1], dtype=np.float32) for name, v in golden_inputs(surrogate).items()}
    manifest = surrogate.manifest
    calls = {
        "jvp": lambda: surrogate.jvp(inputs, {name: np.zeros_like(v) for name, v in inputs.items()})[1],
        "vjp": lambda: surrogate.vjp(
            inputs, {f.name: np.zeros((1, manifest.members, *f.shape), np.float32) for f in manifest.outputs}
        )[1],
    }
    shapes = {
        "jvp": {item.name: item.shape for item in manifest.outputs},
        "vjp": {item.name: item.shape for item in manifest.inputs},
    }
    for kind in surrogate.derivatives_offered:
        try:
            found = {
                name: values.shape[-len(shapes[kind][name]) or values.ndim :] for name, values in calls[kind]().items()
            }
        except Exception as error:  # as above
            raise BrokenBundle(GRAPH_FILES[kind], "the derivative of the graph", str(error)[:200]) from error
        if found != shapes[kind]:
            raise BrokenBundle(GRAPH_FILES[kind], f"derivatives of shapes {shapes[kind]}", str(found)[:200])


def tune(surrogate: Surrogate) -> None:
    """Try the derivatives, and measure the best batch sizes.

    Derivative graphs keep more per sample, so theirs is at most the forward graph's. Raises BrokenBundle.
    """
    forward = surrogate.graphs["model"]
    measure(forward)
    spread(forward)
    check_derivatives(surrogate)
    for graph in surrogate.graphs.values():
        if graph is not forward:
            measure(graph, forward.batch or LARGEST_BATCH, DERIVATIVE_SECONDS)
