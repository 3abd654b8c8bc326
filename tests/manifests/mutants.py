"""Planted defects: each is noticed by the check it names, and is one that somebody could make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.manifests.objects import of_kind
from tests.manifests.rendered import Manifests

Edit = Callable[[Manifests], object]


@dataclass(frozen=True)
class Mutant:
    """A defect in one rendering and the check that has to see it."""

    check: str
    edit: Edit
    where: str = "cpu"


def one(manifests: Manifests, kind: str, name: str = "") -> dict[str, Any]:
    """The first object of a kind, or of that name."""
    return next(item for item in of_kind(manifests, kind) if name in ("", item["metadata"]["name"]))


def spec(kind: str, **fields: object) -> Edit:
    """Fields of the specification replaced."""
    return lambda manifests: one(manifests, kind)["spec"].update(fields)


def pod(**fields: object) -> Edit:
    """Fields of the pods' specification replaced."""
    return lambda manifests: one(manifests, "Deployment")["spec"]["template"]["spec"].update(fields)


def container(**fields: object) -> Edit:
    """Fields of the service's container replaced."""
    return lambda manifests: served(manifests).update(fields)


def served(manifests: Manifests) -> dict[str, Any]:
    """The service's container."""
    return one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def inner(path: str, value: object, kind: str = "Deployment", name: str = "") -> Edit:
    """One value deep inside replaced; None removes it."""

    def edit(manifests: Manifests) -> None:
        place: Any = one(manifests, kind, name)
        *steps, last = [int(step) if step.isdigit() else step.replace("%", "/") for step in path.split("/")]
        for step in steps:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return edit


CONTAINER = "spec/template/spec/containers/0"
FIRST = "spec/template/spec/initContainers/0"
INIT = "cpu + model-volume/init"
SIGNED = "cpu + model-volume/pvc, signed"
MUTANTS = {
    "a beta API that was removed": Mutant("known_apis", inner("apiVersion", "policy/v1beta1", "PodDisruptionBudget")),
    "a misspelt kind": Mutant("known_apis", inner("kind", "ScaledObjects", "ScaledObject"), "cpu + keda"),
    "a name with an underscore": Mutant("names", inner("metadata/name", "surrogates_2", "Service")),
    "two objects of one name": Mutant("names", lambda m: m.append(one(m, "Service"))),
    "a namespace without Pod Security": Mutant("namespaces", inner("metadata/labels", {}, "Namespace")),
    "an object elsewhere": Mutant("namespaces", inner("metadata/namespace", "default", "Service")),
    "a selector that misses its pods": Mutant("selectors", spec("Deployment", selector={"matchLabels": {"app": "x"}})),
    "a Service for nobody": Mutant("selectors", spec("Service", selector={"app": "x"})),
    "a Service for stable and canary": Mutant(
        "targets", spec("Service", selector={"app.kubernetes.io/name": "surrogates"}), "cpu + gateway-canary"),
    "a budget for nobody": Mutant("targets", spec("PodDisruptionBudget", selector={"matchLabels": {"app": "x"}})),
    "a spread over nobody": Mutant(
        "selectors", inner("spec/template/spec/topologySpreadConstraints/0/labelSelector", {"matchLabels": {"a": "b"}})),
    "a monitor of a port nobody offers": Mutant(
        "targets", inner("spec/endpoints/0/port", "web", "ServiceMonitor"), "cpu + monitoring"),
    "a rollout that cannot move": Mutant(
        "rollout", inner("spec/strategy/rollingUpdate", {"maxSurge": 0, "maxUnavailable": "0%"})),
    "a port with a long name": Mutant("ports", inner(f"{CONTAINER}/ports/1/name", "metrics-of-the-service")),
    "two ports of one number": Mutant("ports", inner(f"{CONTAINER}/ports/1/containerPort", 8080)),
    "a Service port out of range": Mutant("asked_ports", inner("spec/ports/0/port", 80000, "Service")),
    "a Service for a port nobody has": Mutant("asked_ports", inner("spec/ports/0/targetPort", "web", "Service")),
    "a probe of a port nobody has": Mutant("asked_ports", inner(f"{CONTAINER}/livenessProbe/httpGet/port", "web")),
    "no liveness probe": Mutant("probes", inner(f"{CONTAINER}/livenessProbe", None)),
    "a liveness probe that succeeds twice": Mutant("probes", inner(f"{CONTAINER}/livenessProbe/successThreshold", 2)),
    "a restart whenever it is not ready": Mutant(
        "probes", lambda m: served(m).update(livenessProbe=served(m)["readinessProbe"])),
    "a grace shorter than what it has to cover": Mutant("drain", pod(terminationGracePeriodSeconds=30)),
    "a sleep that eats the grace": Mutant("drain", inner(f"{CONTAINER}/lifecycle/preStop/sleep/seconds", 45)),
    "a hung process that gets the whole grace": Mutant(
        "drain", inner(f"{CONTAINER}/livenessProbe/terminationGracePeriodSeconds", 60)),
    "a gateway that gives up before the service": Mutant(
        "drain", inner("spec/rules/0/timeouts/backendRequest", "20s", "HTTPRoute"), "cpu + gateway-canary"),
    "memory in Gib": Mutant("quantities", inner(f"{CONTAINER}/resources/limits/memory", "2Gib")),
    "a Secret of this repository's making": Mutant(
        "references", inner("spec/template/spec/volumes/1/secret/secretName", "other")),
    "a service without keys": Mutant("settings", inner(f"{CONTAINER}/env", [])),
    "a volume of nine megs": Mutant(
        "quantities", inner("spec/template/spec/volumes/0/emptyDir/sizeLimit", "9 Megs")),
    "a memory request below the limit": Mutant("resources", inner(f"{CONTAINER}/resources/requests/memory", "1Gi")),
    "more processor asked for than allowed": Mutant("resources", inner(f"{CONTAINER}/resources/requests/cpu", "2500m")),
    "no disk limit": Mutant("resources", inner(f"{CONTAINER}/resources/limits/ephemeral-storage", None)),
    "two GPUs asked for, one allowed": Mutant(
        "resources", inner(f"{CONTAINER}/resources/requests/nvidia.com%gpu", "2"), "gpu"),
    "bodies that the memory does not hold": Mutant(
        "memory", lambda m: one(m, "ConfigMap")["data"].update(SURROGATE_MAX_WAITING_BYTES="67108864")),
    "answers that the memory does not hold": Mutant(
        "memory", lambda m: one(m, "ConfigMap")["data"].pop("SURROGATE_MAX_VALUES")),
    "memory that the bundles take alone": Mutant("memory", inner(f"{CONTAINER}/resources/limits/memory", "1Gi")),
    "a number for a variable": Mutant("environment", container(env=[{"name": "A", "value": 1}])),
    "a variable with a dash": Mutant("environment", container(env=[{"name": "LOG-LEVEL", "value": "x"}])),
    "a mount without a volume": Mutant("volumes", pod(volumes=[{"name": "keys", "secret": {"secretName": "surrogates-keys"}}])),
    "a volume with two sources": Mutant(
        "volumes", inner("spec/template/spec/volumes/0/persistentVolumeClaim", {"claimName": "x"})),
    "a path of the node": Mutant("volumes", pod(volumes=[{"name": "tmp", "hostPath": {"path": "/srv"}}])),
    "an image by tag": Mutant("images", container(image="registry.example/surrogates:0.1.0")),
    "signatures that are asked for too late": Mutant(
        "models", inner(f"{FIRST}/args", None), SIGNED),
    "a check without its key": Mutant("models", inner(f"{FIRST}/volumeMounts", [
        {"name": "models", "mountPath": "/models", "readOnly": True}]), SIGNED),
    "an image volume by tag": Mutant(
        "images", inner("spec/template/spec/volumes/0/image", {"reference": "zoo:1"}), "cpu + model-volume/image"),
    "a first container by tag": Mutant("images", inner(f"{FIRST}/image", "rclone/rclone:latest"), INIT),
    "a spread that does not exist": Mutant(
        "spread", inner("spec/template/spec/topologySpreadConstraints/0/whenUnsatisfiable", "Whenever")),
    "all pods in one zone": Mutant("spread", inner("spec/template/spec/topologySpreadConstraints/1", None)),
    "an autoscaler from eight to two": Mutant("autoscaling", spec("HorizontalPodAutoscaler", minReplicas=9)),
    "replicas beside an autoscaler": Mutant("autoscaling", spec("Deployment", replicas=2)),
    "two autoscalers": Mutant(
        "autoscaling", lambda m: m.append(one(m, "ScaledObject") | {"kind": "ScaledObject"}), "cpu + keda"),
    "an autoscaler for nobody": Mutant(
        "autoscaling", inner("spec/scaleTargetRef/name", "other", "HorizontalPodAutoscaler")),
    "a budget with both bounds": Mutant("disruption", spec("PodDisruptionBudget", minAvailable=1)),
    "a broken pod that holds up a drain": Mutant(
        "disruption", inner("spec/unhealthyPodEvictionPolicy", None, "PodDisruptionBudget")),
    "no budget": Mutant("disruption", lambda m: m.remove(one(m, "PodDisruptionBudget"))),
    "a root user": Mutant("confinement", inner("spec/template/spec/securityContext/runAsUser", 0)),
    "a privileged container": Mutant("confinement", inner(f"{CONTAINER}/securityContext/privileged", True)),
    "a root that can be written": Mutant(
        "confinement", inner(f"{CONTAINER}/securityContext/readOnlyRootFilesystem", False)),
    "a capability too many": Mutant(
        "confinement", inner(f"{CONTAINER}/securityContext/capabilities", {"drop": ["NET_RAW"]})),
    "no seccomp": Mutant("confinement", inner("spec/template/spec/securityContext/seccompProfile", None)),
    "a first container that may gain privileges": Mutant(
        "confinement", inner(f"{FIRST}/securityContext/allowPrivilegeEscalation", True), INIT),
    "the node's network": Mutant("confinement", pod(hostNetwork=True)),
    "a token": Mutant("confinement", pod(automountServiceAccountToken=True)),
    "a token of the account": Mutant("confinement", inner("automountServiceAccountToken", None, "ServiceAccount")),
    "variables of other services": Mutant("confinement", inner("spec/template/spec/enableServiceLinks", None)),
    "a runtime with a token": Mutant(
        "confinement", inner("spec/predictor/automountServiceAccountToken", True, "InferenceService"), "kserve"),
    "a block that is none": Mutant(
        "addresses", inner("spec/egress/1/to/0/ipBlock/cidr", "10.0.0.0/33", "NetworkPolicy", "surrogates-fetch"), INIT),
    "an exception outside its block": Mutant(
        "addresses", inner("spec/egress/1/to/0/ipBlock/cidr", "10.0.0.0/8", "NetworkPolicy", "surrogates-fetch"), INIT),
    "no policy that denies": Mutant("network", lambda m: m.remove(one(m, "NetworkPolicy", "default-deny"))),
    "a policy for a port nobody serves": Mutant(
        "network", inner("spec/ingress/0/ports/0/port", 8081, "NetworkPolicy", "surrogates")),
    "a policy for everybody": Mutant(
        "network", inner("spec/ingress/0/from", None, "NetworkPolicy", "surrogates")),
    "a metrics port that the policies forget": Mutant(
        "network", lambda m: m.remove(one(m, "NetworkPolicy", "surrogates-metrics")), "cpu + monitoring"),
    "a misspelt setting": Mutant("settings", lambda m: one(m, "ConfigMap")["data"].update(SURROGATE_HOSTT="::")),
    "a value the setting does not take": Mutant(
        "settings", lambda m: one(m, "ConfigMap")["data"].update(SURROGATE_DEVICE="gpu")),
    "a service on another port": Mutant(
        "settings", lambda m: one(m, "ConfigMap")["data"].update(SURROGATE_PORT="8081")),
    "metrics on another port": Mutant(
        "settings", lambda m: one(m, "ConfigMap")["data"].update(SURROGATE_METRICS_PORT="9091")),
    "a Service whose variables are settings": Mutant(
        "injected_variables", inner("metadata/name", "surrogate-http", "Service")),
    "settings from a map that is not there": Mutant(
        "references", inner(f"{CONTAINER}/envFrom/0/configMapRef/name", "surrogates")),
    "an account that is not there": Mutant("references", pod(serviceAccountName="other")),
    "a route to a port nobody has": Mutant(
        "backends", inner("spec/rules/0/backendRefs/1/port", 8080, "HTTPRoute"), "cpu + gateway-canary"),
    "a runtime that is not there": Mutant(
        "backends", inner("spec/predictor/model/runtime", "other", "InferenceService"), "kserve"),
    "a claim that is not there": Mutant(
        "references", lambda m: m.remove(one(m, "PersistentVolumeClaim")), "cpu + model-volume/pvc"),
    "bundles nobody checked": Mutant(
        "models", inner("spec/template/spec/initContainers", []), "cpu + model-volume/pvc"),
    "bundles checked before they are there": Mutant(
        "models", lambda m: one(m, "Deployment")["spec"]["template"]["spec"]["initContainers"].reverse(), INIT),
    "bundles that the service can write": Mutant(
        "models", inner(f"{CONTAINER}/volumeMounts/0/readOnly", False), "cpu + model-volume/pvc"),
    "a GPU that is not used": Mutant(
        "device", container(env=[]), "gpu"),
    "a GPU nobody asked for": Mutant("device", inner(f"{CONTAINER}/resources/limits/nvidia.com%gpu", None), "gpu"),
    "kept away from GPUs": Mutant("device", pod(tolerations=[]), "gpu"),
    "the queue of another namespace": Mutant(
        "scaled_namespace", inner("metadata/namespace", "other", "ScaledObject"), "cpu + keda"),
}  # fmt: skip
