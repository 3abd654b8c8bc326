"""The start page before the small surrogates, in the wire format of the service: python -m tests.api.page_server PORT."""

import sys
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response

from api import pages
from api.encodings import json
from api.encodings.trajectory import assemble, axes_of
from models.surrogate import Question
from tests import small_surrogates as small

KINDS = {
    "decay": (small.trajectory, small.trajectory_inputs),
    "sites": (small.stations, small.station_inputs),
    "pond": (small.terrain, small.terrain_inputs),
}
REFERENCE = "2025-11-24T16:00:00Z"


def document(surrogate) -> dict[str, Any]:
    """A catalogue entry."""
    known = dict(surrogate.manifest.document)
    return {key: known[key] for key in ("name", "title", "inputs", "outputs", "lead_times")}


def reply(found: Any) -> Response:
    return Response(json.dump(found), media_type="application/json")


def create_app() -> FastAPI:
    app = FastAPI()
    pages.install(app)

    @app.get("/v1/models")
    def models():
        return reply({"models": [document(make()) for make, _ in KINDS.values()]})

    @app.get("/v1/models/{name}")
    def model(name: str):
        return reply(document(KINDS[name][0]()))

    @app.get("/v1/models/{name}/example")
    def example(name: str, seed: int):
        make, draw = KINDS[name]
        inputs, fields = draw(), make().manifest.inputs
        fields = [field for field in fields if field.role != "lead_time"]
        shown = {f.name: json.encode_array(inputs[f.name][0], "base64") for f in fields if f.axes}
        shown |= {
            f.name: REFERENCE if f.role == "reference_time" else float(inputs[f.name][0]) for f in fields if not f.axes
        }
        first = shown[fields[0].name]
        if seed == 1:
            first |= json.encode_array(inputs[fields[0].name][0] + small.OUTSIDE, "base64")
        return reply({"inputs": shown})

    @app.post("/v1/models/{name}/forecast")
    async def forecast(name: str, request: Request):
        make, draw = KINDS[name]
        surrogate, inputs, body = make(), draw(), await request.json()
        for field in surrogate.manifest.inputs:
            given = body["inputs"].get(field.name)
            if field.axes:
                inputs[field.name], _ = json.decode_array(field, field.name, given, 1)
            elif isinstance(given, int | float):
                inputs[field.name] = np.array([given], dtype=np.float64)
        question = Question(body["level"], quantiles=tuple(body["quantiles"]), thresholds=body["thresholds"])
        return reply(answered(surrogate, inputs, question))

    return app


def answered(surrogate, inputs, question: Question) -> dict[str, Any]:
    """The document of a forecast."""
    found, frames, summary = small.forecast_of(surrogate, inputs, question)
    answer = assemble(found, frames, summary)
    inside = answer.validity[0].in_domain
    outputs, uncertainty = {}, {}

    def wire(values):
        return json.encode_array(values[0].astype(np.float32), "base64") if inside else None

    for item in surrogate.manifest.outputs:
        prediction, band, law = (part[item.name] for part in (answer.predictions, answer.bands, answer.distributions))
        dims = [axis.name for axis in axes_of(surrogate, item, found.lead_times)]
        if item.name in summary.predictions:
            dims = [axis.name for axis in item.axes]
        outputs[item.name] = {
            "dims": dims,
            "units": item.units,
            "data": json.encode_array(prediction.mean[0], "base64"),
        }
        uncertainty[item.name] = {
            "standard_deviation": json.encode_array(prediction.deviation[0].astype(np.float32), "base64"),
            "level": question.level, "lower": wire(band.lower), "upper": wire(band.upper),
            "quantiles": {f"{p:g}": wire(v) for p, v in law.quantiles.items()},
            "exceedance": [
                {"threshold": t, "units": item.units, "probability": wire(v)} for t, v in law.exceedance.items()
            ],
        }  # fmt: skip
    lead = surrogate.lead_times
    dated = any(field.role == "reference_time" for field in surrogate.manifest.inputs)
    valid = [f"2025-11-24T{16 + int(h):02d}:00:00Z" for h in found.lead_times] if dated else None
    return {
        "lead_times": {"units": lead.units, "data": found.lead_times}, "valid_times": valid,
        "outputs": outputs, "uncertainty": uncertainty,
        "statements": [s.document() for s in answer.statements[0]], "validity": answer.validity[0].document(),
        "route": [{"step": s.step, "milliseconds": s.milliseconds} for s in answer.route],
    }  # fmt: skip


if __name__ == "__main__":
    uvicorn.run(create_app(), port=int(sys.argv[1]), log_level="warning")
