"""Parts of a shipped bundle measured anew: what they follow from changes, the graphs stay."""

import shutil
from pathlib import Path

import pytest

from models.bundle import GRAPH_FILES, WEIGHTS_FILE, Bundle, read
from models.repository import load_surrogate
from models.runtime import RuntimeOptions
from training.command_line import main


@pytest.fixture
def zoo(tiny_runs: Path, tmp_path: Path) -> Path:
    """A copy of the zoo with the tiny darcy bundle."""
    shutil.copytree(tiny_runs / "zoo", tmp_path / "zoo")
    return tmp_path / "zoo"


def graphs(content: Bundle) -> dict[str, bytes]:
    """What recalibration must not touch."""
    return {name: content.files[name] for name in (*GRAPH_FILES.values(), WEIGHTS_FILE)}


def test_costs_are_measured_anew_and_nothing_else(zoo, tmp_path):
    folder = zoo / "darcy" / "1"
    before = read(folder)
    main(["costs", str(folder), "--runs", str(tmp_path / "runs")])
    after = read(folder)
    own, other = before.manifest.document["report"], after.manifest.document["report"]
    changed = {name for name in own if own[name] != other[name]}
    assert {"milliseconds"} <= changed <= {"milliseconds", "machine"}
    assert own["milliseconds"].keys() == other["milliseconds"].keys()
    assert own["milliseconds"]["classical"].keys() == other["milliseconds"]["classical"].keys()
    assert {n for n, raw in after.files.items() if raw != before.files[n]} == {"cost.png"}


def test_a_recalibrated_bundle_keeps_its_graphs_and_serves(zoo, tmp_path):
    main(
        ["recalibrate", "darcy", "--zoo", str(zoo), "--into", str(tmp_path / "into"), "--runs", str(tmp_path / "runs")]
    )
    before, after = read(zoo / "darcy" / "1"), read(tmp_path / "into" / "darcy" / "1")
    assert graphs(before) == graphs(after)
    facts = after.manifest.document["provenance"]
    assert facts["trained"] == before.manifest.document["provenance"]["trained"]
    assert facts["recalibrated"]["date"]
    assert load_surrogate(tmp_path / "into" / "darcy" / "1", RuntimeOptions()).calibrations.keys() == {"pressure"}


def test_a_bundle_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SystemExit, match="got 'unheard'"):
        main(["recalibrate", "unheard", "--zoo", str(tmp_path)])
