"""``python -m benchmarks.variants``: check each version against NumPy, time all in turns, print the gains."""

from functools import partial

import numpy as np

from npnet.checking.measuring.timing import calibrated, interleave, median, stopwatch, table
from npnet.kernels.machine import threads

from .. import machine
from . import forward, update

ROUNDS, SECONDS = 9, 0.05


def check(laboratory, version, layout):
    """Return the version's arguments after one run that agreed with NumPy."""
    data, _ = laboratory.problem()
    arguments = layout(*data)
    version(*arguments)
    np.testing.assert_allclose(
        laboratory.result(*arguments), laboratory.expected(*data), rtol=2e-5, atol=2e-5,
        err_msg=f"{laboratory.__name__}.{version.__name__}",
    )  # fmt: skip
    return arguments


def measure(laboratory):
    """Return rows of a table: version, milliseconds, GFLOP/s, gain over the version before."""
    data, operations = laboratory.problem()
    calls = {}
    for version, layout in laboratory.VERSIONS:
        run = stopwatch(partial(version, *check(laboratory, version, layout)))
        calls[version.__name__] = calibrated(run, SECONDS)
    calls["NumPy"] = calibrated(stopwatch(partial(laboratory.expected, *data)), SECONDS)
    times = {name: median(seconds) for name, seconds in interleave(calls, ROUNDS).items()}
    rows, before = [], None
    for name, seconds in times.items():
        gain = "" if before is None or name == "NumPy" else f"{before / seconds:.2f}x"
        rows.append([name, f"{1e3 * seconds:.3f}", f"{operations / seconds / 1e9:.0f}", gain])
        before = seconds
    return rows


def main():
    """Print both laboratories."""
    print(machine.describe(threads.get_threads()))
    for laboratory in (forward, update):
        print(f"\n{laboratory.__doc__.splitlines()[0]}\n")
        print(table(["version", "ms", "GFLOP/s", "gain"], measure(laboratory)))
        print()
        for version, _ in laboratory.VERSIONS:
            print(f"{version.__name__:16} {version.__doc__}")


if __name__ == "__main__":
    main()
