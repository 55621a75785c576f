"""Is every gradient right?

Each activation, layer, loss and regularizer is put into a small network,
followed by three whole ones. Every number of its gradients is compared, in
float64, with differences of the loss: how much it changes when that number
is changed a little. The error is |a - n| / (|a| + |n|), where a comes from
backward and n from differences; right ones end far below 1e-8.

For the whole networks the column "fused" compares one training step on the
fused, compiled path, which fit takes by default, with the same step on
NumPy's kernels: by how much each weight changes.
"""

import argparse
import sys
import textwrap
import time
from dataclasses import replace

from npnet import kernels
from npnet.checking.gradient_cases import Case, describe, everything, wrong_case
from npnet.checking.gradient_check import GradientCheck
from npnet.kernels.machine.announce import announce_compilation
from npnet.runs.terminal import columns

__all__ = [
    "EXAMPLES",
    "HELP",
    "LEAST",
    "TITLES",
    "add_arguments",
    "columns_of",
    "line",
    "row",
    "run",
    "show_everything",
    "show_wrong",
]

HELP = "compare every gradient with differences of the loss"
EXAMPLES = """\
examples:
  npnet check                    both sets of kernels, and fused steps
  npnet check --kernels numpy    the readable ones alone
  npnet check --wrong            what a wrong gradient looks like

exit codes: 0 all gradients are right, 1 one is not, 2 wrong options
"""
LEAST = 24  # columns for the names; with less, figures go on a line of their own
TITLES = {
    "activations": "Activations, behind a Dense",
    "layers": "Layers, between two Dense",
    "losses": "Losses: of what, targets",
    "regularizers": "Regularizers, of kernel and bias",
    "models": "Whole networks",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("--kernels", choices=tuple(kernels.MODULES), help="one set of kernels only")
    parser.add_argument("--wrong", action="store_true", help="show a wrong gradient being caught")


def run(arguments: argparse.Namespace) -> int:
    """Check, print the table, and tell whether all is right."""
    wanted = (arguments.kernels,) if arguments.kernels else ("numpy", None)  # None: Numba's where it is
    sets = tuple(dict.fromkeys(kernels.name_of(kernels.load(name)) or "numpy" for name in wanted))
    return show_wrong(sets[0]) if arguments.wrong else show_everything(sets)


def show_everything(sets: tuple[str, ...]) -> int:
    """Print a row for each case, the largest error in each column, and the tables of wrong ones."""
    cases, started = everything(), time.perf_counter()
    print(f"Checking {len(cases)} networks, with the kernels of {' and of '.join(sets)} ...", flush=True)
    results: list[dict[str, GradientCheck]] = [{} for _ in cases]
    for name in sets:
        with announce_compilation(sys.stdout):
            for case, result in zip(cases, results, strict=True):
                result |= columns_of(case, name)
    group = ""
    for case, result in zip(cases, results, strict=True):
        if case.group != group:
            group = case.group
            print("\n" + line(TITLES.get(group, group), "shape", "numbers", list(result), ""))
        print(row(case, result))
    tables = [table for result in results for table in result.values()]
    wrong = [(case, name) for case, result in zip(cases, results, strict=True)
             for name, table in result.items() if not table.passed]  # fmt: skip
    for case, name in wrong:
        print(f"\n{case.name}, {name}:\n{results[cases.index(case)][name]}")
    numbers = sum(r.checked for table in tables for r in table.rows)
    worst = max(r.error for table in tables for r in table.rows)
    verdict = f"{len(wrong)} of them WRONG" if wrong else "all right"
    print(
        f"\n{numbers:,} numbers in {len(tables)} checks: {verdict}. Largest error {worst:.1e}, allowed"
        f" {tables[0].tolerance:.0e}; {time.perf_counter() - started:.1f} s."
    )
    return 1 if wrong else 0


def columns_of(case: Case, kernel_set: str) -> dict[str, GradientCheck]:
    """Return the check with a set of kernels by the set's name; of whole networks a fused step's, too."""
    if kernel_set != "numba" or case.group != "models":
        return {kernel_set: case.check(kernel_set)}
    both = case.check(kernel_set, fused=True)
    return {
        name: replace(both, rows=[row for row in both.rows if row.fused is fused])
        for name, fused in ((kernel_set, False), ("fused", True))
    }


def row(case: Case, result: dict[str, GradientCheck]) -> str:
    """Return the line, or lines, of a case."""
    first = next(iter(result.values()))
    return line(
        case.name,
        "x".join(map(str, case.samples.shape)),
        f"{sum(r.checked for r in first.rows):,}",
        [f"{max(r.error for r in table.rows):.1e}" for table in result.values()],
        "ok" if all(table.passed for table in result.values()) else "WRONG",
    )


def line(name: str, shape: str, numbers: str, errors: list[str], verdict: str) -> str:
    """Lay out a row: the name, which goes on below itself, and figures at the right."""
    figures = f"  {shape:>7}  {numbers:>7}" + "".join(f"  {error:>7}" for error in errors) + f"  {verdict:<5}"
    width = columns() - len(figures)
    if width < LEAST:
        return f"{textwrap.fill(name, columns())}\n{figures}".rstrip()
    first, *others = textwrap.wrap(name, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join([f"{first:<{width}}{figures}".rstrip(), *others])


def show_wrong(kernel_set: str) -> int:
    """Print the table of a network with a slip in it, and how to read it."""
    case = wrong_case()
    layer = case.layers[1]
    result = case.check(kernel_set)
    print(f"Dense, {describe(layer)}, Dense, where\n  {type(layer).__doc__}\n\n{result}\n")
    where = "The mistake is in a layer between the lowest wrong row and the one below it."
    print(textwrap.fill(where, columns()))
    return 1 if result.passed else 0
