"""The engine: equal to unbatched under any interleaving, nothing expired runs, runs are stopped, faults stay apart."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.routes.catalogue import draw
from models import batching
from models.batching import LARGEST_BATCH, Engine, measure, spread
from models.bundle import Bundle
from models.errors import Abandoned, DeadlinePassed, Unavailable
from models.manifest import Manifest
from models.repository import SHIPPED, load_surrogate
from models.runtime import Graph, RuntimeOptions, available_cores
from models.ticket import Ticket, holding

WAIT = 20.0


class Slow:
    """A graph that doubles its input, can be held up, and notes what it ran; -1 is a poison."""

    owner, file, device, batch, fixed_batch = "slow/1", "model.onnx", "cpu", 4, None
    seconds = float("inf")

    def __init__(self):
        self.open, self.ran, self.alone, self.stopped = threading.Event(), [], [], 0
        self.open.set()
        self.started = threading.Event()

    def execute(self, feeds, stop, is_alone):
        self.alone.append(is_alone)
        self.started.set()
        values = feeds["x"]
        while not self.open.wait(0.005):
            if stop.options.terminate:
                self.stopped += 1
                raise RuntimeError("terminated")
        if (values == -1).any():
            raise RuntimeError("poison")
        self.ran.append(values.shape)
        return [2 * values]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def ask(engine, graph, values, ticket=None):
    """Submit; the future of the outputs."""
    done, box = threading.Event(), []

    def deliver(results, error):
        box.append(error or results)
        done.set()

    engine.submit(graph, {"x": np.asarray(values, dtype=np.float32)}, deliver, ticket or Ticket())
    return lambda: (done.wait(WAIT), box[0])[1]


def hold(graph):
    graph.open.clear()
    graph.started.clear()


def test_an_idle_engine_starts_at_once_and_what_arrives_meanwhile_is_one_batch(engine):
    graph = Slow()
    hold(graph)
    first = ask(engine, graph, [[1.0]])
    assert graph.started.wait(WAIT)
    later = [ask(engine, graph, [[float(n)]]) for n in range(2, 8)]
    graph.open.set()
    assert [float(found()[0][0, 0]) for found in (first, *later)] == [2.0 * n for n in range(1, 8)]
    assert graph.ran == [(1, 1), (4, 1), (2, 1)]
    facts = engine.statistics(graph)
    assert (facts.samples, facts.runs, {size: n for size, (n, _) in facts.batches.items()}) == (
        7,
        3,
        {1: 1, 4: 1, 2: 1},
    )


def test_of_two_runs_the_second_leaves_a_share_in_the_queue():
    graph, engine = Slow(), Engine(2)
    try:
        hold(graph)
        found = [ask(engine, graph, [[0.0]])]
        assert graph.started.wait(WAIT)
        graph.started.clear()
        found.append(ask(engine, graph, [[1.0]]))
        assert graph.started.wait(WAIT)
        found += [ask(engine, graph, [[float(n)]]) for n in range(2, 8)]
        graph.open.set()
        assert [float(one()[0][0, 0]) for one in found] == [2.0 * n for n in range(8)]
    finally:
        engine.close()
    assert graph.alone[:2] == [True, False]
    # a third of the 6 or 7 that are there, though 4 run fastest
    assert max(shape[0] for shape in graph.ran) in (2, 3)


def test_shapes_do_not_mix_and_the_oldest_goes_first(engine):
    graph = Slow()
    hold(graph)
    ask(engine, graph, [[0.0]])
    assert graph.started.wait(WAIT)
    found = [ask(engine, graph, np.zeros((1, size))) for size in (1, 2, 1, 3, 2)]
    graph.open.set()
    assert [f()[0].shape for f in found] == [(1, 1), (1, 2), (1, 1), (1, 3), (1, 2)]
    assert graph.ran[1:] == [(2, 1), (2, 2), (1, 3)]


def test_large_requests_run_in_parts_and_others_get_their_turn(engine):
    graph = Slow()
    hold(graph)
    ask(engine, graph, [[0.0]])
    assert graph.started.wait(WAIT)
    large = ask(engine, graph, np.arange(10.0)[:, None])
    other = ask(engine, graph, np.zeros((1, 2)))
    graph.open.set()
    np.testing.assert_array_equal(large()[0][:, 0], 2 * np.arange(10.0))
    assert other()[0].shape == (1, 2)
    assert [shape[0] for shape in graph.ran[1:] if shape[1] == 1] == [4, 4, 2]


def test_expired_and_abandoned_work_in_the_queue_never_runs(engine):
    graph = Slow()
    hold(graph)
    first = ask(engine, graph, [[1.0]])
    assert graph.started.wait(WAIT)
    gone, late = Ticket(), Ticket(0.05)
    abandoned, expired = ask(engine, graph, [[2.0]], gone), ask(engine, graph, [[3.0]], late)
    kept = ask(engine, graph, [[4.0]])
    gone.end(Abandoned())
    assert isinstance(abandoned(), Abandoned)  # told at once, not when its turn comes
    time.sleep(0.06)
    graph.open.set()
    assert isinstance(expired(), DeadlinePassed)
    assert float(kept()[0][0, 0]) == 8.0 and first()[0].shape == (1, 1)
    assert graph.ran == [(1, 1), (1, 1)]
    assert engine.statistics(graph).dropped == 2


def test_a_run_is_stopped_when_nobody_waits_and_not_before(engine):
    graph = Slow()
    hold(graph)
    tickets = [Ticket(), Ticket()]
    ask(engine, graph, [[0.0]])
    assert graph.started.wait(WAIT)
    found = [ask(engine, graph, [[1.0]], ticket) for ticket in tickets]
    graph.open.set()
    hold(graph)
    assert graph.started.wait(WAIT)
    tickets[0].end(Abandoned())
    time.sleep(0.05)
    assert graph.stopped == 0
    tickets[1].end(Abandoned())
    assert all(isinstance(f(), Abandoned) for f in found)
    assert graph.stopped == 1
    graph.open.set()


def test_one_poisoned_request_does_not_harm_its_batch(engine):
    graph = Slow()
    hold(graph)
    ask(engine, graph, [[0.0]])
    assert graph.started.wait(WAIT)
    found = [ask(engine, graph, [[v]]) for v in (1.0, -1.0, 3.0)]
    graph.open.set()
    good, bad, also_good = (f() for f in found)
    assert float(good[0][0, 0]) == 2.0 and float(also_good[0][0, 0]) == 6.0
    assert isinstance(bad, RuntimeError) and "poison" in str(bad)
    assert engine.statistics(graph).failures == 1


def test_a_closed_engine_finishes_what_it_accepted_and_refuses_the_rest():
    engine, graph = Engine(), Slow()
    hold(graph)
    found = [ask(engine, graph, [[float(n)]]) for n in range(6)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    time.sleep(0.05)
    refused = ask(engine, graph, [[9.0]])
    assert isinstance(refused(), Unavailable)
    graph.open.set()
    assert [float(f()[0][0, 0]) for f in found] == [2.0 * n for n in range(6)]
    closing.join(WAIT)


def test_a_receiver_that_fails_does_not_end_the_engine(engine, caplog):
    graph = Slow()
    engine.submit(graph, {"x": np.ones((1, 1), np.float32)}, lambda *_: 1 / 0, Ticket())
    assert float(ask(engine, graph, [[2.0]])()[0][0, 0]) == 4.0
    assert "could not be handed over" in caplog.text


class Pair:
    """One bundle twice: behind an engine as it is served, with a session for runs that are alone, and by itself."""

    def __init__(self, engine):
        folder = max(SHIPPED.glob("burgers/*"))
        self.together = load_surrogate(folder, RuntimeOptions(threads=1), engine).graphs["model"]
        self.together.spread()
        self.together.batch = 4
        surrogate = load_surrogate(folder, RuntimeOptions())
        self.alone = surrogate.graphs["model"]
        drawn = [draw(surrogate, seed) for seed in range(8)]
        self.rows = surrogate.feeds({name: np.stack([d[name] for d in drawn]) for name in drawn[0]})


@pytest.fixture(scope="module")
def shared() -> Iterator[Pair]:
    engine = Engine(2)
    yield Pair(engine)
    engine.close()


@settings(max_examples=25, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 7), st.integers(0, 2**32 - 1), st.floats(0, 0.01)), min_size=2, max_size=12
    )
)
def test_batched_results_equal_unbatched_ones_under_any_interleaving(shared, requests):
    """Rounding differs with the batch size, in the seventh digit; a row in the wrong place differs in the first."""
    answers, threads = {}, []
    for number, (count, seed, pause) in enumerate(requests):
        chosen = np.random.default_rng(seed).integers(8, size=count)
        feeds = {name: values[chosen] for name, values in shared.rows.items()}

        def work(number=number, feeds=feeds, pause=pause):
            time.sleep(pause)
            answers[number] = (feeds, shared.together.run(feeds))

        threads.append(threading.Thread(target=work))
        threads[-1].start()
    for thread in threads:
        thread.join(WAIT)
    assert len(answers) == len(requests)
    for feeds, found in answers.values():
        for ours, theirs in zip(found, shared.alone.run(feeds), strict=True):
            assert np.abs(ours - theirs).max() <= 1e-6 * max(1.0, float(np.abs(theirs).max()))


def test_the_ticket_at_hand_reaches_the_engine(shared):
    feeds = shared.together.blank(1)
    with pytest.raises(DeadlinePassed, match="within 0 s"):
        holding(Ticket(0.0), lambda: shared.together.run(feeds))
    late = Ticket(0.05)
    time.sleep(0.06)
    with pytest.raises(DeadlinePassed):
        holding(late, lambda: None)


@pytest.mark.parametrize(
    "options", [RuntimeOptions(bind=True), RuntimeOptions(cuda_graphs=True)], ids=["bound", "kept"]
)
def test_bound_runs_equal_plain_ones(options, bundle_folder, generator):
    """The code that a GPU needs, on the CPU: bound arrays, and buffers that stay where they are."""
    plain, bound = (load_surrogate(bundle_folder, chosen).graphs["model"] for chosen in (RuntimeOptions(), options))
    for count in (1, 3, 2):
        feeds = {
            k: (v * generator.uniform(0.5, 1.0, v.shape)).astype(np.float32) for k, v in plain.blank(count).items()
        }
        for ours, theirs in zip(bound.run(feeds), plain.run(feeds), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max())


def test_an_endless_graph_is_stopped(tmp_path, engine):
    """A Loop of a billion rounds under a deadline of 0.3 s."""
    graph = _endless(tmp_path)
    ticket = Ticket(0.3)
    threading.Timer(0.3, ticket.expire).start()
    began = time.perf_counter()
    with pytest.raises(DeadlinePassed):
        holding(ticket, lambda: engine.run(graph, {"x": np.ones((1, 4), np.float32)}))
    assert time.perf_counter() - began < WAIT
    assert engine.waiting == 0


def _endless(tmp_path) -> Graph:
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["v"], ["w"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", TensorProto.FLOAT, None)],
    )  # fmt: skip
    constants = [
        helper.make_tensor("most", TensorProto.INT64, [], [10**9]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
    ]
    loop = helper.make_node("Loop", ["most", "yes", "x"], ["y"], body=body)
    shape = ["batch", 4]
    graph = helper.make_graph(
        [loop], "endless", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Graph(Bundle(Manifest({}, ""), {"model.onnx": model.SerializeToString()}), "model.onnx", RuntimeOptions())


def test_the_best_batch_is_measured(bundle_folder):
    graph = load_surrogate(bundle_folder, RuntimeOptions()).graphs["model"]
    measure(graph, seconds=0.1)
    print(bundle_folder.parent.name, graph.batch, graph.seconds)
    assert 1 <= graph.batch <= LARGEST_BATCH
    assert 0.0 < graph.seconds < 10.0


@pytest.mark.skipif(available_cores() == 1, reason="one core: every run has it whole")
def test_a_run_that_is_alone_has_every_core_unless_that_is_slower(monkeypatch):
    graph = load_surrogate(max(SHIPPED.glob("burgers/*")), RuntimeOptions(threads=1)).graphs["model"]
    feeds, took = graph.blank(2), {False: 2.0, True: 2.1}
    monkeypatch.setattr(batching, "_timed", lambda *arguments: took[arguments[-1]])
    spread(graph)
    assert graph.is_spread
    alone, beside = (graph.execute(feeds, is_alone=is_alone)[0] for is_alone in (True, False))
    np.testing.assert_allclose(alone, beside, rtol=1e-5, atol=1e-6)
    took[True] = 2.6
    spread(graph)
    assert not graph.is_spread
    for options in (RuntimeOptions(), RuntimeOptions(threads=1, bind=True)):
        assert not load_surrogate(max(SHIPPED.glob("burgers/*")), options).graphs["model"].spread()


def test_a_graph_that_takes_no_time_runs_in_the_thread_that_asks(engine):
    graph, thread = Slow(), []
    graph.execute = lambda feeds, *_: (thread.append(threading.get_ident()), [2 * feeds["x"]])[1]
    feeds = {"x": np.ones((2, 1), np.float32)}
    assert engine.at_once(graph, feeds, Ticket()) is None, "nothing is known of its time yet"
    engine.run(graph, feeds)
    graph.seconds = 1e-5
    np.testing.assert_array_equal(engine.run(graph, feeds)[0], 2 * feeds["x"])
    assert thread[-1] == threading.get_ident() != thread[0]
    assert engine.statistics(graph).samples == 4
    assert engine.at_once(graph, {"x": np.ones((5, 1))}, Ticket()) is None, "more than one run"
    with pytest.raises(DeadlinePassed):
        engine.at_once(graph, feeds, Ticket(0.0))
    engine.close()
    assert engine.at_once(graph, feeds, Ticket()) is None, "closed: refused where others are"


def doubling(batch: int) -> Graph:
    from onnx import TensorProto, helper

    shape = [batch, 3]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = helper.make_graph(
        [node], "doubling", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Graph(Bundle(Manifest({}, ""), {"model.onnx": model.SerializeToString()}), "model.onnx", RuntimeOptions())


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_graph_of_a_fixed_batch_is_filled_up(engine, count):
    graph, values = doubling(4), np.arange(3.0 * count, dtype=np.float32).reshape(count, 3)
    with pytest.raises(Exception, match="Got invalid dimensions"):  # the guard: it does take four and nothing else
        doubling(4)._session.run(None, {"x": values[:1]})
    for found in (graph.execute({"x": values}), engine.run(graph, {"x": values})):
        np.testing.assert_array_equal(found[0], 2 * values)
    measure(graph, seconds=0.05)
    assert graph.batch == 4
