"""The battery over every shipped bundle, and the guards of the format seen red."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.stats import beta

from models import catalog
from models.__main__ import GOLDEN_TOLERANCE, check_golden, main
from models.bundle import ALLOWED_OPERATORS, GOLDEN_FILE, GRAPH_FILES, WEIGHTS_FILE, read, write
from models.errors import BrokenBundle
from models.repository import Repository, load_surrogate
from models.runtime import DeviceUnavailable, Graph, RuntimeOptions
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


def test_manifest_agrees_with_the_catalogue_and_the_graph(surrogate):
    document, physics = surrogate.manifest.document, surrogate.physics
    if physics is not None:
        points = surrogate.input.axes[0].points
        assert surrogate.manifest.inputs == physics.inputs(points)
        assert surrogate.manifest.outputs == physics.outputs(points)
    assert surrogate.graphs["model"].inputs == tuple(document["graph"]["inputs"].values())
    golden = surrogate.bundle.arrays(GOLDEN_FILE)
    members = surrogate.run({surrogate.input.name: golden["input"]}).members
    assert members.shape == (len(golden["input"]), surrogate.manifest.members, *surrogate.output.shape)


def test_golden_outputs_are_reproduced_and_a_batch_equals_its_samples(surrogate):
    assert check_golden(surrogate) <= GOLDEN_TOLERANCE
    inputs = surrogate.bundle.arrays(GOLDEN_FILE)["input"]
    together = surrogate.run({surrogate.input.name: inputs}).members
    for index, sample in enumerate(inputs):
        alone = surrogate.run({surrogate.input.name: sample[None]}).members[0]
        np.testing.assert_allclose(alone, together[index], rtol=1e-5, atol=1e-6 * np.abs(alone).max())


def test_derivative_graphs_satisfy_the_adjoint_identity_and_finite_differences(surrogate, generator):
    inputs = {surrogate.input.name: surrogate.bundle.arrays(GOLDEN_FILE)["input"][:2]}
    point = inputs[surrogate.input.name]
    tangent = (0.1 * point * generator.standard_normal(point.shape)).astype(np.float32)
    members, pushed = surrogate.jvp(inputs, tangent)
    cotangent = generator.standard_normal(pushed.shape).astype(np.float32)
    again, pulled = surrogate.vjp(inputs, cotangent)
    np.testing.assert_allclose(again, members, rtol=1e-4, atol=1e-6 * np.abs(members).max())
    gap = abs(np.vdot(cotangent.astype(float), pushed) - np.vdot(pulled.astype(float), tangent))
    assert gap <= ADJOINT_TOLERANCE * np.linalg.norm(cotangent) * np.linalg.norm(pushed)
    step = 3e-3  # float32: rounding 1e-7/step and truncation step² both stay below one per cent
    ahead, behind = (surrogate.run({surrogate.input.name: point + s * step * tangent}).members for s in (1, -1))
    difference = (ahead.astype(float) - behind) / (2 * step)
    assert np.linalg.norm(difference - pushed) <= 0.01 * np.linalg.norm(pushed)


def test_guaranteed_bounds_hold_on_fresh_network_outputs(surrogate):
    if surrogate.physics is None:
        pytest.skip("no physical model")
    points = surrogate.input.axes[0].points
    for family in surrogate.physics.families:
        for index in range(2):
            inputs = surrogate.physics.draw(FRESH_SEED, index, points, family)
            sample = {name: values.astype(np.float32) for name, values in inputs.items()}
            mean = surrogate.run({name: values[None] for name, values in sample.items()}).mean[0]
            found = surrogate.physics.audit(sample, {surrogate.output.name: mean})
            assert found.upper >= found.error_floor, family


def test_simultaneous_band_covers_fresh_cases_inside_its_beta_interval(surrogate):
    """Truth from the fine reference solver; two-sided 1e-3 over both the calibration and the test draw."""
    from scipy.stats import betabinom

    physics, calibration = surrogate.physics, surrogate.calibration
    if physics is None or calibration is None:
        pytest.skip("nothing to compare with")
    points, level, covered = surrogate.input.axes[0].points, 0.9, 0
    for index in range(CASES):
        inputs, truth = physics.pair(FRESH_SEED + 1, index, points, physics.training_family)
        answer = surrogate.predict({name: values[None] for name, values in inputs.items()}, level)
        u = truth[surrogate.output.name]
        covered += bool(np.all((answer.band.lower[0] <= u + 1e-9) & (u - 1e-9 <= answer.band.upper[0])))
    k = int(np.ceil((calibration.count + 1) * level - 1e-9))
    law = betabinom(CASES, k, calibration.count + 1 - k)
    assert law.ppf(0.0005) <= covered <= law.ppf(0.9995)


def test_a_shrunken_band_falls_outside_its_interval(surrogate):
    """The guard above can fail: half the half-width covers far too few of the calibration cases themselves."""
    calibration, level = surrogate.calibration, 0.9
    covered = int((calibration.scores <= calibration.simultaneous(level) / 2).sum())
    k = int(np.ceil((calibration.count + 1) * level - 1e-9))
    assert covered / calibration.count < beta(k, calibration.count + 1 - k).ppf(0.0005)


def test_report_meets_what_the_card_claims(surrogate):
    report = surrogate.manifest.document["report"]
    cover = report["coverage"]
    low, high = cover["beta_binomial_99"]
    assert low <= cover["covered"] <= high
    assert all(entry["violations"] == 0 for entry in report["efficiency"].values())


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


def test_a_broken_bundle_is_reported_and_the_command_fails(copy, capsys):
    root = copy.parent.parent
    assert main(["--zoo", str(root), "check"]) == 0
    _flip(copy / WEIGHTS_FILE)
    assert main(["--zoo", str(root), "check"]) == 1
    assert "FAILED" in capsys.readouterr().out
    repository = Repository(root, RuntimeOptions())
    assert repository.surrogates == ()
    assert WEIGHTS_FILE in next(iter(repository.broken.values()))


def test_asking_for_a_gpu_that_is_not_there_is_an_error(copy):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build may have a GPU")
    with pytest.raises((DeviceUnavailable, BrokenBundle, ValueError)):
        Graph(read(copy), "model.onnx", RuntimeOptions(device="cuda"))


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
        assert np.all(arrays["lower"] <= arrays["pressure"])
    assert main(["describe", "nothing"]) == 1
