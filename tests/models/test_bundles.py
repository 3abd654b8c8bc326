"""The battery over every shipped bundle, and the guards of the format seen red."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.stats import beta

from models import catalog
from models.__main__ import main
from models.acceptance import GOLDEN_TOLERANCE, check_golden
from models.bundle import ALLOWED_OPERATORS, GOLDEN_FILE, GRAPH_FILES, WEIGHTS_FILE, Bundle, read, write
from models.coverage import count_range, covered, predictions
from models.efficiency import answered
from models.errors import BrokenBundle, OutOfRange
from models.fields import Field, check_values
from models.repository import SHIPPED, Repository, load_surrogate
from models.runtime import PROVIDERS, DeviceUnavailable, Graph, RuntimeOptions, providers
from models.surrogate import Surrogate
from training.export import foreign_operators

LARGEST_BUNDLE = 32 * 10**6
ADJOINT_TOLERANCE = 1e-5  # float32; measured below 1e-6
FRESH_SEED = 777  # used nowhere else
CASES = 60


@pytest.fixture(scope="module")
def loaded() -> dict[Path, Surrogate]:
    return {}


@pytest.fixture
def surrogate(bundle_folder: Path, loaded) -> Surrogate:
    if bundle_folder not in loaded:
        loaded[bundle_folder] = load_surrogate(bundle_folder, RuntimeOptions())
    return loaded[bundle_folder]


def test_bundle_is_small_enough_and_its_card_is_current(bundle_folder, surrogate):
    from training.card import text

    assert sum(path.stat().st_size for path in bundle_folder.iterdir()) <= LARGEST_BUNDLE
    document = json.loads((bundle_folder / "manifest.json").read_text(encoding="utf-8"))
    assert (bundle_folder / "CARD.md").read_text(encoding="utf-8") == text(document)


def test_limits_of_inputs_are_inside_in_either_precision_and_what_lies_beyond_is_not(surrogate):
    for item in surrogate.manifest.inputs:
        limits = [(value, np.float32(way)) for value, way in ((item.minimum, -np.inf), (item.maximum, np.inf))]
        for limit, way in ((value, way) for value, way in limits if value is not None):
            for inside in (np.float64(limit), np.float32(limit)):
                check_values(item, np.full((1, *item.shape), inside), 1)
            with pytest.raises(OutOfRange):
                check_values(item, np.full((1, *item.shape), np.nextafter(np.float32(limit), way)), 1)


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_numbers_beyond_single_precision_are_refused_where_no_limit_is_declared(value):
    item = Field("level", "x", "1", "Anything.", ())
    check_values(item, np.array([3e38]), 1)
    with pytest.raises(OutOfRange, match=r"level at most 3\.4e\+38 in size"):
        check_values(item, np.array([value]), 1)


def test_graphs_use_only_operators_with_cuda_kernels(bundle_folder):
    for file in GRAPH_FILES.values():
        proto = onnx.load(bundle_folder / file, load_external_data=False)
        assert foreign_operators(proto) == set()
        outside = [entry.value for t in proto.graph.initializer for entry in t.external_data if entry.key == "location"]
        assert set(outside) <= {WEIGHTS_FILE}


def test_the_operator_guard_sees_a_foreign_operator():
    node = onnx.helper.make_node("DFT", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [])
    assert foreign_operators(onnx.helper.make_model(graph)) == {"DFT"}
    assert "DFT" not in ALLOWED_OPERATORS


def points_of(surrogate: Surrogate) -> int:
    return int(surrogate.manifest.document["points"])


def golden_inputs(surrogate: Surrogate) -> dict[str, np.ndarray]:
    golden = surrogate.bundle.arrays(GOLDEN_FILE)
    return {k.removeprefix("input."): v for k, v in golden.items() if k.startswith("input.")}


def test_manifest_agrees_with_the_catalogue_and_the_graph(surrogate):
    document, physics = surrogate.manifest.document, surrogate.physics
    if physics is not None:
        assert surrogate.manifest.inputs == physics.inputs(points_of(surrogate))
        assert surrogate.manifest.outputs == physics.outputs(points_of(surrogate))
        assert surrogate.lead_times == physics.lead_times
    assert surrogate.graphs["model"].inputs == tuple(document["graph"]["inputs"].values())
    for name, prediction in surrogate.run(golden_inputs(surrogate)).items():
        shape = surrogate.manifest.output(name).shape
        assert prediction.members.shape[1:] == (surrogate.manifest.members, *shape)


def test_golden_outputs_are_reproduced_and_a_batch_equals_its_samples(surrogate):
    assert check_golden(surrogate) <= GOLDEN_TOLERANCE
    inputs = golden_inputs(surrogate)
    together = surrogate.run(inputs)
    for index in range(len(next(iter(inputs.values())))):
        alone = surrogate.run({name: values[index : index + 1] for name, values in inputs.items()})
        for name, prediction in alone.items():
            size = np.abs(prediction.members).max()
            np.testing.assert_allclose(
                prediction.members[0], together[name].members[index], rtol=1e-5, atol=2e-6 * size + 1e-12
            )


def test_derivative_graphs_satisfy_the_adjoint_identity_and_finite_differences(surrogate, generator):
    inputs = {name: values[1:3] for name, values in golden_inputs(surrogate).items()}
    roles = {item.name: item.role for item in surrogate.manifest.inputs}
    tangents = {
        name: np.zeros_like(v) if roles[name] == "reference_time" else _perturbation(v, generator)
        for name, v in inputs.items()
    }
    features = surrogate.physics.features if surrogate.physics else None
    if features is not None:
        # steps that float32 can tell apart are long enough for water to turn elsewhere: float64 steps are in the report
        zeros = {name: np.zeros_like(values) for name, values in features.of(inputs).items()}
        tangents |= {name: np.zeros_like(inputs[name]) for name in features.pull(inputs, zeros)}
    members, pushed = surrogate.jvp(inputs, tangents)
    cotangents = {name: generator.standard_normal(v.shape).astype(np.float32) for name, v in pushed.items()}
    again, pulled = surrogate.vjp(inputs, cotangents)
    left = sum(float(np.vdot(cotangents[name].astype(float), v)) for name, v in pushed.items())
    right = sum(float(np.vdot(pulled[name].astype(float), t)) for name, t in tangents.items())
    size = norm(cotangents) * norm(pushed)
    assert abs(left - right) <= ADJOINT_TOLERANCE * size
    for name, values in again.items():
        np.testing.assert_allclose(values, members[name], rtol=1e-4, atol=1e-6 * np.abs(values).max())
    # of fourth order, so that a step may be long: float32 loses 1e-7 of the answer, which is divided by the step
    step, shifts = 0.1, (1, -1, 2, -2)
    ahead, behind, far_ahead, far_behind = (
        surrogate.run({name: (v + s * step * tangents[name]).astype(np.float32) for name, v in inputs.items()})
        for s in shifts
    )
    for name, values in pushed.items():
        near = ahead[name].members.astype(float) - behind[name].members
        far = far_ahead[name].members.astype(float) - far_behind[name].members
        difference = (8 * near - far) / (12 * step)
        assert np.linalg.norm(difference - values) <= 0.02 * np.linalg.norm(values), name


def _perturbation(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    size = 0.1 * np.abs(values - values.mean() * (values.ndim > 1)).mean()
    return (size * generator.standard_normal(values.shape)).astype(np.float32)


def norm(arrays: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(v.astype(float)).sum() for v in arrays.values())))


def test_guaranteed_bounds_hold_on_fresh_network_outputs(surrogate):
    physics = surrogate.physics
    if physics is None or physics.audit is None:
        pytest.skip("no guaranteed bound")
    for family in physics.families:
        for index in range(2):
            inputs = physics.draw(FRESH_SEED, index, points_of(surrogate), family)
            found = physics.audit(*answered(physics, surrogate, inputs))
            assert found.upper >= found.error_floor, family


def test_simultaneous_band_covers_fresh_cases_inside_its_beta_interval(surrogate):
    """Truth from the reference solver or from later data; two-sided 1e-3 over both the calibration and the test draw."""
    physics = surrogate.physics
    if physics is None:
        pytest.skip("nothing to compare with")
    pairs = [physics.pair(FRESH_SEED + 1, i, points_of(surrogate), physics.held_out[0]) for i in range(CASES)]
    inputs, truths = ({k: np.stack([p[i][k] for p in pairs]) for k in pairs[0][i]} for i in (0, 1))
    for name, prediction in predictions(surrogate, inputs).items():
        hits = covered(surrogate, name, prediction, truths[name]).sum(axis=0)
        low, high = count_range(CASES, surrogate.calibrations[name].independent, 0.999)
        assert np.all((low <= hits) & (hits <= high)), name


def test_a_shrunken_band_falls_outside_its_interval(surrogate):
    """The guard above can fail: half the half-width covers far too few of the calibration cases themselves."""
    level = 0.9
    for calibration in surrogate.calibrations.values():
        half = calibration.simultaneous(level).ravel() / 2
        covered = (calibration.scores <= half).mean(axis=0)
        k = int(np.ceil((calibration.independent + 1) * level - 1e-9))
        assert np.all(covered < beta(k, calibration.independent + 1 - k).ppf(0.0005))


def test_an_input_of_nothing_has_a_finite_answer(surrogate):
    """Zeros, or what of the range is nearest to them: where fields are scaled by their own size there is none."""
    inputs = {}
    for item in surrogate.manifest.inputs:
        low = 0.0 if item.minimum is None else max(0.0, item.minimum)
        inputs[item.name] = np.full((1, *item.shape), low if item.maximum is None else min(low, item.maximum))
    for prediction in surrogate.run(surrogate.validate(inputs)).values():
        assert np.isfinite(prediction.members).all()


def test_report_meets_what_the_card_claims(surrogate):
    report = surrogate.manifest.document["report"]
    assert report["derivatives"]["finite_difference"] <= 1e-4
    for cover in report["coverage"].values():
        low, high = cover["beta_binomial_99"]
        if "block_interval_90" not in cover:
            assert all(low <= count <= high for count in cover["covered"])
    assert all(entry["violations"] == 0 for entry in report.get("efficiency", {}).values())


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    target = tmp_path / bundle_folder.parent.name / bundle_folder.name
    shutil.copytree(bundle_folder, target)
    return target


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_one_flipped_byte_in_any_file_is_refused(copy):
    for path in sorted(copy.iterdir()):
        if path.name == "manifest.json":
            continue
        original = path.read_bytes()
        _flip(path)
        with pytest.raises(BrokenBundle, match=path.name):
            read(copy)
        path.write_bytes(original)
    read(copy)


def test_truncated_missing_and_unlisted_files_are_refused(copy):
    weights = copy / WEIGHTS_FILE
    original = weights.read_bytes()
    weights.write_bytes(original[:-1])
    with pytest.raises(BrokenBundle, match="bytes"):
        read(copy)
    weights.unlink()
    with pytest.raises(BrokenBundle, match=WEIGHTS_FILE):
        read(copy)
    weights.write_bytes(original)
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(BrokenBundle, match=r"extra\.bin"):
        read(copy)


def test_symbolic_and_hard_links_are_refused(copy, tmp_path):
    weights = copy / WEIGHTS_FILE
    outside = tmp_path / "outside.bin"
    shutil.move(weights, outside)
    weights.symlink_to(outside)
    with pytest.raises(BrokenBundle, match="symbolic link"):
        read(copy)
    weights.unlink()
    os.link(outside, weights)
    with pytest.raises(BrokenBundle, match="hard links"):
        read(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', "\x00"])
def test_an_unreadable_manifest_is_refused(copy, text):
    (copy / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BrokenBundle, match=r"manifest\.json"):
        read(copy)


def test_a_bundle_under_another_name_is_refused(copy):
    moved = copy.parent / "7"
    copy.rename(moved)
    with pytest.raises(BrokenBundle, match="name and version"):
        load_surrogate(moved, RuntimeOptions())


def test_a_graph_that_is_no_graph_is_refused(copy, tmp_path):
    bundle = read(copy)
    document = {k: v for k, v in bundle.manifest.document.items() if k not in ("files", "format")}
    target = tmp_path / "again" / bundle.manifest.name / bundle.manifest.version
    write(target, document, {**bundle.files, "model.onnx": b"not a graph"})
    with pytest.raises(BrokenBundle, match="ONNX Runtime"):
        load_surrogate(target, RuntimeOptions())


def test_a_graph_that_wants_features_nobody_computes_is_refused(tmp_path):
    bundle = read(max(SHIPPED.glob("flood/*")))
    document = {k: v for k, v in bundle.manifest.document.items() if k not in ("files", "format")}
    target = tmp_path / bundle.manifest.name / bundle.manifest.version
    write(target, document | {"physical_model": None}, dict(bundle.files))
    with pytest.raises(BrokenBundle, match="features of the model, got runoff, standing_depth"):
        load_surrogate(target, RuntimeOptions())


def test_a_broken_bundle_is_reported_and_the_command_fails(copy, capsys):
    root = copy.parent.parent
    assert main(["--zoo", str(root), "check"]) == 0
    _flip(copy / WEIGHTS_FILE)
    assert main(["--zoo", str(root), "check"]) == 1
    assert "FAILED" in capsys.readouterr().out
    repository = Repository(root, RuntimeOptions())
    assert repository.surrogates == ()
    assert WEIGHTS_FILE in next(iter(repository.broken.values()))


needs_no_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this build may have a GPU"
)


@needs_no_gpu
@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("known", [False, True])
def test_asking_for_a_gpu_that_is_not_there_is_an_error_of_its_own(copy, monkeypatch, known):
    """Whether or not ONNX Runtime knows CUDA; a graph that cannot be loaded is to blame itself."""
    wanted = RuntimeOptions(device="cuda")
    if known:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    with pytest.raises(DeviceUnavailable, match="Expected CUDAExecutionProvider, got CPUExecutionProvider"):
        Graph(read(copy), "model.onnx", wanted)
    whole = read(copy)
    spoilt = Bundle(whole.manifest, {**whole.files, "model.onnx": b"no graph"})
    with pytest.raises(BrokenBundle if known else DeviceUnavailable):
        Graph(spoilt, "model.onnx", wanted)


@needs_no_gpu
def test_where_it_is_allowed_the_processor_stands_in_for_a_gpu(copy):
    graph = Graph(read(copy), "model.onnx", RuntimeOptions(device="cuda", fall_back=True))
    plain = Graph(read(copy), "model.onnx", RuntimeOptions())
    assert graph.device == "cpu"
    feeds = plain.blank(2)
    np.testing.assert_array_equal(graph.run(feeds)[0], plain.run(feeds)[0])


def test_a_gpu_is_preferred_and_alone_unless_the_processor_may_stand_in(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    assert providers(RuntimeOptions()) == ["CPUExecutionProvider"]
    ((name, options),) = providers(RuntimeOptions(device="cuda", cuda_graphs=True))
    assert (name, options["use_tf32"], options["enable_cuda_graph"]) == ("CUDAExecutionProvider", "0", "1")
    first, second = providers(RuntimeOptions(device="cuda", fall_back=True))
    assert (first[0], first[1]["enable_cuda_graph"], second) == ("CUDAExecutionProvider", "0", "CPUExecutionProvider")


def test_commands_list_describe_and_predict(tmp_path, capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert set(catalog.names()) <= {line.split("\t")[0] for line in listed.splitlines()}
    assert main(["describe", "darcy"]) == 0
    assert json.loads(capsys.readouterr().out)["equation"].startswith("−∇")
    source, target = tmp_path / "a.npy", tmp_path / "u.npz"
    np.save(source, catalog.load("darcy").draw(1, 1, 85, "two_phase")["permeability"])
    assert main(["predict", "darcy", str(source), str(target)]) == 0
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert "guaranteed" in kinds
    with np.load(target) as arrays:
        assert np.all(arrays["pressure_lower"] <= arrays["pressure"])
    assert main(["describe", "nothing"]) == 1
