"""Checks of what runs: pods and their containers. Each yields a sentence for each fault."""

import math
import re
from collections.abc import Iterator

from api.settings import PREFIX, Settings, read_settings
from models.repository import SHIPPED, bundle_folders
from tests.manifests.objects import (
    LABEL,
    PROBES,
    QUANTITY,
    amount,
    containers,
    name_of,
    of_kind,
    settings_of,
    workloads,
)
from tests.manifests.rendered import ROOT, Manifests

OF_A_BYTE = 24  # of a body of JSON: "0," becomes a float of 24 bytes in a slot of 8, then arrays, then the answer
OF_A_NUMBER = 96  # of a forecast: in float32 and float64, as a Python float in a list, as text that grows; 77 were seen
DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def ports(manifests: Manifests) -> Iterator[str]:
    """Names short, names and numbers unique."""
    for item, pod, _ in workloads(manifests):
        declared = [port for container in containers(pod) for port in container.get("ports", [])]
        for key in ("name", "containerPort"):
            values = [port[key] for port in declared if key in port]
            if len(values) != len(set(values)):
                yield f"{name_of(item)}: ports share a {key}"
        for port in declared:
            if len(port.get("name", "")) > 15 or not LABEL.fullmatch(port.get("name", "a")):
                yield f"{name_of(item)}: port {port['name']}"


def probes(manifests: Manifests) -> Iterator[str]:
    """What serves has all three; those that restart need one success only, as the API demands."""
    for item, pod, _ in workloads(manifests):
        for container in pod["containers"] if item["kind"] != "Job" else ():
            for kind in PROBES:
                if kind not in container:
                    yield f"{name_of(item)}: no {kind}"
            for kind in ("startupProbe", "livenessProbe"):
                if container.get(kind, {}).get("successThreshold", 1) != 1:
                    yield f"{name_of(item)}: successThreshold of {kind}"
            if container.get("readinessProbe", {}) == container.get("livenessProbe", {}):
                yield f"{name_of(item)}: restarts whenever it is not ready"


def drain(manifests: Manifests) -> Iterator[str]:
    """Sleep before the end + longest request + 10 s of reserve = grace; the server gives up 5 s before the end."""
    for item, pod, _ in workloads(manifests):
        for container in pod["containers"]:
            told = settings_of(manifests, container)
            if f"{PREFIX}REQUEST_SECONDS" not in told:
                continue
            service = of_kind(manifests, "InferenceService")
            grace = (service[0]["spec"]["predictor"] if service else pod).get("terminationGracePeriodSeconds", 30)
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            longest, patience = float(told[f"{PREFIX}REQUEST_SECONDS"]), float(told[f"{PREFIX}GRACE_SECONDS"])
            if grace != sleep + longest + 10 or patience != grace - sleep - 5:
                yield f"{name_of(item)}: grace {grace}, sleep {sleep}, longest request {longest}, server waits {patience}"
            if container.get("livenessProbe", {}).get("terminationGracePeriodSeconds", 0) >= grace:
                yield f"{name_of(item)}: a process that hangs gets the whole grace"
            for route in of_kind(manifests, "HTTPRoute"):
                for rule in route["spec"]["rules"]:
                    one, all_ = (
                        float(rule["timeouts"][key].removesuffix("s")) for key in ("backendRequest", "request")
                    )
                    if not longest < one <= all_:
                        yield f"{name_of(route)}: timeouts {one}, {all_}"


def quantities(manifests: Manifests) -> Iterator[str]:
    """Quantities that Kubernetes can read."""
    for item, pod, _ in workloads(manifests):
        told = [v for c in containers(pod) for part in c.get("resources", {}).values() for v in part.values()]
        told += [v["emptyDir"]["sizeLimit"] for v in pod.get("volumes", []) if v.get("emptyDir")]
        yield from (f"{name_of(item)}: {value}" for value in told if not QUANTITY.fullmatch(str(value)))
    for item in of_kind(manifests, "PersistentVolumeClaim"):
        if not QUANTITY.fullmatch(item["spec"]["resources"]["requests"]["storage"]):
            yield f"{name_of(item)}: storage"
    for item in of_kind(manifests, "HorizontalPodAutoscaler"):
        for metric in item["spec"]["metrics"]:
            if not QUANTITY.fullmatch(metric["pods"]["target"]["averageValue"]):
                yield f"{name_of(item)}: averageValue"


def resources(manifests: Manifests) -> Iterator[str]:
    """Memory request = limit; processor and disk asked for; extended resources limited, and not asked for otherwise."""
    for item, pod, _ in workloads(manifests):
        for container in containers(pod):
            requests, limits = (container.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
            where = f"{name_of(item)}, container {container['name']}"
            if "memory" not in limits or requests.get("memory") != limits["memory"]:
                yield f"{where}: memory"
            if not {"cpu", "ephemeral-storage"} <= requests.keys() or "ephemeral-storage" not in limits:
                yield f"{where}: processor or disk"
            if any(amount(requests[key]) > amount(limits[key]) for key in requests.keys() & limits.keys()):
                yield f"{where}: more is asked for than allowed"
            for key in {key for key in requests.keys() | limits.keys() if "/" in key}:
                if key not in limits or requests.get(key, limits[key]) != limits[key] or not str(limits[key]).isdigit():
                    yield f"{where}: {key}"


def memory(manifests: Manifests) -> Iterator[str]:
    """The limit holds the bundles, bodies of JSON at their most, and the longest forecasts that are computed at once."""
    measured = re.search(r"at most (\d+) MiB", (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8"))
    bundles = int(measured[1]) * 2**20 if measured else math.inf
    models = len({folder.parent for folder in bundle_folders(SHIPPED)})
    for item, pod, _ in workloads(manifests):
        for container in pod["containers"]:
            told = {k: v for k, v in settings_of(manifests, container).items() if k.startswith(PREFIX)}
            if not told:
                continue
            settings = Settings(**{key.removeprefix(PREFIX).lower(): value for key, value in told.items()})
            inside = (
                OF_A_BYTE * settings.max_waiting_bytes * models + OF_A_NUMBER * settings.max_values * settings.callers
            )
            if not bundles + inside <= amount(container["resources"]["limits"]["memory"]):
                yield f"{name_of(item)}: {(bundles + inside) / 2**20:.0f} MiB are needed at most"


def environment(manifests: Manifests) -> Iterator[str]:
    """Names that a shell takes, values that are strings."""
    entries = [(name_of(c), key, value) for c in of_kind(manifests, "ConfigMap") for key, value in c["data"].items()]
    for item, pod, _ in workloads(manifests):
        told = [entry for container in containers(pod) for entry in container.get("env", [])]
        entries += [(name_of(item), entry["name"], entry.get("value")) for entry in told]
    for where, key, value in entries:
        if not isinstance(value, str):
            yield f"{where}: {key} is {value!r}"
        if where.startswith("Deployment") and not re.fullmatch(r"[A-Za-z_]\w*", key):
            yield f"{where}: {key}"


def volumes(manifests: Manifests) -> Iterator[str]:
    """Every mount has its volume, every volume one source and somebody who mounts it."""
    for item, pod, _ in workloads(manifests):
        sources = {volume["name"]: set(volume) - {"name"} for volume in pod.get("volumes", [])}
        mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
        yield from (f"{name_of(item)}: no volume {name}" for name in mounted - set(sources))
        yield from (f"{name_of(item)}: nobody mounts {name}" for name in set(sources) - mounted)
        yield from (f"{name_of(item)}: volume {n} has {s or 'no source'}" for n, s in sources.items() if len(s) != 1)
        if any("hostPath" in source for source in sources.values()):
            yield f"{name_of(item)}: a path of the node"


def images(manifests: Manifests) -> Iterator[str]:
    """By digest, those of volumes too; only the development overlay takes what was loaded into its cluster."""
    for item, pod, _ in workloads(manifests):
        used = [container["image"] for container in containers(pod)]
        used += [volume["image"]["reference"] for volume in pod.get("volumes", []) if "image" in volume]
        local = item["metadata"].get("namespace") == "surrogates-dev"
        for image in used:
            if not DIGEST.fullmatch(image) and not (local and image.startswith("localhost/")):
                yield f"{name_of(item)}: {image}"


def spread(manifests: Manifests) -> Iterator[str]:
    """Two constraints, of the two ways there are; what serves has both host and zone."""
    for item in of_kind(manifests, "Deployment"):
        told = item["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        if any(entry["whenUnsatisfiable"] not in ("ScheduleAnyway", "DoNotSchedule") for entry in told):
            yield f"{name_of(item)}: whenUnsatisfiable"
        keys = {entry["topologyKey"] for entry in told}
        if of_kind(manifests, "PodDisruptionBudget") and keys != {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }:
            yield f"{name_of(item)}: spread over {keys}"


def rollout(manifests: Manifests) -> Iterator[str]:
    """A rollout can move."""
    for item in of_kind(manifests, "Deployment"):
        change = item["spec"].get("strategy", {}).get("rollingUpdate", {})
        if {str(change.get(key, "25%")).removesuffix("%") for key in ("maxSurge", "maxUnavailable")} == {"0"}:
            yield f"{name_of(item)}: neither more nor fewer pods"


def confinement(manifests: Manifests) -> Iterator[str]:
    """Pod Security `restricted`, a read-only root, nothing of the cluster's own."""
    for item, pod, _ in workloads(manifests):
        shared = pod.get("securityContext", {})
        for container in containers(pod):
            told = shared | container.get("securityContext", {})
            wanted = {
                "runAsNonRoot": True, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                "seccompProfile": {"type": "RuntimeDefault"}, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            odd = [key for key, value in wanted.items() if told.get(key) != value]
            if odd or told.get("privileged") or not told.get("runAsUser", 0) > 0:
                yield f"{name_of(item)}, container {container['name']}: {odd or 'root'}"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name_of(item)}: the node's namespaces"
        predictors = [service["spec"]["predictor"] for service in of_kind(manifests, "InferenceService")]
        for place in predictors if item["kind"] == "ServingRuntime" else [pod]:
            if place.get("automountServiceAccountToken") is not False or place.get("enableServiceLinks") is not False:
                yield f"{name_of(item)}: a token, or variables of other services"
    for item in of_kind(manifests, "ServiceAccount"):
        if item.get("automountServiceAccountToken") is not False:
            yield f"{name_of(item)}: a token"


def settings(manifests: Manifests) -> Iterator[str]:
    """Every variable of ours is a setting, and together they are accepted."""
    for item, pod, _ in workloads(manifests):
        for container in pod["containers"]:
            told = {k: v for k, v in settings_of(manifests, container).items() if k.startswith(PREFIX)}
            try:
                read_settings(told)
                Settings(**{key.removeprefix(PREFIX).lower(): value for key, value in told.items()})
            except ValueError as error:
                yield f"{name_of(item)}: {error}"
            named = {port["name"]: str(port["containerPort"]) for port in container.get("ports", [])}
            if told and named.get("metrics", told[f"{PREFIX}METRICS_PORT"]) != told[f"{PREFIX}METRICS_PORT"]:
                yield f"{name_of(item)}: metrics where nobody looks"
            if told and told[f"{PREFIX}PORT"] not in named.values():
                yield f"{name_of(item)}: listens where nobody looks"


def models(manifests: Manifests) -> Iterator[str]:
    """Bundles from outside the image are checked last before the service starts, and it cannot write them.

    Whose bundles the service serves is also what the check asks for.
    """
    for item, pod, _ in workloads(manifests):
        if "models" not in {volume["name"] for volume in pod.get("volumes", [])}:
            continue
        first = pod.get("initContainers", [])
        signers = settings_of(manifests, pod["containers"][0]).get(f"{PREFIX}SIGNERS")
        wanted = ["python", "-m", "models", "--zoo", "/models", "check", *(["--signers", signers] if signers else [])]
        if not first or [*first[-1].get("command", ()), *first[-1].get("args", ())] != wanted:
            yield f"{name_of(item)}: bundles are not checked before the service starts"
        for container in [*first[-1:], *pod["containers"]]:
            folders = [mount["mountPath"] for mount in container["volumeMounts"]]
            if signers and signers.rpartition("/")[0] not in folders:
                yield f"{name_of(item)}: {container['name']} has no key to verify with"
            mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
            if [(mount["mountPath"], mount.get("readOnly")) for mount in mounts] != [("/models", True)]:
                yield f"{name_of(item)}: {container['name']} can write bundles, or has none"
        if settings_of(manifests, pod["containers"][0]).get(f"{PREFIX}ZOO") != "/models":
            yield f"{name_of(item)}: the service looks elsewhere"


def device(manifests: Manifests) -> Iterator[str]:
    """Who is told to use a GPU gets one, may go where they are, and the other way round."""
    for item, pod, _ in workloads(manifests):
        limited = any("nvidia.com/gpu" in c.get("resources", {}).get("limits", {}) for c in containers(pod))
        told = any(settings_of(manifests, c).get(f"{PREFIX}DEVICE") == "cuda" for c in pod["containers"])
        if item["kind"] == "Deployment" and limited != told:
            yield f"{name_of(item)}: GPU {limited}, device cuda {told}"
        if limited and not any(entry.get("key") == "nvidia.com/gpu" for entry in pod.get("tolerations", [])):
            yield f"{name_of(item)}: kept away from nodes with GPUs"
