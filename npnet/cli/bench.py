"""How fast is npnet here, and how fast could it be?

First the two limits of this machine: multiply-adds, and what memory and
caches deliver. Then the kernels at the shapes of the tutorial's network and
a whole training step, each checked before it is timed, beside NumPy and the
share of the limit they reach. Takes about a minute; other programs disturb.
"""

import argparse
import sys

from npnet.checking.measuring.benchmark import measure_kernels, measure_steps
from npnet.checking.measuring.limits import MB, measure_limits
from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import table
from npnet.cli.values import positive, print_json
from npnet.kernels import load
from npnet.kernels.machine import threads
from npnet.kernels.machine.announce import announce_compilation
from npnet.runs.terminal import say

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run", "show"]

HELP = "measure this machine's limits, the kernels and a training step"
EXAMPLES = """\
examples:
  npnet bench
  npnet bench --batch 128
  npnet bench --threads 1 --json

exit codes: 0 done, 1 a kernel is wrong, 2 wrong options
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("--batch", type=positive, action="append", metavar="N", help="samples [32 and 128]")
    parser.add_argument("--threads", type=positive, metavar="N", help="of kernels [as many as CPUs allowed]")
    parser.add_argument("--json", action="store_true", help="print JSON, times in seconds")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    load("numba")
    if arguments.threads is not None:
        threads.set_threads(arguments.threads)
    quiet, found = arguments.json, {}
    with Neighbours() as neighbours:
        with announce_compilation(sys.stderr):
            limits = measure_limits(threads.get_threads(), seconds=0.5)
        if not quiet:
            caches = ", ".join(f"{rate:.0f} in {size / MB:g} MB" for size, rate in limits.bandwidths.items())
            say("threads", str(limits.threads))
            say(
                "arithmetic",
                f"{limits.peak():.0f} GFLOP/s of float32, {limits.peak('float64'):.0f} of float64",
            )
            say("traffic", f"GB/s: {caches}")
        for batch in arguments.batch or [32, 128]:
            with announce_compilation(sys.stderr):
                kernels, steps = measure_kernels(limits, batch), measure_steps(limits, batch)
            found[batch] = {"kernels": kernels, "steps": steps}
            if not quiet:
                show(batch, kernels, steps)
    if quiet:
        about = {"threads": limits.threads, "gflops": limits.all_cores, "gb_per_second": limits.bandwidths}
        print_json({**about, "cores_of_others": neighbours.cores, "batch": found})
    else:
        print("\nlimit: the share reached of what arithmetic or traffic allow, whichever takes longer")
        say("", f"{neighbours}.".capitalize())
    return 0


def show(batch: int, kernels: list[dict], steps: list[dict]) -> None:
    """Print the tables of a batch size."""
    print(f"\nKernels at batch {batch}, float32, microseconds")
    head = ["", "npnet", "NumPy", "faster", "GFLOP/s", "limit"]
    rows = [
        [row["kernel"], f"{1e6 * row['numba']:.1f}", f"{1e6 * row['numpy']:.1f}",
         f"{row['numpy'] / row['numba']:.1f}x", f"{row['gflops']:.0f}", f"{row['share']:.0%}"]
        for row in kernels
    ]  # fmt: skip
    print(table(head, rows))
    slowest = steps[-1]["seconds"]
    print(f"\nA training step of 3072-512-512-10 at batch {batch}, RMSprop, milliseconds")
    rows = [
        [row["step"], f"{1e3 * row['seconds']:.2f}", f"{slowest / row['seconds']:.1f}x",
         f"{row['gflops']:.0f}", f"{row['share']:.0%}"]
        for row in steps
    ]  # fmt: skip
    print(table(["", "a step", "faster", "GFLOP/s", "limit"], rows), flush=True)
