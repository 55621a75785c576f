"""Compare runs: a table of what they came to and which settings differ, and their curves in a picture."""

import argparse
import shutil
from pathlib import Path

from npnet.checking.measuring.timing import table
from npnet.runs import comparison

__all__ = ["EXAMPLES", "FORMATS", "HELP", "add_arguments", "fitted", "run"]

HELP = "runs side by side: a table, and their curves in one picture"
EXAMPLES = """\
examples:
  npnet compare runs/cifar10-001 runs/cifar10-002
  npnet compare runs/cifar10-* --output runs/cifar10.png

exit codes: 0 done, 1 no such run or a damaged file of it, 2 wrong options
"""
FORMATS = (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("first", metavar="RUN", help="folder of a run")
    parser.add_argument("others", metavar="RUN", nargs="+", help="folders of others")
    parser.add_argument(
        "--output", metavar="FILE", default="compare.png", help="the picture: png, svg or pdf [compare.png]"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table, draw the picture."""
    if Path(arguments.output).suffix.lower() not in FORMATS:
        endings = ", ".join(FORMATS)
        arguments.parser.error(f"argument --output: must end in {endings}, got {arguments.output!r}")
    runs = comparison.read([arguments.first, *arguments.others])
    print(fitted(*comparison.rows(runs)))
    if any(run.is_open for run in runs):
        print("\n* from the last validation: this run has not been measured on the test samples")
    if not comparison.differing(runs):
        print("\nAll settings are the same.")
    comparison.draw(runs, arguments.output)
    print(f"\ncurves: {arguments.output}")
    return 0


def fitted(head: list[str], rows: list[list[str]]) -> str:
    """Return the table with a line a run, or a column a run where that fits the terminal better."""
    wide, (first, *others) = table(head, rows), zip(head, *rows, strict=True)
    if len(wide.splitlines()[1]) <= shutil.get_terminal_size().columns:
        return wide
    return min(wide, table(first, others), key=lambda text: len(text.splitlines()[1]))
