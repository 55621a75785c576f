"""How good is a trained network?

Its loss and accuracy on the test part of the dataset it was trained on, and
for each class recall (the share of its samples that were recognised),
precision (the share of the samples called so that are of it), and the class
it is most often taken for.

The network is the one after the last epoch. Where samples were held out of
training (npnet train --validation-split), it is that of the epoch which was
best on them, and --last gives the last one.
"""

import argparse
import sys

import numpy as np

from npnet.checking.measuring.timing import table
from npnet.cli.values import print_json
from npnet.internal.words import quantity
from npnet.kernels.machine.announce import announce_compilation
from npnet.runs import trained
from npnet.runs.terminal import describe_error, say
from npnet.runs.views import NUMBERS

__all__ = ["EXAMPLES", "HELP", "add_arguments", "rows", "run", "share"]

HELP = "loss, accuracy and a table of the classes, on the test part"
EXAMPLES = """\
examples:
  npnet evaluate runs/cifar10-001
  npnet evaluate runs/cifar10-001 --last    the model as training left it
  npnet evaluate runs/cifar10-001 --json

exit codes: 0 done, 1 no such run, or its dataset is not there, 2 wrong options
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("run_folder", metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--last", action="store_true", help="the last model, not the best on samples held out"
    )
    parser.add_argument("--data", metavar="PATH", help="where the data set lies [the run's]")
    parser.add_argument(
        "--views", type=int, choices=NUMBERS, help="how often to look at each picture [as the run says]"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    model = trained.load(arguments.run_folder, arguments.last)
    with announce_compilation(sys.stderr):
        result = model.examine(arguments.data, arguments.views)
    if arguments.json:
        about = {
            "run": str(model.folder.path),
            "model": model.which,
            "epoch": model.model.position.epoch,
            "validation_split": model.settings["validation_split"],
        }
        print_json({**about, **result})
        return 0
    say("model", str(model))
    of = arguments.data or model.settings["data"] or model.settings["dataset"]
    if "quantity" in result:
        say("test part", f"{quantity(result['quantity']['samples'], 'row')} of {of}")
        say("error", describe_error(result))
        return 0
    confusion = np.array(result["confusion"])
    seen = f", {result['views']} views of each" if result["views"] > 1 else ""
    say("test part", f"{quantity(confusion.sum(), 'sample')} of {of}{seen}")
    say("loss", f"{result['test']['loss']:.4f}")
    say("accuracy", f"{result['test']['accuracy']:.4f}")
    print(
        "\n"
        + table(
            ["class", "samples", "recall", "precision", "most often taken for"],
            rows(confusion, result["class_names"]),
        )
    )
    return 0


def rows(confusion: np.ndarray, names: list[str]) -> list[list[str]]:
    """Return a row for each class: samples, recall, precision, and its most frequent mistake."""
    result = []
    for k, name in enumerate(names):
        samples, called = confusion[k].sum(), confusion[:, k].sum()
        others = confusion[k].copy()
        others[k] = 0
        most = int(others.argmax())
        result.append(
            [
                name,
                f"{samples:,}",
                share(confusion[k, k], samples),
                share(confusion[k, k], called),
                f"{names[most]} {share(others[most], samples)}" if others[most] else "-",
            ]
        )
    return result


def share(part: int, whole: int) -> str:
    """Return a share as "0.713", "-" of nothing."""
    return f"{part / whole:.3f}" if whole else "-"
