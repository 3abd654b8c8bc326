"""What the benchmarks make of measurements: wrk's report, the script it gets, tables, encodings, operations of a graph."""

import io
import json
from dataclasses import replace

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import bundle
from models.bundle import GRAPH_FILES
from tests.benchmarks import calls, graphs, load, queueing, servers, serving, tables
from tests.benchmarks.load import Load

PRINTED = """Running 2s test @ http://127.0.0.1:8000/v2/models/trivial/infer
  1 threads and 16 connections
RESULT {"requests": 3000, "microseconds": 2000000, "median": 4500, "p99": 12250, "failed": 2}
"""
CHANCE = 0.05  # of a mean over 6e4 customers that wait for each other
OURS, PEER = tables.Row("ours", "ours", "binary"), tables.Row("peer", "a peer", "JSON")


def loads(*rates: float, median: float = 4.0, p99: float = 9.0, failed: int = 0) -> list[Load]:
    return [Load(int(rate), rate, median, p99, failed) for rate in rates]


def measured() -> tables.Results:
    """Ours 300/s, a peer 100/s, the session alone 400 samples/s at batch 4 and 2 ms a run."""
    runs = {"1": {"per_second": 250.0, "median": 2.0}, "4": {"per_second": 400.0, "median": 10.0}}
    return tables.Results(
        loads={
            ("ours", "trivial", 16): loads(290, 300, 330),
            ("ours", "trivial", 1): loads(200, median=2.5),
            ("peer", "trivial", 16): loads(100, 100, 100),
        },
        paced={("ours", "trivial", "even"): [(210.0, load) for load in loads(205)]},
        raw={"trivial": [runs]},
        skipped={"peer": "did not\nstart"},
    )


def test_wrks_report_becomes_rates_and_milliseconds():
    assert Load(3000, 1500.0, 4.5, 12.25, 2) == load.parse(PRINTED)


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:1 Connection refused\n", PRINTED + PRINTED])
def test_a_report_without_its_line_is_an_error(text):
    with pytest.raises(ValueError, match="Expected one line"):
        load.parse(text)


def test_the_script_sends_the_call_and_keeps_a_schedule_only_when_paced(tmp_path):
    call = calls.inference_binary("trivial", np.zeros((64, 64), np.float32))
    saturating, paced = (
        load.script(call, tmp_path / "body", gap) for gap in ("", load.GAPS["random"].format(mean=12.5))
    )
    for name, value in call.headers.items():
        assert f'wrk.headers["{name}"] = "{value}"' in saturating
    assert str(tmp_path / "body") in saturating
    assert "delay" not in saturating
    assert "due = (due or now) + -12.5 * math.log" in paced


def test_medians_spread_and_ratios_are_in_the_table():
    text = tables.graph_table(measured(), [OURS, PEER], "trivial")
    ours, peer = text.splitlines()[-2:]
    assert "300 [290–330], 4.00 / 9.00 ms" in ours
    assert "75 %" in ours  # 300 of 400
    assert ours.endswith("|  |")
    assert "25 %" in peer
    assert "3.0×" in peer
    assert "| – |" in peer  # not measured with one connection
    assert "limit 400 (batch 4)" in text


def test_overhead_is_latency_less_the_sessions_own_time():
    assert "0.50 [0.50–0.50]" in tables.overhead_table(measured(), [OURS, PEER])


def test_tails_are_ratios_at_the_rate_that_was_reached():
    assert "| even | 210 | 205 | 4.00 / 9.00 ms | 2.2 [2.2–2.2] |" in tables.paced_table(
        measured(), [OURS], ["trivial"]
    )


@pytest.mark.parametrize("load_share", [0.3, 0.7])
def test_random_arrivals_wait_as_long_as_theory_says(load_share):
    waits = queueing.sojourns(1, load_share) - 1.0  # Pollaczek and Khinchine: ρ/(2(1 − ρ)) times of service
    assert np.mean(waits) == pytest.approx(load_share / (2 * (1 - load_share)), rel=CHANCE)
    assert queueing.tail_ratio(2, load_share) < queueing.tail_ratio(1, load_share)


def test_a_full_answer_is_compared_with_its_own_outputs():
    results = replace(
        measured(), shipped={("darcy", False): loads(300, 310), ("darcy", True): loads(150, 155)}, ready=[2.0, 2.5]
    )
    text = tables.render(results, [OURS], ["trivial"], {})
    assert "| 2.0× [2.0–2.0] |" in text and "2.2 s [2.0–2.5]" in text


def test_what_was_left_out_is_said_on_one_line():
    assert "| a peer | did not start |" in tables.render(measured(), [OURS, PEER], ["trivial"], {"on": "a machine"})


def test_failed_requests_void_the_figures():
    results = measured()
    assert "void" not in tables.render(results, [OURS, PEER], ["trivial"], {})
    results.loads[("peer", "trivial", 64)] = loads(90, failed=3)
    assert "**3 requests failed; the figures are void.**" in tables.render(results, [OURS, PEER], ["trivial"], {})


def test_tables_need_neither_the_session_nor_our_own_rows():
    results = replace(measured(), raw={}, paced={}, skipped={})
    text = tables.render(results, [PEER], ["trivial"], {"on": "a machine"})
    assert "a peer" in text and "limit" not in text.replace("of the limit", "")


def test_a_page_keeps_what_is_around_the_tables():
    page = "\n".join(f"before\n{tables.START.format(name)}old{tables.END}\nafter" for name in ("serving", "graphs"))
    assert page.replace("old", "new", 1) == tables.insert(page, "new")
    assert page.replace("old", "\0", 1).replace("old", "new").replace("\0", "old") == tables.insert(
        page, "new", "graphs"
    )
    with pytest.raises(ValueError, match="Expected one block"):
        tables.insert("no markers", "new")


def test_the_page_of_benchmarks_has_its_markers():
    text = serving.PAGE.read_text(encoding="utf-8")
    assert "a new table" in tables.insert(text, "a new table")
    assert "a new table" in tables.insert(text, "a new table", "graphs")


def test_every_call_carries_the_field_and_every_answer_is_read(generator):
    a = generator.standard_normal((64, 64)).astype(np.float32)
    npy = io.BytesIO()
    np.save(npy, a)
    head = json.dumps({"outputs": []}).encode()
    one, batch = calls._base64(a), calls._base64(a[None])
    answers = {
        calls.raw_bytes: (a.tobytes(), {}),
        calls.npy: (npy.getvalue(), {}),
        calls.full_answer: (json.dumps({"outputs": {"u": {"data": one}}}).encode(), {}),
        calls.inference_binary: (head + a.tobytes(), {calls.LENGTH.lower(): str(len(head))}),
        calls.inference_json: (json.dumps({"outputs": [{"data": a.ravel().tolist()}]}).encode(), {}),
        calls.tesseract: (json.dumps({"u": batch}).encode(), {}),
        calls.nested_batch: (json.dumps([a.tolist()]).encode(), {}),
        calls.nested_field: (json.dumps({"u": a.tolist()}).encode(), {}),
    }
    assert {server.call for server in servers.SERVERS} == set(answers)
    for encode, (body, headers) in answers.items():
        call = encode("trivial", a)
        assert np.array_equal(call.read(body, httpx.Headers(headers)), a), encode.__name__
        assert call.path.startswith("/") and len(call.body) >= a.size


def test_numbers_sent_as_text_are_the_same_float32(generator):
    a = generator.standard_normal((64, 64)).astype(np.float32)
    sent = json.loads(calls.nested_field("trivial", a).body)["a"]
    assert np.array_equal(np.float32(sent), a)


def test_an_answer_with_other_numbers_is_refused(monkeypatch):
    a = np.ones((64, 64), np.float32)
    call = calls.raw_bytes("trivial", a)
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(200, content=(2 * a).tobytes()))
    load.check("http://server", call, 2 * a)
    with pytest.raises(load.WrongAnswer, match="off by"):
        load.check("http://server", call, 2.001 * a)
    monkeypatch.setattr(httpx, "post", lambda *_, **__: httpx.Response(200, content=b"no floats"))
    with pytest.raises(load.WrongAnswer, match="cannot be read"):
        load.check("http://server", call, 2 * a)


def test_a_missing_environment_is_told_with_the_command_that_makes_it(tmp_path):
    peer = next(server for server in servers.SERVERS if server.packages)
    with pytest.raises(servers.Unusable, match=peer.packages[0]):
        servers.python_of(peer, tmp_path)


def test_every_peer_has_its_file_and_its_line_in_the_makefile():
    makefile = (servers.ROOT / "Makefile").read_text(encoding="utf-8")
    for server in servers.SERVERS:
        assert not server.program or (servers.PEERS / server.program).exists(), server.key
        for package in server.packages:
            assert package in makefile, package


def test_ours_are_chosen_together_and_an_unknown_server_is_refused():
    assert [s.key for s in serving.chosen(["ours"])] == ["ours", "ours_npy", "ours_full"]
    assert serving.chosen([]) == list(servers.SERVERS)
    with pytest.raises(SystemExit, match="Expected servers among raw, shipped, ours"):
        serving.chosen(["nobody"])


def one_node(kind: str, weight: tuple[int, ...], shape: tuple[int | str, ...], **attributes) -> bytes:
    """A graph of one operator whose second input is a constant."""
    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    constant = onnx.numpy_helper.from_array(np.ones(weight, np.float32), "w")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "one", [given], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    graph.initializer.append(constant)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (one_node("MatMul", (4, 5), ("batch", 3, 4)), 2 * 3 * 4 * 5),
        (one_node("Gemm", (1, 5), ("batch", 3), transA=1), 2 * 3 * 1 * 5),
        (one_node("Conv", (6, 2, 3, 3), ("batch", 4, 8, 8), group=2, pads=[1, 1, 1, 1]), 2 * 6 * 64 * 2 * 9),
        (one_node("ConvTranspose", (4, 3, 2, 2), ("batch", 4, 8, 8), strides=[2, 2]), 2 * 4 * 64 * 3 * 4),
        (one_node("Add", (4,), ("batch", 4)), 0),
    ],
)
def test_operations_are_those_of_products_and_convolutions_for_one_sample(graph, expected):
    assert graphs.operations(graph) == expected


def test_a_product_of_unknown_size_is_refused():
    with pytest.raises(ValueError, match="Expected known shapes in MatMul"):
        graphs.operations(one_node("MatMul", (4, 5), ("batch", "any", 4)))


def test_operations_of_every_shipped_graph_are_known(bundle_folder):
    assert graphs.operations(bundle.read(bundle_folder).files[GRAPH_FILES["model"]]) > 0


def test_a_profile_tells_the_shortest_time_of_every_node(tmp_path):
    durations = {"a_kernel_time": [40, 20, 30], "b_kernel_time": [8, 9, 10], "b_fence_before": [1, 1, 1]}
    events = [
        {"cat": "Node", "name": name, "dur": spent, "args": {"op_name": "MatMul" if name[0] == "a" else "Gelu"}}
        for name, each in durations.items()
        for spent in each
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([{"cat": "Session", "name": "model_run", "dur": 99}, *events]))
    found = graphs.nodes(path, 2)
    assert found == {"a": ("MatMul", pytest.approx(10e-6)), "b": ("Gelu", pytest.approx(4e-6))}
    measured = graphs.Measured(2000, {1: 30e-6, 2: 20e-6}, found)
    text = graphs.render({"tiny": measured}, 1e9)
    assert "| tiny | 0.0 | 2 | 0.020 | 0 | 10 % | 0.014 | 0.010 | 20 % | MatMul 71 %, Gelu 29 % |" in text


def test_a_session_is_profiled_as_it_runs():
    small = graphs.Subject(
        "small", one_node("MatMul", (4, 5), ("batch", 3, 4)), None, {"x": np.ones((2, 3, 4), np.float32)}
    )
    ((kind, seconds),) = graphs.profiled(small, 4).values()
    assert kind == "MatMul" and seconds > 0
    assert small.feeds(5)["x"].shape == (5, 3, 4)
