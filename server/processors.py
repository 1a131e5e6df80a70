"""How many processors this process may use, as its container says."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def limit(cgroups: Path = _CGROUPS, own: Path = _OWN) -> float | None:
    """Return the limit of the control groups, in processors; None where there is none.

    Of the group of this process and all above it the least counts. Version 2 has ``cpu.max``, version 1 has
    ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``. In a container the path may be the host's, while the files
    are at the root.
    """
    least = math.inf
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        # hierarchy-ID:controllers:path; version 2 has the ID 0 and no controllers.
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            roots, read = [cgroups, cgroups / "unified"], _version_2
        elif "cpu" in controllers.split(","):
            roots, read = [cgroups / controllers, cgroups / "cpu"], _version_1
        else:
            continue
        group = Path(path.lstrip("/"))
        least = min(
            least,
            *(
                read(root / each)
                for root in roots
                for each in (group, *group.parents)
                if ".." not in each.parts
            ),
        )
    return None if math.isinf(least) else least


def workers() -> tuple[int, str]:
    """Return how many workers there should be, one for each whole processor, and what says so."""
    available = len(os.sched_getaffinity(0))
    found = limit()
    if found is None or found >= available:
        return available, f"{available} processors, and no lower limit"
    return max(1, int(found)), f"a limit of {found:g} processors"


def _version_2(group: Path) -> float:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _version_1(group: Path) -> float:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        return math.inf if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf
