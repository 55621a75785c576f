"""How many CPUs this process may use: what scheduler and container allow, not what the machine has."""

import math
import os
from pathlib import Path

__all__ = ["allowed_cpus", "cpu_quota", "usable_cpus"]


def usable_cpus() -> int:
    """Return the CPUs this process may run on, or its quota of CPU time rounded up if that is less."""
    return max(1, math.ceil(min(allowed_cpus(), cpu_quota())))


def allowed_cpus() -> int:
    """Return the number of CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float:
    """Return how many CPUs' worth of time the control groups of this process allow, infinity if all.

    The smallest of its own group's and of those above. Source: Linux, Documentation/admin-guide, cpu.max
    (cgroup-v2.rst) and cpu.cfs_quota_us (cgroup-v1).
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    quotas = [math.inf]
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers  # v2 names no controllers
        place = mount / group.lstrip("/")
        quotas += [_quota(above) for above in (place, *place.parents) if above.is_relative_to(mount)]
    return min(quotas)


def _quota(group: Path) -> float:
    try:
        if (unified := group / "cpu.max").exists():
            quota, period = unified.read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        cpus = float(quota) / float(period)
    except (OSError, ValueError):  # no such file here, or "max 100000"
        return math.inf
    return cpus if cpus > 0 else math.inf  # -1: no limit
