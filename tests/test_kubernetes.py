"""Manifests as a cluster gets them: schemas, checks of our own, and the defects that each check was seen to catch."""

from copy import deepcopy

import kubernetes_validate
import pytest
import yaml

from tests.manifests import rendered
from tests.manifests.checks import CHECKS
from tests.manifests.cluster import KNOWN
from tests.manifests.mutants import MUTANTS, one
from tests.manifests.objects import of_kind, workloads

VERSIONS = ("1.31", "1.33", "1.37")
NAMES = [*(path.name for path in rendered.alone()), *rendered.together()]
BUILT_IN = {version for version in KNOWN if "." not in version or version.endswith("k8s.io/v1")} - {
    "gateway.networking.k8s.io/v1"
}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wrong_with_what_a_cluster_gets(name: str):
    manifests = rendered.everything()[name]
    assert [fault for check in CHECKS.values() for fault in check(manifests)] == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_defect_is_noticed(name: str):
    mutant = MUTANTS[name]
    manifests = deepcopy(rendered.everything()[mutant.where])
    mutant.edit(manifests)
    assert list(CHECKS[mutant.check](manifests)) != []


def test_every_check_has_a_defect_to_catch():
    assert {mutant.check for mutant in MUTANTS.values()} == set(CHECKS)


def schema_faults(manifests: rendered.Manifests, version: str) -> list[str]:
    found = []
    for item in manifests:
        if item["apiVersion"] in BUILT_IN:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{item['kind']}: {error.message}")
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas_of_several_versions_accept_every_object(version: str):
    distinct = {yaml.safe_dump(item): item for manifests in rendered.everything().values() for item in manifests}
    assert schema_faults(list(distinct.values()), version) == []


def test_schemas_see_an_unknown_field_and_a_wrong_type():
    manifests = deepcopy(rendered.everything()["cpu"])
    one(manifests, "Deployment")["spec"]["paus"] = True
    one(manifests, "Service")["spec"]["ports"][0]["port"] = "eighty"
    assert len(schema_faults(manifests, VERSIONS[-1])) == 2


def test_no_manifest_holds_a_secret_or_stands_in_base_without_an_overlay_choosing_its_namespace():
    assert [m for manifests in rendered.everything().values() for m in of_kind(manifests, "Secret")] == []
    base = rendered.build(rendered.K8S / "base")
    assert [item for item in base if "namespace" in item["metadata"] or item["kind"] == "Namespace"] == []


def test_what_scaling_reads_is_measured(client):
    manifests = rendered.everything()["cpu + keda"] + rendered.everything()["cpu"]
    query = one(manifests, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]
    metric = one(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert f"sum({metric}{{" in query
    assert f"# TYPE {metric} gauge" in client.get("/metrics").text


def test_the_operator_gets_the_rules_that_promtool_tested():
    folder = rendered.K8S / "components" / "monitoring"
    rule = one(rendered.everything()["cpu + monitoring"], "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((folder / "rules.yaml").read_text(encoding="utf-8")), "run make rules"


def test_probes_ask_routes_of_the_service(client):
    asked = {
        container[probe]["httpGet"]["path"]
        for manifests in rendered.everything().values()
        for _, pod, _ in workloads(manifests)
        for container in pod["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if "httpGet" in container.get(probe, {})
    }
    assert {path: client.get(path).status_code for path in asked} == dict.fromkeys(asked, 200)
