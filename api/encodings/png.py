"""Fields as pictures on physical axes, with a colour bar and units."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.fields import Field
from models.surrogate import Answer

MEDIA_TYPE = "image/png"


def encode(source: Field, values: np.ndarray, target: Field, answer: Answer) -> bytes:
    """Input, answer and band half-width of one sample, side by side; the strongest statements below."""
    panels = [(source, values, "viridis", source.name), (target, answer.prediction.mean[0], "magma", target.name)]
    if answer.band is not None:
        half = (answer.band.upper[0] - answer.band.lower[0]) / 2
        panels.append((target, half, "cividis", f"half-width of the {answer.level:.0%} band"))
    figure = Figure(figsize=(4.4 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (field, array, colours, title) in enumerate(panels):
        _draw(figure, (1, len(panels), place + 1), field, array, colours, title)
    figure.supxlabel(_caption(answer), fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw(
    figure: Figure, place: tuple[int, int, int], field: Field, values: np.ndarray, colours: str, title: str
) -> None:
    axes = figure.add_subplot(*place)
    x, y = field.axes
    image = axes.imshow(values.T, origin="lower", extent=(x.start, x.stop, y.start, y.stop), cmap=colours)
    unit = "" if field.units == "1" else f" [{field.units}]"
    axes.set(title=title + unit, xlabel=x.name, ylabel=y.name)
    figure.colorbar(image, ax=axes, shrink=0.8)


def _caption(answer: Answer) -> str:
    said = [
        f"{s.norm}{' (relative)' if s.relative else ''} error ≤ {s.value:.3g}, {s.kind}"
        for s in answer.statements[0]
        if s.value is not None
    ]
    place = "in domain" if answer.validity[0].in_domain else "OUT OF DOMAIN: no band is claimed"
    return " · ".join([*said, f"{place} (p = {answer.validity[0].p_value:.3f})"])
