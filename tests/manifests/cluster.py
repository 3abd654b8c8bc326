"""Checks of what holds objects together: names, selectors, ports, policies. Each yields a sentence for each fault."""

import ipaddress
from collections.abc import Iterator

from api.settings import PREFIX
from tests.manifests.objects import LABEL, PROBES, containers, name_of, of_kind, offered_ports, selects, workloads
from tests.manifests.rendered import Manifests

KNOWN = {
    "v1": {"Namespace", "ServiceAccount", "ConfigMap", "Service", "PersistentVolumeClaim"},
    "apps/v1": {"Deployment"},
    "batch/v1": {"Job"},
    "policy/v1": {"PodDisruptionBudget"},
    "autoscaling/v2": {"HorizontalPodAutoscaler"},
    "networking.k8s.io/v1": {"NetworkPolicy"},
    "keda.sh/v1alpha1": {"ScaledObject"},
    "gateway.networking.k8s.io/v1": {"HTTPRoute"},
    "monitoring.coreos.com/v1": {"ServiceMonitor", "PrometheusRule"},
    "serving.kserve.io/v1alpha1": {"ServingRuntime"},
    "serving.kserve.io/v1beta1": {"InferenceService"},
}
OUTSIDE = {"surrogates-keys", "surrogates-models"}  # Secrets are made by hand, never from this repository


def known_apis(manifests: Manifests) -> Iterator[str]:
    """API versions that exist: a removed one passes the schema check with a warning."""
    for item in manifests:
        if item["kind"] not in KNOWN.get(item["apiVersion"], ()):
            yield f"{name_of(item)}: {item['apiVersion']} has no such kind"


def names(manifests: Manifests) -> Iterator[str]:
    """DNS labels, unique by kind."""
    seen = set()
    for item in manifests:
        if not LABEL.fullmatch(item["metadata"]["name"]):
            yield f"{name_of(item)}: no DNS label"
        if name_of(item) in seen:
            yield f"{name_of(item)} is there twice"
        seen.add(name_of(item))
    for item, pod, _ in workloads(manifests):
        for container in containers(pod):
            if not LABEL.fullmatch(container["name"]):
                yield f"{name_of(item)}: container {container['name']}"


def namespaces(manifests: Manifests) -> Iterator[str]:
    """One namespace, made here, that enforces Pod Security `restricted`."""
    made = {item["metadata"]["name"]: item for item in of_kind(manifests, "Namespace")}
    used = {item["metadata"].get("namespace") for item in manifests if item["kind"] != "Namespace"}
    if used != set(made):
        yield f"objects in {used}, namespaces {set(made)}"
    for item in made.values():
        for mode in ("enforce", "warn", "audit"):
            if item["metadata"].get("labels", {}).get(f"pod-security.kubernetes.io/{mode}") != "restricted":
                yield f"{name_of(item)}: {mode}"


def selectors(manifests: Manifests) -> Iterator[str]:
    """Selectors find their pods."""
    pods = [labels for _, _, labels in workloads(manifests)]
    for item in of_kind(manifests, "Deployment"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if not item["spec"]["selector"].get("matchLabels") or not selects(item["spec"]["selector"], labels):
            yield f"{name_of(item)}: selector"
        for constraint in item["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            if not selects(constraint.get("labelSelector"), labels):
                yield f"{name_of(item)}: spread over {constraint['topologyKey']}"
    for item in of_kind(manifests, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        key = "podSelector" if item["kind"] == "NetworkPolicy" else "selector"
        selector = item["spec"].get(key, {})
        selector = {"matchLabels": selector} if item["kind"] == "Service" else selector
        if not any(selects(selector, labels) for labels in pods):
            yield f"{name_of(item)} selects nothing"


def targets(manifests: Manifests) -> Iterator[str]:
    """A Service and a budget are for one workload; a monitor finds a Service that offers its port."""
    pods = [labels for _, _, labels in workloads(manifests)]
    for item in of_kind(manifests, "Service", "PodDisruptionBudget"):
        found = item["spec"].get("selector", {})
        found = found if item["kind"] == "Service" else found.get("matchLabels", {})
        if sum(found.items() <= labels.items() for labels in pods) != 1:
            yield f"{name_of(item)} does not select one workload"
    for item in of_kind(manifests, "ServiceMonitor"):
        services = [
            s for s in of_kind(manifests, "Service") if selects(item["spec"]["selector"], s["metadata"]["labels"])
        ]
        offered = {port["name"] for service in services for port in service["spec"]["ports"]}
        if not {endpoint["port"] for endpoint in item["spec"]["endpoints"]} <= offered:
            yield f"{name_of(item)}: no Service has its port"


def asked_ports(manifests: Manifests) -> Iterator[str]:
    """Every port of a Service and of a probe is somebody's."""
    for item, pod, _ in workloads(manifests):
        for container in pod["containers"]:
            known = {port.get(key) for port in container.get("ports", []) for key in ("name", "containerPort")}
            for kind in PROBES:
                probe = container.get(kind, {})
                target = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if target is not None and target not in known:
                    yield f"{name_of(item)}: {kind} asks port {target}"
    for service in of_kind(manifests, "Service"):
        offered = offered_ports(manifests, service)
        for port in service["spec"]["ports"]:
            if not 1 <= port["port"] <= 65535:
                yield f"{name_of(service)}: port {port['port']}"
            if port.get("targetPort", port["port"]) not in offered:
                yield f"{name_of(service)}: no pod offers {port.get('targetPort')}"


def autoscaling(manifests: Manifests) -> Iterator[str]:
    """Least ≤ most; one autoscaler for each workload, which then says nothing of replicas."""
    targets: list[str] = []
    for item in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        spec = item["spec"]
        least, most = ((spec.get(f"{end}Replicas") or spec.get(f"{end}ReplicaCount")) for end in ("min", "max"))
        if not 1 <= least <= most:
            yield f"{name_of(item)}: {least} to {most}"
        targets.append(spec["scaleTargetRef"]["name"])
        if not least <= spec.get("fallback", {}).get("replicas", least) <= most:
            yield f"{name_of(item)}: fallback"
    deployments = {item["metadata"]["name"]: item for item in of_kind(manifests, "Deployment")}
    for name in set(targets):
        if targets.count(name) > 1:
            yield f"{name} has {targets.count(name)} autoscalers"
        if name not in deployments:
            yield f"an autoscaler for {name}, which is not there"
        elif "replicas" in deployments[name]["spec"]:
            yield f"{name}: every apply would reset what the autoscaler chose"


def disruption(manifests: Manifests) -> Iterator[str]:
    """Exactly one bound; a broken pod does not hold up a drain; what is scaled has a budget."""
    for item in of_kind(manifests, "PodDisruptionBudget"):
        if ("minAvailable" in item["spec"]) == ("maxUnavailable" in item["spec"]):
            yield f"{name_of(item)}: bounds"
        if item["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name_of(item)}: broken pods hold up a drain"
    budgets = [item["spec"].get("selector") for item in of_kind(manifests, "PodDisruptionBudget")]
    for item in of_kind(manifests, "Deployment"):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if "replicas" not in item["spec"] and not any(selects(budget, labels) for budget in budgets):
            yield f"{name_of(item)}: no budget"


def addresses(manifests: Manifests) -> Iterator[str]:
    """Blocks of addresses that exist, exceptions inside them."""
    for item in of_kind(manifests, "NetworkPolicy"):
        rules = [*item["spec"].get("ingress", []), *item["spec"].get("egress", [])]
        for peer in (peer for rule in rules for peer in [*rule.get("from", []), *rule.get("to", [])]):
            try:
                block = peer.get("ipBlock")
                whole = ipaddress.ip_network(block["cidr"]) if block else None
                inside = [ipaddress.ip_network(one) for one in block.get("except", [])] if block else []
            except ValueError as error:
                yield f"{name_of(item)}: {error}"
            else:
                yield from (f"{name_of(item)}: {one} is outside" for one in inside if not one.subnet_of(whole))


def network(manifests: Manifests) -> Iterator[str]:
    """Everything denied that is not allowed, and allowed are the ports of the Services, to somebody in particular."""
    policies = of_kind(manifests, "NetworkPolicy")
    if not any(p["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for p in policies):
        yield "no policy denies what is not allowed"
    for item in policies:
        for rule in [*item["spec"].get("ingress", []), *item["spec"].get("egress", [])]:
            if not (rule.get("from") or rule.get("to")) or not rule.get("ports"):
                yield f"{name_of(item)}: a rule for everybody or for every port"
    for service in of_kind(manifests, "Service"):
        offered = offered_ports(manifests, service)
        wanted = {offered.get(port.get("targetPort", port["port"])) for port in service["spec"]["ports"]}
        pods = next(
            (labels for _, _, labels in workloads(manifests) if service["spec"]["selector"].items() <= labels.items()),
            {},
        )
        allowed = {
            offered.get(port["port"], port["port"])
            for item in policies if selects(item["spec"]["podSelector"], pods)
            for rule in item["spec"].get("ingress", []) for port in rule.get("ports", [])
        }  # fmt: skip
        together = service["metadata"]["name"].startswith("dask")  # scheduler, workers and jobs share one policy
        if not wanted <= allowed if together else wanted != allowed:
            yield f"{name_of(service)}: offers {wanted}, the policies allow {allowed}"


def injected_variables(manifests: Manifests) -> Iterator[str]:
    """<SERVICE>_PORT, which Kubernetes may put into every environment, is no setting of ours."""
    for item in of_kind(manifests, "Service", "InferenceService"):
        if f"{item['metadata']['name'].upper().replace('-', '_')}_".startswith(PREFIX):
            yield f"{name_of(item)}: its variables would be read as settings"


def references(manifests: Manifests) -> Iterator[str]:
    """What is named is there."""
    there = {name_of(item) for item in manifests}
    for item, pod, _ in workloads(manifests):
        wanted = {f"ServiceAccount {pod['serviceAccountName']}"} if "serviceAccountName" in pod else set()
        for container in containers(pod):
            wanted |= {f"ConfigMap {source['configMapRef']['name']}" for source in container.get("envFrom", [])}
        for volume in pod.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                wanted.add(f"PersistentVolumeClaim {volume['persistentVolumeClaim']['claimName']}")
            if "secret" in volume and volume["secret"]["secretName"] not in OUTSIDE:
                yield f"{name_of(item)}: Secret {volume['secret']['secretName']}"
        yield from (f"{name_of(item)}: no {name}" for name in wanted - there)


def backends(manifests: Manifests) -> Iterator[str]:
    """Routes lead to Services, an InferenceService to its runtime."""
    there = {name_of(item) for item in manifests}
    for item in of_kind(manifests, "HTTPRoute"):
        for backend in (backend for rule in item["spec"]["rules"] for backend in rule["backendRefs"]):
            found = [s for s in of_kind(manifests, "Service") if s["metadata"]["name"] == backend["name"]]
            if not any(port["port"] == backend["port"] for s in found for port in s["spec"]["ports"]):
                yield f"{name_of(item)}: no Service {backend['name']} with port {backend['port']}"
    for item in of_kind(manifests, "InferenceService"):
        runtime = item["spec"]["predictor"]["model"]["runtime"]
        if f"ServingRuntime {runtime}" not in there:
            yield f"{name_of(item)}: no runtime {runtime}"


def scaled_namespace(manifests: Manifests) -> Iterator[str]:
    """The query names the namespace that is scaled: Kustomize does not write it there."""
    for item in of_kind(manifests, "ScaledObject"):
        query = item["spec"]["triggers"][0]["metadata"]["query"]
        if f'namespace="{item["metadata"]["namespace"]}"' not in query:
            yield f"{name_of(item)}: {query}"
