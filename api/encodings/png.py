"""Answers as pictures: a sheet of panels, a fan of quantiles per station, a moving picture of a forecast."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from api.encodings import panels
from api.encodings.sheet import Sheet, is_series
from api.encodings.trajectory import assemble
from models.fields import Field
from models.forecast import Forecast, Frame, Summary
from models.physical_model import Arrays
from models.surrogate import Answer, Question, Surrogate

DPI = 100
COLUMNS = 4
SECONDS = 8.0  # of a whole film
SLOWEST, FASTEST = 700, 80  # milliseconds of a frame

Update = Callable[[int], None]


def encode_answer(surrogate: Surrogate, inputs: Arrays, answer: Answer) -> bytes:
    """Inputs, answers and bands of one sample; scalars, statements and validity below."""
    question = replace(answer.question, quantiles=panels.FAN, thresholds={})
    laws = {
        item.name: surrogate.distribution(item.name, answer.predictions[item.name], question)
        for item in surrogate.manifest.outputs
        if is_series(item)
    }
    told = replace(answer, distributions={**answer.distributions, **laws})
    sheet = Sheet(surrogate, inputs, told, None)
    return still(sheet.panels(), sheet.caption(answer.statements[0]))


def encode_forecast(
    surrogate: Surrogate, inputs: Arrays, forecast: Forecast, frames: Sequence[Frame], summary: Summary
) -> bytes:
    """A fan of quantiles for stations, else a moving picture with one frame per lead time; of one sample."""
    told = [_with_quantiles(surrogate, frame) for frame in frames]
    sheet = Sheet(surrogate, inputs, assemble(forecast, told, summary), forecast.lead_times)
    moving = [item for item in forecast.timed_fields if not is_series(item)]
    if moving:
        return _film(sheet, moving)
    fans = [draw for item in forecast.timed_fields for draw in sheet.output(item)]
    return still(fans, sheet.caption(frames[-1].statements[0]))


def _with_quantiles(surrogate: Surrogate, frame: Frame) -> Frame:
    """The frame with the quantiles of a fan, whatever was asked for."""
    known, question = surrogate.lead_times, Question(quantiles=panels.FAN)
    anywhere = known is None or known.input is not None
    lead = None if anywhere or known is None else int(np.abs(known.values - frame.lead_time).argmin())
    timed = {item.name for item in surrogate.manifest.outputs if is_series(item)} & set(frame.predictions)
    laws = {name: surrogate.distribution(name, frame.predictions[name], question, lead) for name in timed}
    return replace(frame, distributions={**frame.distributions, **laws})


def _figure(rows: int, columns: int) -> Figure:
    figure = Figure(figsize=(4.4 * columns, 3.9 * rows + 0.4), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def still(draws: Sequence[Callable[[Axes], None]], caption: str) -> bytes:
    """Panels side by side, four in a row, with a caption below."""
    columns = min(COLUMNS, max(1, len(draws)))
    rows = max(1, math.ceil(len(draws) / columns))
    figure = _figure(rows, columns)
    for place, draw in enumerate(draws, start=1):
        draw(figure.add_subplot(rows, columns, place))
    figure.supxlabel(caption, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _film(sheet: Sheet, fields: Sequence[Field]) -> bytes:
    """One row per field, one frame per lead time; limits and layout stay as the first frame set them."""
    rows = [sheet.films(item) for item in fields]
    columns = max(map(len, rows))
    figure = _figure(len(rows), columns)
    updates: list[Update] = []
    for row, films in enumerate(rows):
        for column, film in enumerate(films):
            updates.append(film(figure.add_subplot(len(rows), columns, row * columns + column + 1)))
    title, caption = figure.suptitle(sheet.moment(0)), figure.supxlabel(sheet.caption_at(0), fontsize=8)
    figure.canvas.draw()
    figure.set_layout_engine("none")
    pictures = []
    for index in range(len(sheet.leads)):
        for update in updates:
            update(index)
        title.set_text(sheet.moment(index))
        caption.set_text(sheet.caption_at(index))
        pictures.append(_picture(figure))
    pause = int(np.clip(1000 * SECONDS / len(pictures), FASTEST, SLOWEST))
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, format="PNG", save_all=True, append_images=pictures[1:], duration=pause, loop=0, disposal=0
    )
    return buffer.getvalue()


def _picture(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
