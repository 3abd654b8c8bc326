"""What a schema cannot see in rendered manifests."""

from collections.abc import Callable, Iterator

from tests.manifests import cluster, pods
from tests.manifests.rendered import Manifests

Check = Callable[[Manifests], Iterator[str]]
CHECKS: dict[str, Check] = {
    name: check
    for module in (cluster, pods)
    for name, check in vars(module).items()
    if callable(check) and check.__module__ == module.__name__
}
