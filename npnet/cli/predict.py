"""What does a trained network take a picture for?

PNG, JPEG, WebP, GIF, BMP and TIFF files of any size. A picture is turned upright, cut to its middle
where it has other proportions, and brought to the size the network was
trained on, which is said beside it. A file that cannot be read is named; the
others are answered all the same.
"""

import argparse
import json
import sys
from typing import Any

from npnet.cli.values import positive
from npnet.internal.progress import can_encode
from npnet.kernels.machine.announce import announce_compilation
from npnet.runs import trained
from npnet.runs.terminal import columns, say

__all__ = ["BAR", "EXAMPLES", "HELP", "add_arguments", "run", "show"]

HELP = "what a trained network takes pictures for"
EXAMPLES = """\
examples:
  npnet predict runs/cifar10-001 cat.jpg
  npnet predict runs/cifar10-001 *.png --top 3
  npnet predict runs/cifar10-001 cat.jpg --json

exit codes: 0 all pictures answered, 1 one could not be read, 2 wrong options
"""
BAR = 30  # cells at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES
    parser.add_argument("run_folder", metavar="RUN", help="folder of a run")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="picture file")
    parser.add_argument(
        "--last", action="store_true", help="the last model, not the best on samples held out"
    )
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="classes to name [5]")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Classify and print."""
    model = trained.load(arguments.run_folder, arguments.last)
    with announce_compilation(sys.stderr):
        answers = model.classify(arguments.images)
    for answer in answers:
        if answer["classes"]:
            answer["classes"] = answer["classes"][: arguments.top]
    if arguments.json:
        print(json.dumps({"run": str(model.folder.path), "model": model.which, "images": answers}, indent=2))
    else:
        say("model", str(model))
        for answer in answers:
            if not answer["error"]:
                show(answer)
    for answer in answers:
        if answer["error"]:
            print(f"npnet predict: {answer['error']}", file=sys.stderr)
    return 1 if any(answer["error"] for answer in answers) else 0


def show(answer: dict[str, Any]) -> None:
    """Print the classes of a picture, most probable first, with bars."""
    print(f"\n{answer['file']}  ({answer['size']})")
    width = max(len(found["class"]) for found in answer["classes"])
    cells = min(BAR, columns() - width - len("    0.000 "))
    full = "━" if can_encode("━", sys.stdout) else "="
    for found in answer["classes"]:
        probability = found["probability"]
        print(f"  {found['class']:<{width}}  {probability:.3f} {full * round(cells * probability)}".rstrip())
