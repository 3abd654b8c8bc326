"""Rendered objects, and what the checks ask of them."""

import re
from collections.abc import Iterator
from typing import Any

from tests.manifests.rendered import Manifests

QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
UNITS = {"": 1, "m": 1e-3, "k": 1e3, "Ki": 2**10, "M": 1e6, "Mi": 2**20, "G": 1e9, "Gi": 2**30, "T": 1e12, "Ti": 2**40}
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def of_kind(manifests: Manifests, *kinds: str) -> list[dict[str, Any]]:
    """The objects of some kinds."""
    return [item for item in manifests if item["kind"] in kinds]


def name_of(item: dict[str, Any]) -> str:
    """Kind and name, for sentences."""
    return f"{item['kind']} {item['metadata']['name']}"


def workloads(manifests: Manifests) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, str]]]:
    """Whatever makes pods, with the pods' specification and labels."""
    for item in of_kind(manifests, "Deployment", "Job"):
        template = item["spec"]["template"]
        yield item, template["spec"], template["metadata"]["labels"]
    for item in of_kind(manifests, "ServingRuntime"):
        yield item, item["spec"], {"serving.kserve.io/inferenceservice": "surrogates"}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Containers of a pod, those that run first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether labels match; an empty selector takes everything."""
    wanted = (selector or {}).get("matchLabels", {})
    return wanted.items() <= labels.items()


def amount(quantity: object) -> float:
    """A quantity as a number; NaN where it is none."""
    match = QUANTITY.fullmatch(str(quantity))
    return float(re.match(r"[\d.]+", str(quantity))[0]) * UNITS[match[2] or ""] if match else float("nan")


def settings_of(manifests: Manifests, container: dict[str, Any]) -> dict[str, str]:
    """The environment of a container, as far as it is told here."""
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(manifests, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps.get(source["configMapRef"]["name"], {})
    return found | {entry["name"]: entry["value"] for entry in container.get("env", [])}


def offered_ports(manifests: Manifests, service: dict[str, Any]) -> dict[str | int, int]:
    """Ports of the pods behind a Service: number by name and by number."""
    found: dict[str | int, int] = {}
    for _, pod, labels in workloads(manifests):
        if service["spec"].get("selector", {}).items() <= labels.items():
            for container in pod["containers"]:
                for port in container.get("ports", []):
                    found |= {port.get("name", ""): port["containerPort"], port["containerPort"]: port["containerPort"]}
    return found
