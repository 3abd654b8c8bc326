"""POST /v1/models/{name}/forecast: initial state or history and forcing → frames at lead times."""

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from api.encodings import frames as binary
from api.encodings import json, netcdf, pictures
from api.encodings.trajectory import assemble, axes_of
from api.errors import problem_document
from api.routes import answers, requests
from api.routes.predict import require_one_sample
from api.schemas import ForecastOptions, parse_options
from api.service import visit_of
from api.telemetry import FRAMES, MODELS
from models.contract import Costs, Verdict, Wish, settle
from models.errors import SurrogateError, UnknownOption
from models.forecast import Forecast, Frame, Summary, choose_lead_times, lead_times_of
from models.surrogate import Answer, Clock, Surrogate
from models.ticket import current

router = APIRouter()
LINES = "application/x-ndjson"
RESPONSES = (json.MEDIA_TYPE, LINES, binary.MEDIA_TYPE, pictures.MEDIA_TYPE, netcdf.MEDIA_TYPE, netcdf.ALSO_ACCEPTED)


@dataclass(frozen=True)
class Asked:
    """A checked request: what to compute and how to write it."""

    surrogate: Surrogate
    inputs: Mapping[str, np.ndarray]
    forecast: Forecast
    options: ForecastOptions
    batched: bool
    head: Mapping[str, Any]
    wish: Wish | None
    costs: Costs
    facts: dict[str, Any]

    def writer(self, verdicts: tuple[Verdict, ...] = ()) -> answers.Writer:
        """Writes the arrays, and the verdicts where there are any."""
        kept = answers.Kept(self.wish, verdicts) if verdicts else answers.ANY
        return answers.Writer(self.options, self.batched, self.forecast.validity, kept)

    def settled(self, answer: Answer) -> tuple[Answer, tuple[Verdict, ...]]:
        """The whole forecast as the tolerance contract leaves it.

        Raises ToleranceNotMet.
        """
        if self.wish is None:
            return answer, ()
        forecast = self.forecast
        work = partial(
            settle, self.surrogate, forecast.inputs, answer, self.wish, self.costs, forecast.clock, forecast.lead_times
        )
        return MODELS.settled(self.surrogate.manifest.name, work, self.facts)

    def axes(self, whole: bool) -> answers.Axes:
        """Axes of every output in one frame, or in the whole forecast."""
        timed = {item.name for item in self.forecast.timed_fields}
        found = {}
        for item in self.surrogate.manifest.outputs:
            lead_times = self.forecast.lead_times if item.name in timed else None
            axes = axes_of(self.surrogate, item, lead_times)
            found[item.name] = axes if whole or item.name not in timed else axes[1:]
        return found


@router.post("/models/{name}/forecast")
@router.post("/models/{name}/versions/{version}/forecast")
async def forecast(request: Request, name: str, version: str | None = None) -> Response:
    """Frames at lead times with bands and statements; JSON, NDJSON or binary as computed, NetCDF or PNG by Accept."""
    surrogate = requests.surrogate_of(request, name, version)
    wanted = requests.accepted(request, RESPONSES)
    visit = requests.admit(request, surrogate)
    asked = await _read(request, surrogate)
    if wanted == pictures.MEDIA_TYPE:
        require_one_sample(asked.inputs)
    streamed = wanted == LINES or (wanted == json.MEDIA_TYPE and asked.options.stream)
    if asked.wish is not None and streamed and asked.wish.on_miss != "flag":
        expected = "flag in a stream: its frames have left before the verdict is known"
        raise UnknownOption("on_miss", expected, f"'{asked.wish.on_miss}'")
    requests.require_verdict_fits(asked.wish, json.MEDIA_TYPE if streamed else wanted)
    if streamed:
        return _streamed(request, asked, LINES, lambda document: json.dump(document) + b"\n")
    if wanted == binary.MEDIA_TYPE:
        return _streamed(request, asked, binary.MEDIA_TYPE, binary.encode)
    if wanted == json.MEDIA_TYPE:
        document = await visit.call(partial(_document, asked))
        visit.conclude(asked.forecast.clock.route)
        return requests.timed_response(document, asked.forecast.clock)
    frames, summary = await visit.call(partial(_whole, asked.forecast))
    visit.conclude(summary.route)
    parts = (surrogate, dict(asked.inputs), asked.forecast, frames, summary)
    if wanted == pictures.MEDIA_TYPE:
        picture = await visit.off_loop(partial(pictures.encode_forecast, *parts))
        return Response(picture, media_type=pictures.MEDIA_TYPE)
    members = "members" in asked.options.include
    work = partial(netcdf.encode_forecast, *parts, str(asked.head["id"]), members)
    return Response(await visit.in_file_thread(work), media_type=netcdf.MEDIA_TYPE)


async def _read(request: Request, surrogate: Surrogate) -> Asked:
    known = lead_times_of(surrogate)
    visit = visit_of(request)
    clock = Clock(visit.started)
    settings = visit.service.settings
    body = await requests.read_document(request)
    fields = tuple(item for item in surrogate.manifest.inputs if item.name != known.input)
    inputs, batched = requests.take_arrays(body, "inputs", fields, settings.max_batch)
    options = parse_options(ForecastOptions, body)
    times = choose_lead_times(known, options.lead_times, options.steps, settings.max_frames)
    frames = len(times) if known.input is not None else 1
    requests.check_answer_size(request, surrogate, len(next(iter(inputs.values()))), frames)
    question = options.question(surrogate)
    wish = options.wish(surrogate, question)
    clock.mark("decode")
    found = await visit.off_loop(lambda: Forecast(surrogate, inputs, times, question, clock))
    MODELS.judge(surrogate.manifest.name, found.validity)
    visit.facts["elements_in"] = sum(values.size for values in inputs.values())
    head, costs = requests.head(surrogate), visit.service.costs
    return Asked(surrogate, inputs, found, options, batched, head, wish, costs, visit.facts)


def _whole(forecast: Forecast) -> tuple[list[Frame], Summary]:
    frames = list(_counted(forecast))
    return frames, forecast.summary()


def _counted(forecast: Forecast) -> Iterator[Frame]:
    for frame in forecast.frames():
        current().check()
        name = forecast.surrogate.manifest.name
        FRAMES.labels(name).inc()
        MODELS.computed(name, (prediction.members for prediction in frame.predictions.values()))
        for statements in frame.statements:
            MODELS.stated(name, statements)
        yield frame


def _times(asked: Asked) -> dict[str, Any]:
    lead_times = asked.forecast.lead_times
    units = lead_times_of(asked.surrogate).units
    valid = answers.valid_times(asked.surrogate, dict(asked.inputs), lead_times, asked.batched)
    return {"lead_times": {"units": units, "data": lead_times.tolist()}, **valid}


def _document(asked: Asked) -> dict[str, Any]:
    answer, verdicts = asked.settled(assemble(asked.forecast, *_whole(asked.forecast)))
    document = answers.document(asked.surrogate, answer, asked.axes(True), asked.writer(verdicts))
    return {**document, **asked.head, **_times(asked)}


def _streamed(request: Request, asked: Asked, media_type: str, write: Callable[[Any], bytes]) -> Response:
    """Records as they are computed, or a problem where one fails; for a client that goes away no further one is computed."""

    async def records() -> AsyncIterator[bytes]:
        documents = _records(asked)
        try:
            while True:
                document = await visit_of(request).call(partial(next, documents, None))
                if document is None:
                    visit_of(request).conclude(asked.forecast.clock.route)
                    return
                yield write(document)
                if await request.is_disconnected():
                    return
        except SurrogateError as error:  # while a frame was computed, or while the client took the one before
            yield write({"problem": problem_document(error)})
        finally:
            documents.close()

    return StreamingResponse(records(), media_type=media_type)


def _records(asked: Asked) -> Generator[dict[str, Any]]:
    """Header, one document per frame, summary."""
    writer, axes, kept = asked.writer(), asked.axes(False), list[Frame]()
    shown = {
        item.name: {"dims": [a.name for a in axes[item.name]], "units": item.units}
        for item in asked.surrogate.manifest.outputs
    }
    yield {**asked.head, **_times(asked), "fields": shown, **writer.validity(asked.forecast.validity)}
    for index, frame in enumerate(_counted(asked.forecast)):
        kept += [frame] if asked.wish is not None else []
        stamp = answers.valid_times(asked.surrogate, dict(asked.inputs), np.array([frame.lead_time]), asked.batched)
        yield {
            "frame": index, "lead_time": frame.lead_time, **stamp,
            **writer.fields(asked.surrogate, axes, frame.predictions, frame.bands, frame.distributions),
            **writer.statements(frame.statements),
        }  # fmt: skip
    summary = asked.forecast.summary()
    verdicts = asked.settled(assemble(asked.forecast, kept, summary))[1] if kept else ()
    yield {
        "summary": True,
        **writer.fields(asked.surrogate, axes, summary.predictions, summary.bands, summary.distributions),
        **writer.statements(summary.statements), **asked.writer(verdicts).contract(),
        "route": [step.document() for step in asked.forecast.clock.route], **answers.provenance(asked.surrogate),
    }  # fmt: skip
