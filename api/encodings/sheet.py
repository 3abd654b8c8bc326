"""What is drawn of one answer: which panels, in which colours, from which numbers.

A panel is a function that draws on Matplotlib axes; a film draws its first frame and returns the function that shows
another. Out of domain no band, quantile or width is drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from matplotlib.axes import Axes

from api.encodings import panels
from api.encodings.panels import Map
from api.encodings.trajectory import axes_of
from models.fields import LEAD_TIME, Axis, Field
from models.physical_model import Arrays
from models.statements import Statement
from models.surrogate import Answer, Surrogate

HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "hours": 1.0, "day": 24.0, "d": 24.0}
MOST_LEADS = 8
SECOND_TITLE = "half-width of the {level:.0%} band"

Draw = Callable[[Axes], None]
Update = Callable[[int], None]
Film = Callable[[Axes], Update]
Ends = tuple[np.ndarray, np.ndarray]


def space_of(item: Field) -> tuple[Axis, ...]:
    """The axes of a field other than that of lead times."""
    return tuple(axis for axis in item.axes if axis.name != LEAD_TIME)


def is_series(item: Field) -> bool:
    """Whether one lead time holds a number, or one per station: then time goes along the picture."""
    return all(axis.labels for axis in space_of(item)) and len(space_of(item)) < 2


@dataclass(frozen=True)
class Sheet:
    """The first sample of an answer; `lead_times` are those of a forecast."""

    surrogate: Surrogate
    inputs: Arrays
    answer: Answer
    lead_times: np.ndarray | None

    @property
    def leads(self) -> np.ndarray:
        """The lead times of the fields that have them."""
        known = self.surrogate.lead_times
        if self.lead_times is not None or known is None:
            return np.zeros(0) if self.lead_times is None else self.lead_times
        return known.values

    @property
    def inside(self) -> bool:
        """Whether bands are claimed."""
        return self.answer.validity[0].in_domain

    @cached_property
    def ground(self) -> Map | None:
        """The terrain among the inputs."""
        for item in self.surrogate.manifest.inputs:
            if item.standard_name == "surface_altitude" or item.name == "elevation":
                return panels.upright(item.axes, self.inputs[item.name][0])
        return None

    def caption(self, statements: Sequence[Statement]) -> str:
        """Scalars, what is claimed, and whether the input is in the domain."""
        scalars = [
            f"{item.name} = {float(self.inputs[item.name][0]):.4g}{panels.unit_text(item.units)}"
            for item in self.surrogate.manifest.inputs
            if not item.axes and item.role not in ("reference_time", "lead_time")
        ]
        said = [self._words(s) for s in statements if s.value is not None]
        verdict = self.answer.validity[0]
        place = "in domain" if verdict.in_domain else "OUT OF DOMAIN: no band is claimed"
        return "\n".join(
            part for part in (" · ".join(scalars), *said[:4], f"{place} (p = {verdict.p_value:.3f})") if part
        )

    def _words(self, statement: Statement) -> str:
        relative = " (relative)" if statement.relative else ""
        when = "" if statement.lead_time is None else f" at t = {statement.lead_time:.4g}"
        name = f"{statement.quantity.replace('_', ' ')}{when}"
        return f"{name}: {statement.norm}{relative} error ≤ {statement.value:.3g}, {statement.kind}"

    def caption_at(self, index: int) -> str:
        """The caption of one lead time."""
        lead = float(self.leads[index])
        said = self.answer.statements[0]
        return self.caption([s for s in said if s.lead_time is not None and abs(s.lead_time - lead) < 1e-9])

    def moment(self, index: int) -> str:
        """A lead time in words, with its date where that is known."""
        known = self.surrogate.lead_times
        units = "" if known is None or known.units == "1" else f" {known.units}"
        text = f"t = {self.leads[index]:.4g}{units}"
        times = self.times
        if not np.issubdtype(times.dtype, np.datetime64):
            return text
        return f"{text}, valid {np.datetime_as_string(times[index], 'm').replace('T', ' ')} UTC"

    @property
    def reference(self) -> np.datetime64 | None:
        """The start of the forecast."""
        for item in self.surrogate.manifest.inputs:
            if item.role == "reference_time":
                minutes = round(60 * float(self.inputs[item.name][0]))
                return np.datetime64("1970-01-01T00:00", "s") + np.timedelta64(60 * minutes, "s")
        return None

    @property
    def times(self) -> np.ndarray:
        """Valid times where the start is known, else the lead times."""
        known = self.surrogate.lead_times
        return self._dated(self.leads, "1" if known is None else known.units)

    def _dated(self, values: np.ndarray, units: str) -> np.ndarray:
        if self.reference is None or units not in HOURS:
            return values
        return np.asarray(self.reference + np.round(3600 * HOURS[units] * values).astype("timedelta64[s]"))

    def past(self, item: Field) -> tuple[np.ndarray, np.ndarray] | None:
        """Times and values (time, *station) of the same quantity up to now, where it is an input."""
        for source in self.surrogate.manifest.inputs:
            same = source.standard_name == item.standard_name if item.standard_name else item.name in source.name
            if source.role == "history" and same and source.units == item.units and source.axes[1:] == space_of(item):
                axis = source.axes[0]
                before = axis.coordinates - (axis.stop if axis.stop > 0 else 0.0)
                return self._dated(before, axis.units), self.inputs[source.name][0]
        return None

    def panels(self) -> list[Draw]:
        """Every field with axes: inputs, then outputs with their bands."""
        told = [item for item in self.surrogate.manifest.outputs if is_series(item) and self.past(item) is not None]
        inputs = [
            draw
            for item in self.surrogate.manifest.inputs
            if item.axes and not (told and item.role == "history")
            for draw in self._input(item)
        ]
        outputs = [draw for item in self.surrogate.manifest.outputs for draw in self.output(item)]
        return [*inputs, *outputs]

    def _input(self, item: Field) -> list[Draw]:
        values, title = self.inputs[item.name][0], f"{item.name} (input){panels.unit_text(item.units)}"
        if len(item.axes) == 2:
            return [partial(self._image, item=item, values=values, title=title, plain="viridis")]
        if len(item.axes) == 1:
            return [partial(_line, axis=item.axes[0], mean=values, ends=None, title=title)]
        return []

    def output(self, item: Field) -> list[Draw]:
        """The panels of one output field."""
        space = space_of(item)
        leads = len(axes_of(self.surrogate, item, self.lead_times)) > len(space)
        if is_series(item):
            return self._fans(item) if leads else self._line(item, None) if space else []
        chosen = self._chosen_leads() if leads else [None]
        if len(space) == 1:
            return [draw for lead in chosen for draw in self._line(item, lead)]
        return [draw for lead in chosen for draw in self._images(item, lead)] if len(space) == 2 else []

    def _chosen_leads(self) -> list[int | None]:
        count = len(self.leads)
        return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, MOST_LEADS)).round().astype(int))]

    def mean(self, item: Field, lead: int | None) -> np.ndarray:
        """The mean at one lead time."""
        values = self.answer.predictions[item.name].mean[0]
        return values if lead is None else np.asarray(values[lead])

    def ends(self, item: Field, lead: int | None) -> Ends | None:
        """The band at one lead time; None where none is claimed."""
        band = self.answer.bands[item.name]
        if band is None or not self.inside:
            return None
        return (band.lower[0], band.upper[0]) if lead is None else (band.lower[0][lead], band.upper[0][lead])

    def _title(self, item: Field, lead: int | None) -> str:
        when = "" if lead is None else f", {self.moment(lead)}"
        return f"{item.name.replace('_', ' ')}{panels.unit_text(item.units)}{when}"

    def _line(self, item: Field, lead: int | None) -> list[Draw]:
        axis, title = space_of(item)[0], self._title(item, lead)
        return [partial(_line, axis=axis, mean=self.mean(item, lead), ends=self.ends(item, lead), title=title)]

    def _images(self, item: Field, lead: int | None) -> list[Draw]:
        values, ends = self.mean(item, lead), self.ends(item, lead)
        found: list[Draw] = [
            partial(self._image, item=item, values=values, title=self._title(item, lead), plain="magma")
        ]
        if ends is not None and lead is None:
            half = Map(*_halves(item, ends))
            limits = float(half.values.min()), float(half.values.max())
            title = SECOND_TITLE.format(level=self.answer.question.level)
            found.append(partial(_width, half=half, limits=limits, title=title + panels.unit_text(item.units)))
        return found

    def _image(self, axes: Axes, item: Field, values: np.ndarray, title: str, plain: str) -> None:
        shown = panels.upright(space_of(item), values)
        axes.set_title(title, fontsize=10)
        if self._is_ground(item):
            panels.draw_ground(axes, shown)
        elif self.ground is not None and self._is_water(item):
            panels.draw_water(axes, shown, self.ground, self._deepest(item))
        else:
            panels.draw_image(axes, shown, *panels.colours_of(item, self._all(item, values), plain))

    def _is_ground(self, item: Field) -> bool:
        return item.standard_name == "surface_altitude" or item.name == "elevation"

    def _is_water(self, item: Field) -> bool:
        return "depth" in item.name and self.ground is not None and self.ground.values.shape == item.shape[-2:]

    def _deepest(self, item: Field) -> float:
        return float(self.answer.predictions[item.name].mean[0].max())

    def _all(self, item: Field, values: np.ndarray) -> np.ndarray:
        """Every value that shares the colours: of an output, all lead times; an input may bear the same name."""
        return self.answer.predictions[item.name].mean[0] if item in self.surrogate.manifest.outputs else values

    def _fans(self, item: Field) -> list[Draw]:
        """One fan per station, or one."""
        space = space_of(item)
        labels = space[0].labels if space else ("",)
        return [partial(self._fan, item=item, place=place, label=label) for place, label in enumerate(labels)]

    def _fan(self, axes: Axes, item: Field, place: int, label: str) -> None:
        def at(values: np.ndarray) -> np.ndarray:
            return values[:, place] if space_of(item) else values

        law = self.answer.distributions[item.name].quantiles if self.inside else {}
        past = self.past(item)
        before = None if past is None else (past[0], at(past[1]))
        panels.draw_fan(axes, self.times, at(self.mean(item, None)), {p: at(v[0]) for p, v in law.items()}, before)
        axes.set_title(f"{label} {item.name.replace('_', ' ')}{panels.unit_text(item.units)}".strip(), fontsize=10)
        known = self.surrogate.lead_times
        if self.reference is None and known is not None:
            axes.set_xlabel(f"lead time{panels.unit_text(known.units)}")
        if place == 0:
            axes.legend(fontsize=7, loc="best")

    def films(self, item: Field) -> list[Film]:
        """The moving panels of one output field."""
        if len(space_of(item)) == 1:
            return [partial(self._moving_line, item=item)]
        widths = [] if self.ends(item, 0) is None else [partial(self._moving_width, item=item)]
        return [partial(self._moving_image, item=item), *widths]

    def _moving_line(self, axes: Axes, item: Field) -> Update:
        ends = self.ends(item, None)
        shown = self.mean(item, None) if ends is None else np.stack(ends)
        margin = 0.05 * float(np.ptp(shown)) or 1.0
        limits = float(shown.min()) - margin, float(shown.max()) + margin

        def update(index: int) -> None:
            axes.clear()
            _line(axes, space_of(item)[0], self.mean(item, index), self.ends(item, index), self._title(item, None))
            axes.set_ylim(*limits)

        update(0)
        return update

    def _moving_image(self, axes: Axes, item: Field) -> Update:
        water = self._is_water(item)
        axes.set_title(self._title(item, None), fontsize=10)
        first = panels.upright(space_of(item), self.mean(item, 0))
        if water and self.ground is not None:
            image = panels.draw_water(axes, first, self.ground, self._deepest(item))
        else:
            image = panels.draw_image(axes, first, *panels.colours_of(item, self.mean(item, None), "magma"))

        def update(index: int) -> None:
            values = panels.upright(space_of(item), self.mean(item, index)).values
            image.set_data(panels.wet(values) if water else values)

        return update

    def _moving_width(self, axes: Axes, item: Field) -> Update:
        halves = [Map(*_halves(item, ends)) for k in range(len(self.leads)) if (ends := self.ends(item, k)) is not None]
        limits = min(float(h.values.min()) for h in halves), max(float(h.values.max()) for h in halves)
        title = SECOND_TITLE.format(level=self.answer.question.level) + panels.unit_text(item.units)
        axes.set_title(title, fontsize=10)
        image = panels.draw_image(axes, halves[0], "cividis", limits)
        return lambda index: image.set_data(halves[index].values)


def _halves(item: Field, ends: Ends) -> tuple[np.ndarray, Axis, Axis]:
    shown = panels.upright(space_of(item), (ends[1] - ends[0]) / 2)
    return shown.values, shown.across, shown.up


def _line(axes: Axes, axis: Axis, mean: np.ndarray, ends: Ends | None, title: str) -> None:
    panels.draw_line(axes, axis, mean, ends)
    axes.set_title(title, fontsize=10)


def _width(axes: Axes, half: Map, limits: tuple[float, float], title: str) -> None:
    panels.draw_image(axes, half, "cividis", limits)
    axes.set_title(title, fontsize=10)
