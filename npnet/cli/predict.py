"""What does a trained network take a picture for, or predict for the rows of a CSV file?

PNG, JPEG, WebP, GIF, BMP and TIFF files of any size. A picture is turned upright, cut to its middle
where it has other proportions, and brought to the size the network was
trained on, which is said beside it. A file that cannot be read is named; the
others are answered all the same.

A run of a table takes one CSV file with the columns it was trained on, and
writes a CSV with its predictions in further columns.
"""

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

from npnet.cli.values import positive, print_json
from npnet.internal.files import write_atomically
from npnet.internal.progress import can_encode
from npnet.internal.words import quantity
from npnet.kernels.machine.announce import announce_compilation
from npnet.models import load_model
from npnet.runs import trained
from npnet.runs.dataset import ROWS
from npnet.runs.terminal import columns, say
from npnet.runs.views import NUMBERS

__all__ = ["BAR", "EXAMPLES", "HELP", "add_arguments", "run", "show"]

HELP = "what a trained network takes pictures for, or predicts for a table"
EXAMPLES = """\
examples:
  npnet predict runs/cifar10-001 cat.jpg
  npnet predict runs/cifar10-001 *.png --top 3
  npnet predict runs/cifar10-001 cat.jpg --json
  npnet predict model.safetensors cat.jpg
  npnet predict runs/houses-001 new.csv --output predicted.csv

exit codes: 0 all pictures answered, 1 one could not be read, 2 wrong options
"""
BAR = 30  # cells at most
TOP = 5  # classes to name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("run_folder", metavar="RUN", help="folder of a run, or a model file of pictures")
    parser.add_argument("images", metavar="FILE", nargs="+", help="picture file, or the CSV file of a table")
    parser.add_argument(
        "--last", action="store_true", help="the last model, not the best on samples held out"
    )
    parser.add_argument("--top", type=positive, metavar="N", help="classes to name [5]")
    parser.add_argument(
        "--views", type=int, choices=NUMBERS, help="how often to look at each picture [as the run says]"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--output", metavar="FILE", help="where the CSV of a table goes [standard output]")


def run(arguments: argparse.Namespace) -> int:
    """Classify and print."""
    if Path(arguments.run_folder).is_file():
        return _predict_by_file(arguments)
    model = trained.load(arguments.run_folder, arguments.last)
    if model.settings["dataset"] in ROWS:
        return _predict_table(model, arguments)
    if arguments.output:
        arguments.parser.error("--output is for runs of a table")
    with announce_compilation(sys.stderr):
        answers = model.classify(arguments.images, arguments.views)
    return _print(arguments, answers, str(model), {"run": str(model.folder.path), "model": model.which})


def _predict_by_file(arguments: argparse.Namespace) -> int:
    """Classify by a model file away from its run: it knows its classes, but no columns of a table."""
    if arguments.output or arguments.last:
        arguments.parser.error(f"--output and --last are for runs; {arguments.run_folder} is a file")
    file = arguments.run_folder
    model = load_model(file, compile=False)
    with announce_compilation(sys.stderr):
        answers = trained.classify(model, model.class_names, arguments.images, file, arguments.views or 1)
    return _print(arguments, answers, file, {"model": file})


def _print(
    arguments: argparse.Namespace, answers: list[dict[str, Any]], model: str, about: dict[str, str]
) -> int:
    """Print what pictures were taken for; return the exit code."""
    for answer in answers:
        if answer["classes"]:
            answer["classes"] = answer["classes"][: arguments.top or TOP]
    if arguments.json:
        print_json({**about, "images": answers})
    else:
        say("model", model)
        for answer in answers:
            if not answer["error"]:
                show(answer)
    for answer in answers:
        if answer["error"]:
            print(f"npnet predict: {answer['error']}", file=sys.stderr)
    return 1 if any(answer["error"] for answer in answers) else 0


def _predict_table(model: trained.Trained, arguments: argparse.Namespace) -> int:
    """Write a CSV file with predictions."""
    if len(arguments.images) != 1 or arguments.json:
        arguments.parser.error("a run of a table takes one CSV file and writes one, not JSON")
    if arguments.top or arguments.views:
        arguments.parser.error("--top and --views are for pictures")
    with announce_compilation(sys.stderr):
        columns, rows = model.predict_table(arguments.images[0])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([columns, *rows])
    if arguments.output is None:
        text = table.getvalue()
        if not can_encode(text, sys.stdout):
            raise ValueError(
                f"The output, in {sys.stdout.encoding}, lacks letters of the table: give --output FILE."
            )
        sys.stdout.write(text)
    else:
        write_atomically(Path(arguments.output), table.getvalue().encode())
        say("model", str(model))
        added = columns[-1 - len(model.class_names)]
        say("written", f"{arguments.output}: {quantity(len(rows), 'row')} with {added!r}")
    return 0


def show(answer: dict[str, Any]) -> None:
    """Print the classes of a picture, most probable first, with bars."""
    print(f"\n{answer['file']}  ({answer['size']})")
    width = max(len(found["class"]) for found in answer["classes"])
    cells = min(BAR, columns() - width - len("    0.000 "))
    full = "━" if can_encode("━", sys.stdout) else "="
    for found in answer["classes"]:
        probability = found["probability"]
        print(f"  {found['class']:<{width}}  {probability:.3f} {full * round(cells * probability)}".rstrip())
