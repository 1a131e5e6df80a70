"""The limit of a container's processors, in files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from server import processors


def _write(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # Version 2: in a container the own group is the root.
        ({"own": "0::/", "cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"own": "0::/", "cgroup/cpu.max": "max 100000"}, None),
        # On a host, or where the path is the host's though the files are not.
        ({"own": "0::/a/b", "cgroup/a/cpu.max": "200000 100000", "cgroup/a/b/cpu.max": "max 100000"}, 2.0),
        ({"own": "0::/a/b", "cgroup/a/cpu.max": "50000 100000", "cgroup/a/b/cpu.max": "200000 100000"}, 0.5),
        ({"own": "0::/../pod", "cgroup/cpu.max": "400000 100000"}, 4.0),
        # Version 1.
        (
            {
                "own": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/",
                "cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
                "cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            {
                "own": "3:cpu:/pod",
                "cgroup/cpu/cpu.cfs_quota_us": "-1",
                "cgroup/cpu/cpu.cfs_period_us": "100000",
                "cgroup/cpu/pod/cpu.cfs_quota_us": "100000",
                "cgroup/cpu/pod/cpu.cfs_period_us": "50000",
            },
            2.0,
        ),
        ({"own": "3:cpuset:/pod", "cgroup/cpu/cpu.cfs_quota_us": "1"}, None),
        # Nothing that can be read.
        ({}, None),
        ({"own": "0::/", "cgroup/cpu.max": "nonsense"}, None),
    ],
)
def test_the_least_limit_counts(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    assert processors.limit(*_write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 8), (0.5, 1), (1.0, 1), (1.9, 1), (2.0, 2), (7.5, 7), (64.0, 8)],
)
def test_there_is_a_worker_for_each_whole_processor_and_one_at_least(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, expected: int
) -> None:
    monkeypatch.setattr(processors, "limit", lambda: limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert processors.workers()[0] == expected
