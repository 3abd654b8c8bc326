"""The tolerance contract over HTTP: verdict, ledger, refusals, streams, odd requests, and the words of every protocol."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from api.client import Problem, connect
from api.errors import STATUS, problem_document
from api.protocols.open_inference import failures as open_inference
from api.protocols.tesseract import failures as tesseract
from api.protocols.umbridge import failures as umbridge
from models.errors import ToleranceNotMet
from tests.api.test_errors import assert_problem
from tests.served_examples import DOCS

DARCY, BURGERS, WEATHER = (f"/v1/models/{name}" for name in ("darcy", "burgers", "site_weather"))
ACCOUNTED = (
    0.9  # of the time in the service, by the ledger; the rest is what comes before the request and after the body
)
TOGETHER, REQUESTS = 6, 18


def example(client: httpx.Client, url: str, call: str = "predict", **options: object) -> dict:
    body = client.get(f"{url}/example", params={"seed": 7, "encoding": "base64", "call": call}).json()
    return body | {"encoding": "base64"} | options


def wish(norm: str, value: float, quantity: str = "pressure", **more: object) -> dict:
    return {"quantity": quantity, "norm": norm, "value": value, **more}


def entries(document: dict) -> list[dict]:
    return [step for step in document["route"] if "iterations" in step]


def test_a_tolerance_that_is_met_costs_one_look(client):
    answer = client.post(f"{DARCY}/predict", json=example(client, DARCY, tolerance=wish("energy", 0.01))).json()
    contract = answer["contract"]
    assert contract["met"] and contract["outcome"] == "accepted" and contract["kind"] == "guaranteed"
    assert contract["statement"]["value"] <= contract["tolerance"]["value"] == 0.01
    assert [step["step"] for step in entries(answer)] == ["accept"]
    assert answer["uncertainty"]["pressure"]["lower"] is not None


def test_a_corrected_answer_withdraws_what_was_said_about_the_surrogates(client):
    body = example(client, DARCY, tolerance=wish("energy", 0.0031), on_miss="correct", accept=["guaranteed"])
    answer = client.post(f"{DARCY}/predict", json=body).json()
    assert answer["contract"]["outcome"] == "corrected" and answer["contract"]["met"]
    assert [step["step"] for step in entries(answer)] == ["accept", "correct"]
    assert answer["uncertainty"]["pressure"]["lower"] is None
    assert answer["uncertainty"]["pressure"]["standard_deviation"] is None
    assert "statistical" not in {s["kind"] for s in answer["statements"]}
    last = entries(answer)[-1]
    assert last["value_after"] <= 0.0031 < last["value_before"]


def test_a_refusal_has_its_code_the_statements_the_ledger_and_what_would_do(client):
    body = example(client, DARCY, tolerance=wish("energy", 0.0025), on_miss="correct", accept=["guaranteed"])
    problem = assert_problem(client.post(f"{DARCY}/predict", json=body), 422, "tolerance-not-met", "tolerance")
    assert problem["contract"]["outcome"] == "refused"
    assert problem["contract"]["sufficient"]["tolerance"] == problem["contract"]["statement"]["value"] > 0.0025
    assert problem["contract"]["sufficient"]["accept"] == ["guaranteed_vs_discrete"]
    assert problem["contract"]["sufficient"]["on_miss"] == ["solve"]
    assert problem["statements"] and entries(problem)


def test_a_deadline_too_short_for_the_solver_is_a_refusal_in_time(client):
    body = example(client, "/v1/models/flood_128", "forecast", tolerance=wish("sup", 1e-6, "depth"), on_miss="solve")
    url = "/v1/models/flood_128/forecast"
    assert client.post(url, json=body).json()["contract"]["outcome"] == "solved"
    answer = client.post(url, json=body, headers={"X-Request-Timeout": "0.12"})
    if answer.status_code == 504:
        pytest.skip("this machine is too slow for the surrogate itself to answer within the deadline")
    problem = assert_problem(answer, 422, "tolerance-not-met", "tolerance")
    assert problem["contract"]["sufficient"]["milliseconds"] > 0


def test_a_batch_has_a_verdict_per_sample(client):
    body = example(client, DARCY, tolerance=wish("energy", 0.01))
    single = body["inputs"]["permeability"]
    rows = np.frombuffer(base64.b64decode(single["data"]["buffer"]), single["dtype"]).reshape(85, 85)
    body["inputs"]["permeability"] = [rows.tolist(), rows.T.tolist()]
    answer = client.post(f"{DARCY}/predict", json=body).json()
    assert [contract["met"] for contract in answer["contract"]] == [True, True]
    assert [step["sample"] for step in entries(answer)] == [0, 1]


def test_a_forecast_is_judged_at_every_lead_time(client):
    body = example(
        client, BURGERS, "forecast", lead_times=[0.25, 0.5, 1.0],
        tolerance=wish("primitive_oscillation", 1.0, "velocity"), on_miss="refuse",
    )  # fmt: skip
    contract = client.post(f"{BURGERS}/forecast", json=body).json()["contract"]
    assert contract["met"] and contract["statement"]["lead_time"] in (0.25, 0.5, 1.0)
    body["tolerance"]["value"] = 1e-9
    assert_problem(client.post(f"{BURGERS}/forecast", json=body), 422, "tolerance-not-met", "tolerance")


def test_a_stream_ends_with_the_verdict_and_can_only_be_flagged(client):
    body = example(client, BURGERS, "forecast", steps=3, tolerance=wish("sup", 1e-9, "velocity"))
    lines = client.post(f"{BURGERS}/forecast", json=body, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    head, *frames, summary = [json.loads(line) for line in lines]
    assert "contract" not in head and not any("contract" in frame for frame in frames)
    assert summary["contract"]["met"] is False and summary["contract"]["outcome"] == "flagged"
    for on_miss in ("solve", "refuse"):
        refused = client.post(f"{BURGERS}/forecast", json=body | {"stream": True, "on_miss": on_miss})
        assert_problem(refused, 422, "unknown-option", "on_miss")


BAD = {
    "value zero": ({"tolerance": wish("energy", 0)}, "tolerance.value"),
    "value negative": ({"tolerance": wish("energy", -1.0)}, "tolerance.value"),
    "value a string": ({"tolerance": wish("energy", "small")}, "tolerance.value"),
    "value missing": ({"tolerance": {"quantity": "pressure", "norm": "energy"}}, "tolerance.value"),
    "unknown key": ({"tolerance": wish("energy", 1.0, unit="1")}, "tolerance.unit"),
    "unknown quantity": ({"tolerance": wish("energy", 1.0, "entropy")}, "tolerance.quantity"),
    "unknown norm": ({"tolerance": wish("h1", 1.0)}, "tolerance.norm"),
    "no relative statement": ({"tolerance": wish("sup", 1.0, relative=True)}, "tolerance.relative"),
    "unknown on_miss": ({"tolerance": wish("energy", 1.0), "on_miss": "pray"}, "on_miss"),
    "unknown kind": ({"tolerance": wish("energy", 1.0), "accept": ["certain"]}, "accept"),
    "the kind that says nothing": ({"tolerance": wish("energy", 1.0), "accept": ["none"]}, "accept"),
    "no kind": ({"tolerance": wish("energy", 1.0), "accept": []}, "accept"),
    "a kind the norm never has": ({"tolerance": wish("energy", 1.0), "accept": ["statistical"]}, "accept"),
    "a band of a solved answer": ({"tolerance": wish("band", 1.0), "on_miss": "solve"}, "on_miss"),
    "on_miss without a tolerance": ({"on_miss": "solve"}, "on_miss"),
    "accept without a tolerance": ({"accept": ["guaranteed"]}, "accept"),
    "not an object": ({"tolerance": 0.01}, "tolerance"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wish_that_nothing_could_meet_names_the_field_before_any_work(client, name):
    options, field = BAD[name]
    assert_problem(client.post(f"{DARCY}/predict", json=example(client, DARCY) | options), 422, "unknown-option", field)


def test_what_a_model_lacks_is_said_before_any_work(client):
    body = example(client, WEATHER, tolerance=wish("sup", 3.0, "wind_speed"))
    for on_miss, missing in (("solve", "no solver"), ("correct", "no corrector")):
        problem = assert_problem(
            client.post(f"{WEATHER}/predict", json=body | {"on_miss": on_miss}), 422, None, "on_miss"
        )
        assert missing in problem["expected"]


def test_only_json_carries_a_verdict(client):
    body = example(client, DARCY, tolerance=wish("energy", 1.0))
    for kind in ("application/x-npy", "image/png", "application/x-netcdf"):
        answer = client.post(f"{DARCY}/predict", json=body, headers={"Accept": kind})
        assert_problem(answer, 422, "unknown-option", "tolerance")


def test_the_ledger_adds_up_to_the_time_in_the_service_also_when_it_is_busy(client, server):
    """Against the service's own clock, which starts with the request's first byte and ends with the answer's last."""
    body = example(client, DARCY, tolerance=wish("energy", 0.0031), on_miss="solve", accept=["guaranteed"])

    def spent() -> float:
        lines = client.get("/metrics").text.splitlines()
        found = [
            line
            for line in lines
            if line.startswith("surrogate_inference_total_seconds_sum") and 'model="darcy"' in line
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if "/predict" in line)

    def ask(_: int) -> float:
        answer = httpx.post(f"{server}{DARCY}/predict", json=body, timeout=60).json()
        return sum(step["milliseconds"] for step in answer["route"]) / 1e3

    before = spent()
    with ThreadPoolExecutor(TOGETHER) as threads:
        ledgers = sum(threads.map(ask, range(REQUESTS)))
    total = spent() - before
    assert ACCOUNTED * total <= ledgers <= total


def test_a_refusal_is_never_a_fault_of_the_service_in_any_protocol():
    error = ToleranceNotMet("an error of at most 1", "guaranteed 2", "You may ask for 2.", {"contract": {"met": False}})
    assert STATUS[ToleranceNotMet] == 422
    assert problem_document(error)["contract"] == {"met": False}
    assert open_inference.status_of(error) == 400
    assert umbridge.refusal(error) == ("InvalidInput", 400)
    assert tesseract.fault(error)["ctx"]["got"] == "guaranteed 2"


def test_the_client_passes_the_wish_on_and_shows_the_verdict(server):
    with connect(server) as zoo:
        darcy = zoo["darcy"]
        medium = darcy.example(7)
        answer = darcy.predict(medium, tolerance=wish("energy", 0.0031), on_miss="correct", accept=["guaranteed"])
        assert answer.attrs["contract"]["outcome"] == "corrected"
        assert np.isnan(answer["pressure_lower"]).all() and np.isnan(answer["pressure_standard_deviation"]).all()
        with pytest.raises(Problem, match="tolerance-not-met"):
            darcy.predict(medium, tolerance=wish("energy", 1e-6), on_miss="refuse")


def test_the_page_shows_what_the_service_says(client):
    page = (DOCS / "tolerance.md").read_text(encoding="utf-8")
    asked, shown, refused = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL))
    answer = client.post(f"{DARCY}/predict", json=example(client, DARCY) | asked).json()
    for key in ("met", "outcome", "kind", "on_miss", "accept", "tolerance"):
        assert answer["contract"][key] == shown["contract"][key], key
    assert answer["contract"]["statement"]["value"] == pytest.approx(shown["contract"]["statement"]["value"], rel=2e-3)
    assert [step["step"] for step in answer["route"]] == [step["step"] for step in shown["route"]]
    asked["on_miss"] = "correct"
    asked["tolerance"]["value"] = 0.0025
    problem = client.post(f"{DARCY}/predict", json=example(client, DARCY) | asked).json()
    assert (
        problem["code"] == refused["code"]
        and problem["contract"]["sufficient"].keys() == refused["contract"]["sufficient"].keys()
    )
