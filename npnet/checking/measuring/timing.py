"""Fair timing on a machine that has other things to do: interleaved rounds, medians, aligned tables."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["PAUSE", "calibrated", "interleave", "median", "stopwatch", "table"]

PAUSE = 0.13  # seconds; OpenBLAS's idle threads keep a core busy as long after their last product

median = statistics.median


def interleave(calls: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[Any]]:
    """Call A B C ... A B C ...: what disturbs one round disturbs everyone.

    ``calls`` maps a name to a function that returns its own measurement; returns a list of them for each.
    """
    results: dict[Any, list[Any]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            results[name].append(call())
    return results


def stopwatch(work: Callable[[], Any]) -> Callable[[int], float]:
    """Return what ``calibrated`` wants: the seconds of so many runs of ``work``."""

    def seconds(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        return time.perf_counter() - start

    return seconds


def calibrated(time_of: Callable[[int], float], seconds: float, most: int = 10**6) -> Callable[[], float]:
    """Return a function that measures one repetition, by a run of about ``seconds``.

    ``time_of(times)`` runs that many repetitions and returns the seconds they took.
    """
    times = 1
    for _ in range(3):  # an estimate gets better the longer the run it rests on
        time_of(times)  # the first run of a length may compile
        better = max(1, min(round(seconds * times / time_of(times)), 20 * times, most))
        if better == times:
            break
        times = better
    else:
        time_of(times)
    return lambda: time_of(times) / times


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Lay out rows of text under a head: the first column to the left, figures to the right."""
    lines = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])
