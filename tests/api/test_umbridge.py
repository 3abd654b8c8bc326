"""UM-Bridge with its stock client, the points of its conformance suite, and an inversion with gradients."""

import asyncio
import json
import re
import shutil
import socket
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import umbridge
from scipy.stats import chi2
from starlette.applications import Starlette
from starlette.routing import Route

from api.admission import Gate
from api.errors import STATUS
from api.protocols import umbridge as face
from api.protocols.ensemble import require_finite
from api.protocols.umbridge.failures import handlers, refusal
from api.service import Visit
from docs.examples import umbridge_mcmc as inversion
from models.errors import Overloaded
from models.repository import SHIPPED
from tests.conftest import serving
from tests.served_examples import example, numbers, predicted, read, run_page, skeleton

FINE, COARSE = 1e-6, 2e-3  # single precision on both sides; central differences with steps of 2 % (their error: h²)
ADJOINT = 1e-5  # single precision, relative to the sizes of both sides
SIZE = 85 * 85
MEDIUM = np.where(np.arange(SIZE) % 7 < 3, 12.0, 3.0)
KINDS = {"ModelNotFound", "UnsupportedFeature", "InvalidInput", "InvalidOutput", "Unavailable", "Timeout"}


@pytest.fixture
def darcy_model(server):
    return umbridge.HTTPModel(f"{server}/umbridge", "darcy")


def smooth_medium() -> np.ndarray:
    x = np.linspace(0.0, 1.0, 85)
    return (6.0 + 2.0 * np.outer(np.sin(5 * x), np.cos(3 * x))).ravel()


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    """The message of an error that has exactly the protocol's form."""
    assert answer.status_code == status, answer.text[:300]
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"type", "message"}
    assert body["error"]["type"] == kind and isinstance(body["error"]["message"], str)
    return body["error"]["message"]


def test_every_model_and_its_band_are_listed(client, server):
    served = [model["name"] for model in client.get("/v1/models").json()["models"]]
    listed = umbridge.supported_models(f"{server}/umbridge")
    assert [name for name in listed if ":" not in name] == served
    assert {name.removesuffix(":half_width") for name in listed if ":" in name} == set(served)
    assert client.get("/umbridge/Info").json()["protocolVersion"] == 1.0


def test_sizes_and_support_are_those_of_the_fields(client, server):
    for entry in client.get("/v1/models").json()["models"]:
        described = client.get(f"/v1/models/{entry['name']}").json()
        sizes = {
            kind: [int(np.prod([axis["points"] for axis in item["axes"]])) for item in described[kind]]
            for kind in ("inputs", "outputs")
        }
        model = umbridge.HTTPModel(f"{server}/umbridge", entry["name"])
        assert model.get_input_sizes() == sizes["inputs"] and model.get_output_sizes() == sizes["outputs"]
        assert model.supports_evaluate() and not model.supports_apply_hessian()
        assert model.supports_gradient() == ("vjp" in described["derivatives"])
        assert model.supports_apply_jacobian() == ("jvp" in described["derivatives"])
        band = umbridge.HTTPModel(f"{server}/umbridge", entry["name"] + ":half_width")
        assert band.supports_evaluate() and not band.supports_gradient() and not band.supports_apply_jacobian()


@pytest.mark.parametrize("name", [folder.name for folder in sorted(SHIPPED.iterdir()) if folder.is_dir()])
def test_evaluate_gives_the_numbers_of_v1(client, server, name):
    document, arrays = example(client, name)
    answer = predicted(client, name, document)
    vectors = [values.ravel().tolist() for values in arrays.values()]
    found = umbridge.HTTPModel(f"{server}/umbridge", name)(vectors)
    for vector, field in zip(found, answer["outputs"].values(), strict=True):
        expected = read(field["data"]).ravel()
        np.testing.assert_allclose(vector, expected, rtol=FINE, atol=FINE * np.abs(expected).max())


def test_half_widths_are_those_of_the_band_at_the_level_asked_for(client, server):
    document, arrays = example(client, "darcy")
    vectors = [values.ravel().tolist() for values in arrays.values()]
    model = umbridge.HTTPModel(f"{server}/umbridge", "darcy:half_width")
    widths = {}
    for level in (0.5, 0.9):
        shown = predicted(client, "darcy", document, level=level)["uncertainty"]["pressure"]
        widths[level] = np.array(model(vectors, {"level": level})[0])
        expected = (read(shown["upper"]) - read(shown["lower"])).ravel() / 2.0
        # the difference of two numbers in single precision has the rounding of the numbers
        np.testing.assert_allclose(widths[level], expected, atol=FINE * np.abs(read(shown["upper"])).max())
    assert widths[0.9].max() > widths[0.5].max() > 0.0
    np.testing.assert_array_equal(model(vectors)[0], widths[0.9])


def test_no_half_width_is_given_out_of_domain(server):
    model = umbridge.HTTPModel(f"{server}/umbridge", "darcy:half_width")
    with pytest.raises(Exception, match=r"InvalidInput.*outside.*No band is claimed"):
        model([[1.0] * SIZE])


def test_gradient_and_jacobian_agree_with_differences_and_each_other(darcy_model, generator):
    medium, direction = smooth_medium(), smooth_medium() * np.cos(np.arange(SIZE) / SIZE)
    step, weights = 0.02, generator.standard_normal(SIZE) + 1.0
    ahead = np.array(darcy_model([(medium + step * direction).tolist()])[0])
    behind = np.array(darcy_model([(medium - step * direction).tolist()])[0])
    along = np.array(darcy_model.apply_jacobian(0, 0, [medium.tolist()], direction.tolist()))
    pulled = np.array(darcy_model.gradient(0, 0, [medium.tolist()], weights.tolist()))
    differences = (ahead - behind) / (2 * step)
    assert np.linalg.norm(along - differences) <= COARSE * np.linalg.norm(along)
    assert abs(pulled @ direction - weights @ along) <= ADJOINT * np.linalg.norm(weights) * np.linalg.norm(along)


def test_derivatives_of_several_inputs_and_outputs_are_told_apart(client, server, generator):
    """⟨w, J t⟩ = ⟨Jᵀw, t⟩ for every pair of a model with five inputs and three outputs."""
    _, arrays = example(client, "site_weather")
    vectors = [values.ravel().tolist() for values in arrays.values()]
    model = umbridge.HTTPModel(f"{server}/umbridge", "site_weather")
    sizes = model.get_output_sizes()
    seen = set()
    for out in range(3):
        weights = generator.standard_normal(sizes[out])
        for into in range(4):
            direction = generator.standard_normal(len(vectors[into]))
            along = np.array(model.apply_jacobian(out, into, vectors, direction.tolist()))
            pulled = np.array(model.gradient(out, into, vectors, weights.tolist()))
            scale = np.linalg.norm(weights) * np.linalg.norm(along) + np.linalg.norm(pulled) * np.linalg.norm(direction)
            assert abs(pulled @ direction - weights @ along) <= ADJOINT * scale
            seen.add(round(float(np.linalg.norm(pulled)), 9))
    assert len(seen) == 12
    with pytest.raises(Exception, match=r"InvalidInput.*reference_time"):
        model.gradient(0, 4, vectors, np.ones(sizes[0]).tolist())


def test_a_version_can_be_asked_for(darcy_model):
    assert darcy_model([MEDIUM.tolist()], {"version": "1"}) == darcy_model([MEDIUM.tolist()])
    with pytest.raises(Exception, match=r"ModelNotFound.*version"):
        darcy_model([MEDIUM.tolist()], {"version": "99"})


GOOD = {"name": "darcy", "input": [MEDIUM.tolist()], "outWrt": 0, "inWrt": 0, "sens": [0.0] * SIZE, "vec": [0.0] * SIZE}
SHORT, LONG, BAD = [1.0], [[1.0], [2.0]], {"levl": 0.9}
# every body has several faults; the first in the protocol's order is the one reported
ORDER = {
    "no JSON": ("Gradient", b"{", "InvalidInput", "JSON object"),
    "not an object": ("Gradient", b"[]", "InvalidInput", "JSON object"),
    "NaN is not JSON": ("Evaluate", b'{"name": "darcy", "input": [[NaN]]}', "InvalidInput", "JSON object"),
    "an empty body names no model": ("Gradient", b"", "ModelNotFound", "got 'nothing'"),
    "the name before the config": ("Gradient", {"name": "atlantis", "config": BAD}, "ModelNotFound", "atlantis"),
    "a name that is no text": ("Gradient", {"name": ["darcy"]}, "ModelNotFound", "darcy"),
    "support needs the name only": ("ApplyHessian", {"name": "darcy"}, "UnsupportedFeature", "ApplyHessian"),
    "support before the config": (
        "Gradient", {"name": "darcy:half_width", "config": BAD}, "UnsupportedFeature", "one of Evaluate"),
    "config before the input": ("Gradient", GOOD | {"config": BAD, "input": LONG}, "InvalidInput", "config.levl|'levl'"),
    "a config that is no object": ("Evaluate", GOOD | {"config": 3}, "InvalidInput", "an object, got int"),
    "a level that cannot be": ("Evaluate", GOOD | {"config": {"level": 1.0}}, "InvalidInput", r"\(0, 1\)"),
    "a level beyond the calibration": ("Evaluate", GOOD | {"config": {"level": 0.99999}}, "InvalidInput", "level"),
    "no input": ("Evaluate", {"name": "darcy"}, "InvalidInput", "'input'"),
    "an input that is no list of lists": ("Evaluate", GOOD | {"input": [1.0]}, "InvalidInput", "list of vectors"),
    "the count before the lengths": ("Gradient", GOOD | {"input": LONG, "outWrt": 5}, "InvalidInput", "1 vectors"),
    "the lengths before the indices": ("Gradient", GOOD | {"input": [SHORT], "outWrt": 5}, "InvalidInput", "7225 numbers"),
    "outWrt before the directions": ("Gradient", GOOD | {"outWrt": 1, "sens": SHORT}, "InvalidInput", "outWrt: .*from 0 to 0, got 1"),
    "inWrt before the directions": ("ApplyJacobian", GOOD | {"inWrt": -1, "vec": SHORT}, "InvalidInput", "inWrt: .*got -1"),
    "an index that is no integer": ("Gradient", GOOD | {"inWrt": True}, "InvalidInput", "index"),
    "the directions before the values": (
        "Gradient", GOOD | {"sens": SHORT, "input": [[-1.0] * SIZE]}, "InvalidInput", "7225 numbers"),
    "no vec": ("ApplyJacobian", {k: v for k, v in GOOD.items() if k != "vec"}, "InvalidInput", "'vec'"),
    "a text among the numbers": ("Evaluate", GOOD | {"input": [["a"] * SIZE]}, "InvalidInput", "numbers, got str"),
    "a boolean among the numbers": ("Evaluate", GOOD | {"input": [[True] * SIZE]}, "InvalidInput", "got bool"),
    "a null among the numbers": ("Evaluate", GOOD | {"input": [[None] * SIZE]}, "InvalidInput", "NoneType"),
    "values out of range": ("Evaluate", GOOD | {"input": [[-1.0] * SIZE]}, "InvalidInput", r"in \[0.001, 1000\]"),
    "a derivative beyond single precision": ("Gradient", GOOD | {"sens": [1e38] * SIZE}, "InvalidInput", "scale the direction"),
    "a direction beyond single precision": ("Gradient", GOOD | {"sens": [1e300] * SIZE}, "InvalidInput", "in size"),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDER)
@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}], ids=str)
def test_checks_come_in_the_order_of_the_protocol(client, case, headers):
    call, body, kind, words = ORDER[case]
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = refused(client.post(f"/umbridge/{call}", content=text, headers=headers), 400, kind)
    assert re.search(words, message), message


def test_replies_have_exactly_the_keys_of_the_protocol(client):
    expected = {
        "ModelInfo": "support", "InputSizes": "inputSizes", "OutputSizes": "outputSizes", "Evaluate": "output",
        "Gradient": "output", "ApplyJacobian": "output",
    }  # fmt: skip
    for call, key in expected.items():
        answer = client.post(f"/umbridge/{call}", content=json.dumps(GOOD).encode())
        assert answer.status_code == 200 and list(answer.json()) == [key], call
        assert answer.headers["content-type"] == "application/json"
    support = client.post("/umbridge/ModelInfo", json={"name": "darcy"}).json()["support"]
    assert list(support) == ["Evaluate", "Gradient", "ApplyJacobian", "ApplyHessian"]
    assert list(client.get("/umbridge/Info").json()) == ["protocolVersion", "models"]


def test_a_view_is_one_model_and_needs_no_name(client):
    assert client.get("/umbridge/darcy/Info").json()["models"] == ["darcy"]
    assert client.get("/umbridge/darcy:half_width/Info").json()["models"] == ["darcy:half_width"]
    assert client.post("/umbridge/darcy/InputSizes").json() == {"inputSizes": [SIZE]}
    nameless = {key: value for key, value in GOOD.items() if key != "name"}
    assert client.post("/umbridge/darcy/Evaluate", json=nameless).status_code == 200
    refused(client.post("/umbridge/darcy/ApplyHessian"), 400, "UnsupportedFeature")
    refused(client.post("/umbridge/darcy/Evaluate", json=GOOD | {"name": "burgers"}), 400, "ModelNotFound")
    refused(client.get("/umbridge/atlantis/Info"), 400, "ModelNotFound")
    refused(client.post("/umbridge/atlantis/Evaluate"), 400, "ModelNotFound")
    refused(client.post("/umbridge/atlantis:half_width/Evaluate"), 400, "ModelNotFound")


def test_shared_memory_and_other_paths_are_refused_in_the_form_of_the_protocol(client, server):
    for path in ("TestShMem", "EvaluateShMem", "darcy/EvaluateShMem", "", "Info/"):
        refused(client.post(f"/umbridge/{path}", json=GOOD), 404, "UnsupportedFeature")
    refused(client.get("/umbridge/Evaluate"), 405, "UnsupportedFeature")
    assert client.head("/umbridge/Info").status_code == 200


def test_a_client_that_asks_for_shared_memory_goes_on_without(server, capsys):
    model = umbridge.HTTPModel(f"{server}/umbridge", "darcy", use_shmem=True)
    assert not model.supports_shmem()
    assert len(model([MEDIUM.tolist()])[0]) == SIZE


def test_bodies_that_are_too_large_or_compressed(client):
    refused(client.post("/umbridge/Evaluate", content=b" " * (2 * 2**20 + 1)), 413, "InvalidInput")
    headers = {"Content-Encoding": "gzip"}
    refused(client.post("/umbridge/Evaluate", json=GOOD, headers=headers), 415, "InvalidInput")


def test_deadlines_end_in_a_timeout(client):
    headers = {"X-Request-Timeout": "0.000001"}
    for call in ("Evaluate", "Gradient", "ApplyJacobian"):
        refused(client.post(f"/umbridge/{call}", json=GOOD, headers=headers), 504, "Timeout")
    refused(client.post("/umbridge/Evaluate", json=GOOD, headers={"X-Request-Timeout": "soon"}), 400, "InvalidInput")


def test_admission_refuses_what_is_too_much_at_once_and_lets_go_of_what_has_left():
    with serving(SHIPPED, SURROGATE_MAX_WAITING_BYTES="65536") as address, httpx.Client(base_url=address) as client:
        for view in ("/umbridge", "/umbridge/darcy"):
            for _ in range(3):  # 36 kB each: a place that is not given back shows at once
                assert (
                    client.post(f"{view}/Evaluate", json={"name": "darcy", "input": GOOD["input"]}).status_code == 200
                )
            answer = client.post(f"{view}/Evaluate", json=GOOD)
            refused(answer, 503, "Unavailable")
            assert int(answer.headers["Retry-After"]) >= 1


def test_the_model_that_a_body_names_has_its_own_gate():
    with serving(SHIPPED, SURROGATE_MAX_WAITING="1") as address, httpx.Client(base_url=address) as client:
        port = int(address.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as slow:  # comes in, and keeps its body to itself
            slow.sendall(b"POST /umbridge/darcy/Evaluate HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n")
            ends = time.monotonic() + 10
            while client.post("/umbridge/darcy/InputSizes").status_code == 200:
                assert time.monotonic() < ends
            assert "for darcy" in refused(client.post("/umbridge/Evaluate", json=GOOD), 503, "Unavailable")


def test_moving_on_takes_a_place_at_the_model_and_gives_the_first_one_back():
    gates = {name: Gate(name, 1, 100) for name in ("/umbridge", "darcy")}
    settings = SimpleNamespace(max_body_bytes=100, request_seconds=1.0)
    service = SimpleNamespace(settings=settings, gate=gates.__getitem__)

    async def stay(taken: int) -> None:
        visit = Visit(service, {"headers": [(b"content-length", b"60")]}, None)
        visit.enter("/umbridge")
        gates["darcy"].requests += taken
        try:
            visit.move("darcy")
            assert (gates["/umbridge"].requests, gates["darcy"].requests, gates["darcy"].bytes) == (0, 1, 60)
        finally:
            gates["darcy"].requests -= taken
            visit.leave()

    asyncio.run(stay(0))
    with pytest.raises(Overloaded):
        asyncio.run(stay(1))
    assert all((gate.requests, gate.bytes) == (0, 0) for gate in gates.values())


def test_every_domain_error_has_a_type_and_a_status():
    for kind in STATUS:
        error = kind.__new__(kind)
        name, status = refusal(error)
        assert name in KINDS | {"Unauthorized"}
        assert status not in (200, 404, 422)


def test_crashes_and_answers_that_are_no_numbers_are_invalid_output():
    async def nan(request):
        require_finite("pressure", np.array([np.nan]))

    async def post(app: Starlette, path: str, method: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path)

    app = Starlette(routes=[Route("/nan", nan)], exception_handlers=handlers())
    assert "pressure" in refused(asyncio.run(post(app, "/nan", "GET")), 500, "InvalidOutput")
    # no service is there: a fault of ours, of which nothing is told
    message = refused(asyncio.run(post(face.application(), "/Evaluate", "POST")), 500, "InvalidOutput")
    assert "visit" not in message and "Traceback" not in message


def test_the_example_of_the_page_prints_what_it_says(server):
    printed, shown = run_page("umbridge.md", server)
    assert skeleton(printed) == skeleton(shown)
    assert numbers(printed) == pytest.approx(numbers(shown), rel=2e-3)


# the inversion: a short chain of the example

CHANCE = 1e-3  # of failing although all is well, for each statistical assertion
STEPS, KEPT = 200, 20  # KEPT: independent samples that a chain of so many steps is worth at the very least


@pytest.fixture(scope="module")
def inverted(server):
    generator = np.random.default_rng(7)
    truth = generator.standard_normal(len(inversion.WAVES))
    data = inversion.observe(truth, generator)
    posterior = inversion.Posterior(umbridge.HTTPModel(f"{server}/umbridge", "darcy"), data)
    mode, curvature = inversion.find_mode(posterior)
    return truth, posterior, mode, curvature


@pytest.mark.slow
def test_a_chain_with_served_gradients_recovers_the_medium(inverted, generator):
    truth, posterior, mode, curvature = inverted
    samples, rate = inversion.chain(posterior, mode, curvature, STEPS, 1.0, generator)
    modes = len(truth)
    # Langevin steps of size one in five dimensions are accepted mostly, never all (a chain that stands still: 0 or 1)
    assert 0.5 < rate < 0.99
    # a truth drawn from the prior is a draw from the posterior: its distance from the mean is χ² with as many degrees
    # as modes, a little more for the sampling error of the mean
    gap = samples.mean(axis=0) - truth
    assert gap @ curvature @ gap <= chi2.ppf(1 - CHANCE, modes) * (1 + 1 / KEPT)
    # the data have said something about every mode, and the mean explains them to within the noise
    assert np.all(samples.std(axis=0) < 0.5)
    misfit = posterior.misfit(samples.mean(axis=0))
    low, high = chi2.ppf(CHANCE, inversion.SENSORS - modes), chi2.ppf(1 - CHANCE, inversion.SENSORS)
    assert low <= misfit @ misfit <= high
    # and the chain is as wide as the curvature at the mode says, within the error of a variance of so few samples
    spread = np.trace(curvature @ np.cov(samples.T)) / modes
    low, high = chi2.ppf([CHANCE, 1 - CHANCE], KEPT * modes) / (KEPT * modes)
    assert 0.8 * low <= spread <= 1.25 * high  # the posterior is not quite Gaussian


def test_a_wrong_gradient_is_noticed_by_the_chain(inverted, generator):
    _, posterior, mode, curvature = inverted

    class Backwards(inversion.Posterior):
        def density(self, theta):
            value, slope = super().density(theta)
            return value, -slope

    _, rate = inversion.chain(Backwards(posterior.model, posterior.data), mode, curvature, 20, 1.0, generator)
    assert rate < 0.5


def test_the_gradient_of_the_posterior_is_that_of_its_density(inverted):
    _, posterior, mode, curvature = inverted
    theta = mode + np.linalg.cholesky(np.linalg.inv(curvature)) @ np.array([1.0, -1.0, 1.0, 1.0, -1.0])
    _, slope = posterior.density(theta)
    direction = np.linalg.solve(curvature, slope)
    step = 0.05
    ahead, behind = (posterior.density(theta + sign * step * direction)[0] for sign in (1, -1))
    assert (ahead - behind) / (2 * step) == pytest.approx(slope @ direction, rel=1e-2)


def test_the_example_is_as_accurate_and_as_far_out_of_domain_as_it_says(darcy):
    generator = np.random.default_rng(31)
    for _ in range(3):
        theta = generator.standard_normal(len(inversion.WAVES))
        permeability = {"permeability": inversion.medium(theta)[0][None]}
        fine, _ = inversion.medium(theta, 421)
        truth = inversion.reference.solve(fine, face_mean="arithmetic")[::5, ::5]
        answer = darcy.predict(permeability)
        assert np.abs(answer.predictions["pressure"].mean[0] - truth).max() <= 0.003 * truth.max()
        assert not answer.validity[0].in_domain


def test_clients_that_take_no_path_find_every_call_at_the_root_where_that_is_asked_for(client, server, tmp_path):
    for path in face.PATHS:
        assert client.get(path).status_code == 404, "not asked for"
    shutil.copytree(SHIPPED / "site_weather", tmp_path / "site_weather")
    with serving(tmp_path, SURROGATE_UMBRIDGE_AT_ROOT="true", SURROGATE_RELOAD_SECONDS="0") as address:
        listed, mounted = umbridge.supported_models(address), umbridge.supported_models(f"{address}/umbridge")
        assert listed == mounted == ["site_weather", "site_weather:half_width"]
        sizes = umbridge.HTTPModel(address, "site_weather").get_input_sizes()
        assert sizes == umbridge.HTTPModel(f"{server}/umbridge", "site_weather").get_input_sizes()
        for path in set(face.PATHS) - {"/Info"}:
            refused(httpx.post(address + path, json={"name": "atlantis"}), 400, "ModelNotFound")
        assert httpx.get(f"{address}/site_weather/Info").status_code == 404
        assert httpx.get(f"{address}/readyz").status_code == 200
