"""Alert rules and dashboard: promtool runs their unit tests, and neither names what does not exist."""

import json
import re
import shutil

import pytest
import yaml

from tests.conftest import ROOT
from tests.prometheus import promtool

FOLDER = ROOT / "k8s" / "components" / "monitoring"
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((FOLDER / "rules.yaml").read_text(encoding="utf-8"))
METRIC = re.compile(r"\bsurrogate_\w+?(?=_bucket\b|_count\b|_sum\b|\b)")


def rules() -> list[dict[str, str]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in rules())]


def test_rules_pass_their_own_tests():
    for command in (("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yml")):
        done = promtool(*command[:2], str(FOLDER / command[2]))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("right", "wrong"), [('code=~"5.."', 'code=~"4.."'), ("< 1e-6", "< 1e-12")])
def test_rules_that_are_wrong_fail_them(tmp_path, right, wrong):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "rules.yaml").read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "rules.yaml").write_text(text.replace(right, wrong), encoding="utf-8")
    assert promtool("test", "rules", str(tmp_path / "rules_test.yml")).returncode == 1


def test_every_alert_has_a_case_in_which_it_fires():
    cases = yaml.safe_load((FOLDER / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    fires = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]}
    assert fires == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_metric_that_is_looked_at_exists():
    found = {name for text in expressions() for name in METRIC.findall(text)}
    assert len(found) > 15
    assert [name for name in sorted(found) if f"`{name}`" not in PAGE] == []


def test_every_ratio_that_is_looked_at_is_recorded():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for text in expressions() for name in re.findall(r"surrogate:[\w:]+", text)}
    assert used <= recorded


def test_every_alert_says_what_to_do():
    assert [rule["alert"] for rule in rules() if "alert" in rule and f"`{rule['alert']}`" not in PAGE] == []
