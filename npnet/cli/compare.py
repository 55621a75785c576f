"""Compare runs: a table of what they came to and which settings differ, their curves in a picture or page."""

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
  npnet compare runs/cifar10-* --html runs/cifar10.html

exit codes: 0 done, 1 no such run or a damaged file of it, 2 wrong options
"""
FORMATS = (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("first", metavar="RUN", help="folder of a run")
    parser.add_argument("others", metavar="RUN", nargs="+", help="folders of others")
    parser.add_argument(
        "--output", metavar="FILE", help="the picture: png, svg or pdf [compare.png, none with --html]"
    )
    parser.add_argument("--html", metavar="FILE", help="a page with the curves, the results and the settings")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, draw the picture, write the page."""
    output = arguments.output or (None if arguments.html else "compare.png")
    if output and Path(output).suffix.lower() not in FORMATS:
        endings = ", ".join(FORMATS)
        arguments.parser.error(f"argument --output: must end in {endings}, got {output!r}")
    if arguments.html and Path(arguments.html).suffix.lower() not in (".html", ".htm"):
        arguments.parser.error(f"argument --html: must end in .html, got {arguments.html!r}")
    runs = comparison.read([arguments.first, *arguments.others])
    print(fitted(*comparison.rows(runs)))
    if any(run.is_open for run in runs):
        print("\n* from the last validation: this run has not been measured on the test samples")
    if not comparison.differing(runs):
        print("\nAll settings are the same.")
    if output:
        comparison.draw(runs, output)
        print(f"\ncurves: {output}")
        if missing := comparison.left_out(runs):
            print(f"without {', '.join(missing)}: no {comparison.drawn_metric(runs)} after any epoch")
    if arguments.html:
        comparison.write_page(runs, arguments.html)
        print(f"\npage: {arguments.html}")
    return 0


def fitted(head: list[str], rows: list[list[str]]) -> str:
    """Return the table with a line a run, or a column a run where that fits the terminal better."""
    wide, (first, *others) = table(head, rows), zip(head, *rows, strict=True)
    if len(wide.splitlines()[1]) <= shutil.get_terminal_size().columns:
        return wide
    return min(wide, table(first, others), key=lambda text: len(text.splitlines()[1]))
