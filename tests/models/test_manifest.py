"""A manifest that is not what it should be is refused with its place, what was expected and what came; never a crash."""

import copy
import json
import shutil
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import acceptance, bundle
from models.bundle import read_manifest
from models.errors import BrokenBundle
from models.manifest import Document, Manifest, parse
from models.repository import SHIPPED, load_surrogate
from models.runtime import RuntimeOptions
from models.surrogate import Question, describe

EXAMPLES = 60
Place = tuple[str | int, ...]
ODD = [None, True, -1, 0, 2, 1.5, "", "x", "../x", [], [1], {}, {"x": 1}, 2**70]


def document(name: str) -> dict[str, Any]:
    return json.loads((SHIPPED / name / "1" / "manifest.json").read_text(encoding="utf-8"))


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Every place in a document that serving relies on."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        if here or key in Document.__dataclass_fields__:
            yield (*here, key)
            yield from places(part, (*here, key))


def at(value: Any, place: Place) -> Any:
    return reduce(lambda found, key: found[key], place, value)


@pytest.mark.parametrize(
    ("place", "value", "expected", "got"),
    [
        (("files", "model.onnx", "sha256"), ..., "the fact 'files.model.onnx.sha256'", "nothing"),
        (("files", "model.onnx", "sha256"), "abc", "files.model.onnx.sha256: ", "'abc'"),
        (("files", "model.onnx", "bytes"), "12", "files.model.onnx.bytes: a valid integer", "'12'"),
        (("files", "model.onnx", "bytes"), -1, "files.model.onnx.bytes: greater than or equal to 0", "-1"),
        (("files", "model.onnx"), None, "files.model.onnx: ", "None"),
        (("files",), ["model.onnx"], "files: ", "['model.onnx']"),
        (("name",), "../darcy", "name: ", "'../darcy'"),
        (("format",), 2, "format: 1", "2"),
        (("inputs", 0, "axes", 0, "points"), ..., "the fact 'inputs.0.axes.0.points'", "nothing"),
        (("inputs",), [], "inputs: ", "[]"),
        (("graph", "members"), 0, "graph.members: greater than 0", "0"),
        ((), [], "all of it: an object", "[]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, place: Place, value: Any, expected: str, got: str):
    spoiled = document("site_weather")
    if not place:
        spoiled = value
    elif value is ...:
        del at(spoiled, place[:-1])[place[-1]]
    else:
        at(spoiled, place[:-1])[place[-1]] = value
    (tmp_path / "manifest.json").write_text(json.dumps(spoiled), encoding="utf-8")
    with pytest.raises(BrokenBundle) as caught:
        read_manifest(tmp_path)
    assert caught.value.expected.startswith(f"manifest.json: {expected}"), caught.value.expected
    assert caught.value.got == got and caught.value.remedy


def test_facts_beside_those_that_serving_relies_on_are_let_be():
    assert parse(json.dumps(document("darcy") | {"of_another_time": 1}).encode()).name == "darcy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("manifest") / "site_weather" / "1"
    shutil.copytree(SHIPPED / "site_weather" / "1", target)
    return target


def passes(folder: Path) -> bool:
    """Whether a bundle is taken; then it has to answer and to describe itself."""
    try:
        surrogate = load_surrogate(folder, RuntimeOptions())
        acceptance.check(surrogate)
    except BrokenBundle:
        return False
    inputs = {name: values[:2] for name, values in acceptance.golden_inputs(surrogate).items()}
    answer = surrogate.predict(inputs, Question(quantiles=(0.5,), band="pointwise"))
    assert len(answer.statements) == 2
    json.dumps(describe(surrogate))
    return True


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_changed_anywhere_is_refused_or_serves(folder: Path, data: st.DataObject):
    whole = document("site_weather")
    spoiled, place = copy.deepcopy(whole), data.draw(st.sampled_from(list(places(whole))))
    if data.draw(st.booleans()):
        del at(spoiled, place[:-1])[place[-1]]
    else:
        at(spoiled, place[:-1])[place[-1]] = data.draw(st.sampled_from(ODD))
    (folder / "manifest.json").write_text(json.dumps(spoiled), encoding="utf-8")
    passes(folder)


def test_without_the_form_of_a_manifest_a_missing_hash_is_a_crash(folder: Path, monkeypatch):
    """Seen red."""
    spoiled = document("site_weather")
    del spoiled["files"]["model.onnx"]["sha256"]
    (folder / "manifest.json").write_text(json.dumps(spoiled), encoding="utf-8")
    assert not passes(folder)
    monkeypatch.setattr(bundle, "parse", lambda raw: Manifest(json.loads(raw), ""))
    with pytest.raises(KeyError):
        passes(folder)


@given(raw=st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner:
       st.lists(inner) | st.dictionaries(st.sampled_from(list(Document.__dataclass_fields__)), inner)).map(lambda v: json.dumps(v).encode()))  # fmt: skip
def test_no_text_is_taken_for_a_manifest(raw: bytes):
    with pytest.raises(BrokenBundle):
        parse(raw)


def test_the_manifest_as_it_was_passes(folder: Path):
    shutil.copy(SHIPPED / "site_weather" / "1" / "manifest.json", folder)
    assert passes(folder)
