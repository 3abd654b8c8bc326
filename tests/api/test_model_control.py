"""Loading and unloading over the API, where the operator allows it, with Triton's own client."""

import shutil

import httpx
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from models.repository import SHIPPED
from tests import broken_bundles
from tests.conftest import serving


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    zoo = tmp_path_factory.mktemp("control") / "zoo"
    for name in ("burgers", "site_weather"):
        shutil.copytree(SHIPPED / name, zoo / name)
    with serving(zoo, SURROGATE_MODEL_CONTROL="true", SURROGATE_RELOAD_SECONDS="0") as address:
        yield address, zoo


def test_a_model_is_unloaded_and_loaded_again(served):
    address, _ = served
    with triton.InferenceServerClient(address.removeprefix("http://")) as link:
        link.unload_model("burgers")
        assert not link.is_model_ready("burgers") and link.is_model_ready("site_weather")
        assert httpx.get(f"{address}/v1/models/burgers").status_code == 404
        rows = {row["name"]: row for row in link.get_model_repository_index()}
        assert (rows["burgers"]["state"], rows["burgers"]["reason"]) == ("UNAVAILABLE", "unloaded")
        link.load_model("burgers")
        assert link.is_model_ready("burgers")
        assert httpx.get(f"{address}/v1/models/burgers").status_code == 200


@pytest.mark.parametrize("given", [[1], 5, "config", True])
def test_parameters_that_are_no_object_are_refused(served, given):
    address, _ = served
    for call in ("load", "unload"):
        path = f"{address}/v2/repository/models/burgers/{call}"
        answer = httpx.post(path, json={"parameters": given})
        assert answer.status_code == 400 and "parameters: Expected an object" in answer.json()["error"]


def test_what_cannot_be_loaded_says_why_and_the_old_one_goes_on(served):
    address, zoo = served
    with triton.InferenceServerClient(address.removeprefix("http://")) as link:
        broken_bundles.truncated(zoo / "site_weather" / "1")
        with pytest.raises(InferenceServerException, match=r"weights\.bin"):
            link.load_model("site_weather")
        assert link.is_model_ready("site_weather")
        with pytest.raises(InferenceServerException, match="atlantis"):
            link.load_model("atlantis")
        with pytest.raises(InferenceServerException, match="own directory"):
            link.load_model("burgers", config="{}")
