"""What this process may use: cores by affinity and by the quotas of control groups."""

import os
from pathlib import Path

import pytest

from models.runtime import _quotas, available_cores

OTHERS = "3:memory:/box\n2:cpuset:/box\n"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"": "200000 100000"}, [2]),  # a container, which sees its own group as the root
        ({"slice/unit": "150000 100000"}, [1]),  # a service of systemd
        ({"slice": "400000 100000", "slice/unit": "max 100000"}, [4]),  # the group above
        ({"slice": "400000 100000", "slice/unit": "300000 100000"}, [3, 4]),
        ({"slice/unit": "50000 100000"}, [1]),  # less than a core
        ({"slice/other": "100000 100000"}, []),
        ({"slice/unit": "nonsense"}, []),
        ({}, []),
    ],
)
def test_the_quota_of_every_group_on_the_way_up_counts(tmp_path, limits, cores):
    for path, text in limits.items():
        group(tmp_path / path, cpu_max=text)
    assert list(_quotas(tmp_path, "0::/slice/unit\n")) == cores


@pytest.mark.parametrize(
    ("path", "quota", "cores"),
    [("", "300000", [3]), ("box", "200000", [2]), ("box", "-1", []), ("box/inner", "100000", [])],
)
def test_quotas_of_the_first_version_count_too(tmp_path, path, quota, cores):
    group(tmp_path / "cpu" / path, cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000")
    assert list(_quotas(tmp_path, f"{OTHERS}1:cpu,cpuacct:/box\n0::/box\n")) == cores


def test_there_is_a_core_at_least_and_no_more_than_the_affinity_mask_allows():
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
