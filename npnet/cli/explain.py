"""One training step, told.

What each layer computes and by which formula, what the loss says, whom the
way back blames, what the optimizer does about it, and whether the loss fell.
Beside each gradient stands how far it is from nudging: changing one number
after the other by 1e-5 and watching the loss, all in float64.
"""

import argparse
import sys
import textwrap

import numpy as np

from npnet import activations, optimizers
from npnet.checking.explain import explain
from npnet.cli.values import Once, positive
from npnet.internal.progress import can_encode
from npnet.runs import datasets, recipes, settings
from npnet.runs.terminal import columns
from npnet.training.batches import cut, epoch_order
from npnet.utils import to_categorical

__all__ = ["ATTEMPTS", "EXAMPLES", "HELP", "add_arguments", "run", "sizes"]

HELP = "one training step, told with formulas, norms and checks"
EXAMPLES = """\
examples:
  npnet explain
  npnet explain --hidden 8 --optimizer adam
  npnet explain --dataset shapes --hidden 16,16 --activation gelu
  npnet explain --batch-norm --dropout 0.2
  npnet explain --dataset shapes --filters 2,4 --hidden 8 --batch-size 4

exit codes: 0 every gradient is right, 1 one is not, 2 wrong options
"""
ATTEMPTS = 10  # batches to try before a kink is accepted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLES

    def add(name: str, words: str, **options: object) -> None:
        parser.add_argument(f"--{name}", help=words, **options)  # type: ignore[arg-type]

    add(
        "dataset", "spiral or shapes [spiral]", choices=("spiral", "shapes"), default="spiral", metavar="NAME"
    )
    add("filters", "of pictures: two convolutions of N filters and a pooling for each N come first [none]",
        type=sizes, action=Once, default=(), metavar="N,N...")  # fmt: skip
    words = "units of each hidden layer [16,16]"
    add("hidden", words, type=sizes, action=Once, default=(16, 16), metavar="N,N...")
    add(
        "activation",
        "of the hidden layers [relu]",
        choices=list(activations.NAMES),
        default="relu",
        metavar="NAME",
    )
    add("optimizer", f"{', '.join(optimizers.NAMES)} [rmsprop]", choices=list(optimizers.NAMES),
        default="rmsprop", metavar="NAME")  # fmt: skip
    add("lr", "learning rate [the optimizer's own]", dest="learning_rate", type=float, metavar="RATE")
    add("weight-decay", "times the learning rate [0]", type=float, default=0.0, metavar="X")
    add("batch-size", "samples [32]", type=positive, default=32, metavar="N")
    add("batch-norm", "normalise each hidden layer", action="store_true")
    add("dropout", "rate after each hidden layer [0]", type=float, default=0.0, metavar="SHARE")
    add("seed", "of weights and of the batch [0]", type=int, default=0, metavar="N")


def sizes(text: str) -> tuple[int, ...]:
    """Read "16,16" as (16, 16)."""
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers such as 16,16, got {text!r}") from None


def run(arguments: argparse.Namespace) -> int:
    """Take the step and print its story."""
    given = {name: value for name, value in vars(arguments).items() if name in settings.NAMES}
    try:
        recipe = settings.recipe_of(settings.complete({**given, "schedule": "constant"}))
        dataset = datasets.load(arguments.dataset, limit=None if arguments.dataset == "spiral" else 600)
        shape, classes = dataset.x_train.shape[1:], len(dataset.class_names)
        model = recipes.build(recipe, shape, classes, 1, arguments.seed, kernels="numpy")
    except ValueError as error:
        arguments.parser.error(str(error))
    order = epoch_order(len(dataset.x_train), True, arguments.seed, 0)
    for rows in cut(order, arguments.batch_size)[:ATTEMPTS]:
        story = explain(model, dataset.x_train[rows], to_categorical(dataset.y_train[rows], classes))
        if not np.isnan(story.errors).any():
            break
    opening = (
        f"One training step of {recipes.widths(recipe, shape, classes)} on {len(rows)} samples of"
        f" {dataset.name}, told. An array's norm is the root of its summed squares. Nudged means: each number"
        " changed by 1e-5 and the loss watched; what stands beside it is |a - n| / (|a| + |n|), a from"
        " backward, n from nudging."
    )
    text = f"{textwrap.fill(opening, columns())}\n{story.text(columns())}"
    print(
        text if can_encode(text, sys.stdout) else text.replace("∂", "d").encode("ascii", "replace").decode()
    )
    return 0 if story.right else 1
