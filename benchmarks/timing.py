"""Fair timing on a machine that has other things to do: interleaved rounds, medians, aligned tables."""

import statistics
import time


def interleave(calls, rounds):
    """Call A B C ... A B C ...: what disturbs one round disturbs everyone.

    ``calls`` maps a name to a function that returns its own measurement; returns a list of them for each.
    """
    results = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            results[name].append(call())
    return results


def stopwatch(call, repeats=1):
    """Return a function that measures the seconds of one ``call()``, as the mean of ``repeats``."""

    def measure():
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats

    return measure


def repeats_for(call, seconds):
    """Return how often ``call`` fits into ``seconds``, at least once; calls it twice to find out."""
    call()
    return max(1, int(seconds / max(stopwatch(call)(), 1e-7)))


median = statistics.median


def table(head, rows):
    """Lay out rows of text under a head: the first column to the left, figures to the right."""
    lines = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = []
    for line in lines:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])
