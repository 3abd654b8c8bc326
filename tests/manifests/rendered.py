"""Manifests as a cluster gets them: every overlay, and overlays with components."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
COMPONENTS = sorted(
    p.parent
    for p in K8S.glob("components/**/kustomization.yaml")
    if "kind: Component" in p.read_text() and p.parent.name not in ("verified", "signed")
)
EXCLUSIVE = ("image", "pvc", "init")  # one way to bring models at a time
Manifests = list[dict[str, Any]]


def alone() -> list[Path]:
    """Everything that is applied by itself."""
    return [*sorted((K8S / "overlays").iterdir()), K8S / "kserve", K8S / "dask", K8S / "training"]


def together() -> dict[str, tuple[Path, list[Path]]]:
    """Overlays with each component, and with all that go together."""
    found = {}
    for overlay in (K8S / "overlays" / "cpu", K8S / "overlays" / "gpu"):
        for component in COMPONENTS:
            found[f"{overlay.name} + {component.relative_to(K8S / 'components')}"] = (overlay, [component])
    combined = [path for path in COMPONENTS if path.name not in EXCLUSIVE]
    for way in EXCLUSIVE:
        volume = K8S / "components" / "model-volume"
        found[f"cpu + model-volume/{way}, signed"] = (K8S / "overlays" / "cpu", [volume / "signed", volume / way])
        added = [*combined, volume / way]
        found[f"cpu + all with models by {way}"] = (K8S / "overlays" / "cpu", added)
    return found


def build(folder: Path) -> Manifests:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _combine(overlay: Path, components: list[Path], into: Path) -> Manifests:
    """The overlay as if its `components` named these."""
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text(encoding="utf-8"))
    folder = into / "k8s" / "overlays" / overlay.name
    kustomization["components"] = [f"../../{path.relative_to(K8S)}" for path in components]
    subprocess.run(["cp", "-r", K8S, into], check=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return build(folder)


def _one(item: tuple[str, tuple[Path, list[Path]]]) -> Manifests:
    overlay, components = item[1]
    if not components:
        return build(overlay)
    with TemporaryDirectory() as folder:
        return _combine(overlay, components, Path(folder))


@cache
def everything() -> dict[str, Manifests]:
    """All of them by name, built once."""
    wanted = {path.name: (path, []) for path in alone()} | together()
    with ThreadPoolExecutor(4) as threads:
        return dict(zip(wanted, threads.map(_one, wanted.items()), strict=True))
