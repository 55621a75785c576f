"""Compile the kernels now.

Otherwise the first training compiles those it needs. Machine code is kept
and found again by every later process, until npnet, Numba, NumPy or the
processor is another.
"""

import argparse
import sys
import time

from npnet.internal.progress import clock
from npnet.kernels import load
from npnet.models.summary import binary_size

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "compile the kernels now"
EXAMPLES = """\
examples:
  npnet warmup              for training
  npnet warmup --float64    for gradient checks in float64, too

exit codes: 0 done, 1 there is no folder to keep them in, 2 wrong options
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("--float64", action="store_true", help="also for gradient checks")


def run(arguments: argparse.Namespace) -> int:
    """Compile, and say how long it took and where the machine code is."""
    load("numba")
    from npnet.kernels.machine import cache
    from npnet.runs.warmup import compile_kernels

    before, started = cache.describe(), time.perf_counter()
    if before["cache_folder"] is None:
        print(f"npnet warmup: {before['cache_problem']}", file=sys.stderr)
        return 1
    for dtype in ("float32", "float64") if arguments.float64 else ("float32",):
        compile_kernels(dtype)
    after = cache.describe()
    new = after["cached_kernels"] - before["cached_kernels"]
    if new:
        print(f"Compiled {new} kernels in {clock(time.perf_counter() - started)}.")
    else:
        print("Nothing to do: all kernels are compiled.")
    size = binary_size(after["cached_bytes"])
    print(f"{after['cached_kernels']} kernels, {size}, are in {after['cache_folder']}")
    return 0
