"""Write the report of a run again.

One HTML page made of the files in the run's folder, to look at, to print or to send: it needs no other file
and no network. A training run that is still going on can be looked at too.
"""

import argparse

from npnet.runs import report
from npnet.runs.folder import RunFolder

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write a run's report.html again"
EXAMPLES = """\
examples:
  npnet report runs/cifar10-001
  npnet report runs/*              of all runs

exit codes: 0 done, 1 no such run or a damaged file of it, 2 wrong options
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")


def run(arguments: argparse.Namespace) -> int:
    """Write the reports and print where they are."""
    for path in arguments.runs:
        print(report.write_report(RunFolder(path)))
    return 0
