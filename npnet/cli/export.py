"""Write the network of a run for other runtimes, as an ONNX file.

The file has one input x, samples as the run trained on them (pictures as numbers from 0 to 255), and one
output y. Its metadata hold class_names, and of a table how its columns are encoded, as JSON.
"""

import argparse
import json
from pathlib import Path

from npnet.models import onnx
from npnet.runs import datasets, trained
from npnet.runs.terminal import say

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "write a trained network as an ONNX file, with the names of its classes"
EXAMPLES = """\
examples:
  npnet export runs/cifar10-001 model.onnx
  npnet export runs/cifar10-001 model.onnx --last

exit codes: 0 done, 1 no such run, or the package onnx is not there, 2 wrong options
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("run_folder", metavar="RUN", help="folder of a run")
    parser.add_argument("file", metavar="FILE.onnx", type=Path, help="where to write it")
    parser.add_argument(
        "--last", action="store_true", help="the last model, not the best on samples held out"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    model = trained.load(arguments.run_folder, arguments.last)
    about = {"class_names": list(model.class_names)}
    if model.settings["dataset"] in datasets.DESCRIBED:
        about |= model.about
    onnx.export(model.model, arguments.file, {name: json.dumps(value) for name, value in about.items()})
    say("model", str(model))
    say("written", f"{arguments.file}: {', '.join(about)} in its metadata")
    return 0
