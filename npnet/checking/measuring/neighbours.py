"""Who else is at work while we measure."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["Neighbours"]


class Neighbours:
    """Measures what other programs take of the processors while a block runs, on Linux.

    Ours are this process, its children that have ended, and those whose processor time the functions
    ``cpu_times`` tell.
    """

    def __init__(self, cpu_times: Iterable[Callable[[], float]] = ()):
        self.cpu_times = [time.process_time, _ended_children, *cpu_times]
        self.known = Path("/proc/stat").exists()
        self.cores = 0.0

    def _others(self) -> float:
        return _busy_seconds() - sum(cpu_time() for cpu_time in self.cpu_times) if self.known else 0.0

    def __enter__(self) -> "Neighbours":
        self.start, self.before = time.perf_counter(), self._others()
        return self

    def __exit__(self, *_: Any) -> None:
        self.cores = max(0.0, self._others() - self.before) / (time.perf_counter() - self.start)

    def __str__(self) -> str:
        if not self.known:
            return "what other programs took meanwhile is unknown on this system"
        return f"other programs took {self.cores:.2f} of {os.cpu_count()} processors meanwhile"


def _busy_seconds() -> float:
    """Return the seconds all processors together have worked (or were withheld) since the start."""
    user, nice, system, _, _, *interrupts_and_steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def _ended_children() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
