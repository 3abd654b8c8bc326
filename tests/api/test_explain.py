"""Explanations through the real service: what they fail is in the answer."""

import json
import shutil

import httpx

from models.repository import SHIPPED
from tests.broken_bundles import rewritten
from tests.conftest import serving


def test_a_bundle_that_failed_its_tests_of_explanations_says_so_over_http(tmp_path):
    """The figures are those site_weather once had: stations were explained from a pressure that none of them can have."""
    folder = tmp_path / "site_weather" / "1"
    shutil.copytree(SHIPPED / "site_weather" / "1", folder)
    rewritten(folder, lambda document, _: document["report"]["explanations"].update(deletion_z_median=-0.04))
    with serving(tmp_path) as address:
        url = f"{address}/v1/models/site_weather"
        body = httpx.get(f"{url}/example").json()
        body["quantity"] = {"type": "point", "lead_time": 6, "station": "NE"}
        answer = httpx.post(f"{url}/explain", json=body, timeout=60).json()
    assert answer["checks"]["registered"]["deletion_z"] == -0.04
    assert any("deletion z = -0.0 against random orders where 3 is wanted" in text for text in answer["warnings"])
    shipped = json.loads((SHIPPED / "site_weather" / "1" / "manifest.json").read_text(encoding="utf-8"))
    assert shipped["report"]["explanations"]["deletion_z_median"] >= 3
