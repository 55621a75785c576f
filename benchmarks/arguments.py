"""What the benchmarks have in common on the command line."""

import argparse
from pathlib import Path

from npnet.kernels.machine.cpus import usable_cpus


def numbers(text):
    """Read "32,128" as [32, 128]."""
    return [int(part) for part in text.split(",")]


def names(text):
    """Read "jax,torch" as ["jax", "torch"]."""
    return [name for name in text.split(",") if name]


def parser(name, purpose, rounds):
    """Return a parser that knows --rounds, --threads and --json."""
    result = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=purpose)
    result.add_argument("--rounds", type=int, default=rounds, help="measurements of each, interleaved")
    result.add_argument("--threads", type=int, default=usable_cpus(), help="for everyone alike")
    result.add_argument("--json", type=Path, help="write every measurement to this file")
    return result


def add_pictures(result):
    """Add --quick and --out to a parser."""
    result.add_argument("--quick", action="store_true", help="few values, short runs")
    result.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for the pictures")
