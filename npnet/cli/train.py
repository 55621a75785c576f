"""Train a network; leave a folder with its history, checkpoints, pictures and a report.

Without options this is the tutorial's training: CIFAR-10, two hidden layers of 512, 20 epochs. Points and
tables have smaller networks and a schedule. Ctrl-C stops it after the present step, a second one at once;
--resume goes on, to the same bits as without the stop.
"""

import argparse
import contextlib
import csv
import difflib
import io
import json
from pathlib import Path
from typing import Any

from npnet import activations, optimizers
from npnet.cli.values import Once
from npnet.internal import interrupts, mixed_precision, processes
from npnet.kernels import MODULES
from npnet.runs import recipes, settings, train, views
from npnet.runs.datasets import LOADERS
from npnet.runs.folder import RunFolder

__all__ = ["EXAMPLES", "EXIT_CODES", "HELP", "add_arguments", "run"]

HELP = "train a network: history, checkpoints, pictures, report"
EXAMPLES = """\
settings come from, each over the next: options, --config, --recipe

examples:
  npnet train                                   the tutorial's network on CIFAR-10
  npnet train spiral                            a demonstration, in a few seconds
  npnet train mnist --epochs 5                  handwritten digits; also fashion_mnist, cifar100
  npnet train california_housing                rows of numbers, what a house costs: a quantity to predict
  npnet train flowers/ --image-size 64          your own pictures, one sub-folder a class
  npnet train houses.csv --target price         your own table: a number or a class to predict
  npnet train shapes --epochs 5                 pictures drawn on the spot: no download
  npnet train --epochs 2 --limit 5000           a quick look
  npnet train --recipe best                     the best training for the same network
  npnet train --recipe cnn                      a convolutional network
  npnet train --dtype mixed_bfloat16            products of bfloat16, for processors with a matrix unit
  npnet train --recipe fast --views 6           airbench94: 0.94 on CIFAR-10 in 8 epochs
  npnet train --validation-split 0.1            the epoch that is best on 5,000 images held out of training
  npnet train --hidden 1024,512,256 --dropout 0.2 --optimizer adamw --schedule cosine
  npnet train --config runs/cifar10-001/config.json --seed 1
  npnet train --resume runs/cifar10-001         go on after Ctrl-C, or after a crash
  npnet train --resume runs/cifar10-001 --epochs 40
  mpiexec -n 4 npnet train --batch-size 1024    four processes together, the same bits as one with --shards 8

exit codes: 0 finished, 1 failed, 2 wrong options, 130 stopped by Ctrl-C, 143 by SIGTERM
"""
EXIT_CODES = {"finished": 0, "failed": 1, "interrupted": 130, "terminated": 143}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; those that are not given do not appear among the arguments."""
    parser.epilog = EXAMPLES
    parser.usage = "npnet train [DATASET | FOLDER | TABLE.csv --target COLUMN] [options]"

    def add(group: Any, name: str, words: str, *flags: str, **options: Any) -> None:
        flag = flags or (f"--{name.replace('_', '-')}",)
        group.add_argument(
            *flag, dest=name, default=argparse.SUPPRESS, help=f"{words}{_default(name)}", **options
        )

    data = parser.add_argument_group("data")
    data.add_argument("dataset", nargs="?", type=_dataset, metavar="DATASET",
        help=f"{_listed(LOADERS)} [cifar10; shapes where that cannot be had]; a folder of pictures, one"
        " sub-folder a class, or train/ and test/ with such; a .csv file")  # fmt: skip
    add(data, "data", "archive, file or folder of a published data set", metavar="PATH")
    add(data, "limit", "train on the first N samples only", type=int, metavar="N")
    words = "of a folder: share of each class held out to test on; of a table: of its rows"
    add(data, "test_split", words, type=float, metavar="SHARE")
    add(data, "image_size", "of a folder: pixels on each side [32]", type=int, metavar="N")
    add(data, "target", "of a table: the column to predict", metavar="COLUMN")
    words = "of a table: columns left out; may be given several times"
    add(data, "ignore", words, type=_names, action="extend", metavar="COLUMN,...")
    add(data, "missing", "of a table: what to do with missing values, refuse or fill",
        choices=["refuse", "fill"], metavar="WAY")  # fmt: skip
    words = "share of the training samples, the last ones, held out to choose the epoch by"
    add(data, "validation_split", words, type=float, metavar="SHARE")
    add(data, "inputs", f"how pixels come in: {_listed(recipes.INPUTS)}",
        choices=list(recipes.INPUTS), metavar="FORM")  # fmt: skip
    add(data, "flip", "mirror pictures at random", action=argparse.BooleanOptionalAction)
    add(
        data,
        "alternate",
        "mirror each picture in every second epoch instead",
        action=argparse.BooleanOptionalAction,
    )
    add(data, "shift", "move pictures at random by up to N pixels", type=int, metavar="N")
    add(data, "edges", f"what comes in where they are moved: {_listed(recipes.EDGES)}",
        choices=list(recipes.EDGES), metavar="MODE")  # fmt: skip
    add(data, "views", "how often to look at each test picture, moved and mirrored: 1 or 6", type=int,
        choices=views.NUMBERS, metavar="N")  # fmt: skip

    network = parser.add_argument_group("network")
    add(network, "network", f"its kind: {_listed(recipes.NETWORKS)}", choices=recipes.NETWORKS,
        metavar="KIND")  # fmt: skip
    add(network, "filters", "of pictures: two convolutions of N filters and a pooling for each N",
        type=_sizes, action=Once, metavar="N,N")  # fmt: skip
    words = 'sizes of the hidden layers; "" for none'
    add(network, "hidden", words, type=_sizes, action=Once, metavar="N,N")
    add(network, "activation", f"of convolutions and hidden layers: {_listed(activations.NAMES)}",
        choices=list(activations.NAMES), metavar="NAME")  # fmt: skip
    add(network, "pool_dropout", "share of the numbers left out after a pooling", type=float, metavar="SHARE")
    add(network, "dropout", "share of the hidden units left out in a step", type=float, metavar="SHARE")
    add(network, "batch_norm", "normalise convolutions and hidden layers batch by batch",
        action=argparse.BooleanOptionalAction)  # fmt: skip

    training = parser.add_argument_group("training")
    add(training, "recipe", f"what all settings are that are not given: {_listed(recipes.RECIPES)}",
        choices=list(recipes.RECIPES), metavar="NAME")  # fmt: skip
    add(
        training,
        "config",
        "settings from a JSON file, such as a run's config.json",
        type=Path,
        metavar="FILE",
    )
    add(training, "epochs", "passes over the samples", type=int, metavar="N")
    add(training, "batch_size", "samples a step", type=int, metavar="N")
    add(training, "drop_remainder", "leave out an epoch's last batch if it is shorter",
        action=argparse.BooleanOptionalAction)  # fmt: skip
    add(training, "optimizer", _listed(optimizers.NAMES), choices=list(optimizers.NAMES), metavar="NAME")
    words = "the highest one; with another optimizer that one's own"
    add(training, "learning_rate", words, "--lr", "--learning-rate", type=float, metavar="RATE")
    add(training, "weight_decay", "times the learning rate, each step", type=float, metavar="X")
    add(training, "schedule", f"of the learning rate: {_listed(recipes.SCHEDULES)}",
        choices=recipes.SCHEDULES, metavar="NAME")  # fmt: skip
    add(
        training,
        "label_smoothing",
        "share of each target spread over all classes",
        type=float,
        metavar="SHARE",
    )
    add(training, "dtype", f"what layers compute in: {_listed(mixed_precision.NAMES)}", metavar="POLICY")
    add(training, "seed", "where all random numbers come from", type=int, metavar="N")

    run = parser.add_argument_group("run")
    add(run, "run_dir", "its folder [the next of runs/DATASET-001, -002 ...]", metavar="DIR")
    add(
        run,
        "resume",
        "go on with this run; --threads and --data may change, and --epochs grow if the schedule is constant",
        metavar="RUN",
    )
    add(run, "threads", "of the kernels [as many as CPUs are allowed]", type=int, metavar="N")
    words = "parts of each batch that processes share out [8 under mpiexec, else none]"
    add(run, "shards", words, type=int, metavar="N")
    add(
        run,
        "kernels",
        "numba, compiled, or numpy, readable [by the network]",
        choices=list(MODULES),
        metavar="SET",
    )
    add(run, "tensorboard", "write the run for TensorBoard, in its folder", action="store_true")
    add(run, "quiet", "print nothing but errors", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    options = {name: value for name, value in vars(arguments).items() if name in settings.NAMES}
    if arguments.dataset is None:
        del options["dataset"]
    elif arguments.dataset not in LOADERS:
        if "data" in options:
            arguments.parser.error(
                f"--data is for published data sets; {arguments.dataset} is the data already"
            )
        kind = "pictures" if Path(arguments.dataset).is_dir() else "table"
        options |= {"dataset": kind, "data": arguments.dataset}
    resume = getattr(arguments, "resume", None)
    folder = getattr(arguments, "run_dir", resume)
    if resume is not None and folder != resume:
        arguments.parser.error("--run-dir names a new run's folder, --resume an old one's: give one of them")
    try:
        given = _read(arguments.config) | options if hasattr(arguments, "config") else options
        shards, started = settings.complete(_settings_of(resume) | given)["shards"], processes.announced()
    except (ValueError, TypeError) as error:
        arguments.parser.error(str(error))
    if shards is not None and shards < started:
        arguments.parser.error(
            f"--shards must be at least the number of processes, {started}, got {shards}: some would have"
            f" nothing to do. --shards {started}"
        )
    with interrupts.terminable():
        result = train(
            given,
            folder,
            resume is not None,
            getattr(arguments, "quiet", False),
            getattr(arguments, "tensorboard", False),
        )
    return EXIT_CODES[result["status"]]


def _settings_of(run: str | None) -> dict[str, Any]:
    """Return the settings of the run to go on with; nothing where they are damaged, which training says."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        return settings.complete(RunFolder(run).read_json("config.json")) if run is not None else {}
    return {}


def _read(file: Path) -> dict[str, Any]:
    """Return the settings of a JSON file."""
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"--config {file}: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON file: {error}.") from error
    if not isinstance(given, dict):
        raise ValueError(f'{file} must hold settings by name, {{"epochs": 20, ...}}, got {given!r}.')
    return given


def _dataset(text: str) -> str:
    """Return the name of a data set, or the path of a folder or of a CSV file."""
    path = Path(text).expanduser()
    if text in LOADERS or path.is_dir() or path.suffix.lower() in (".csv", ".tsv"):
        return text
    close = difflib.get_close_matches(text, LOADERS, n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    raise argparse.ArgumentTypeError(
        f"{text!r} is no data set ({', '.join(LOADERS)}), no folder and no .csv file.{guess}"
    )


def _names(text: str) -> list[str]:
    """Return the columns of a list, in which one whose name holds a comma stands in double quotes."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise argparse.ArgumentTypeError(
            f"expected columns such as a,b, in double quotes where a name holds a comma, got {text!r}:"
            f" {error}"
        ) from None
    return [name.strip() for row in rows for name in row if name.strip()]


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",") if text]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected sizes such as 512,512, got {text!r}") from None


def _listed(names: Any) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


def _default(name: str) -> str:
    """Return " [20; best 100]": what a setting is where nobody gives it."""
    if name in settings.OF_RECIPES:
        shown = {recipe: _shown(getattr(values, name)) for recipe, values in recipes.RECIPES.items()}
        tutorial = shown.pop("tutorial")
        if name in settings.OF_SPIRAL:
            shown["spiral and tables"] = _shown(settings.OF_SPIRAL[name])
        others = [f"; {recipe} {value}" for recipe, value in shown.items() if value != tutorial]
        return f" [{tutorial}{''.join(others)}]"
    value = settings.OWN.get(name)
    return "" if value in (None, []) else f" [{value}]"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        "the optimizer's own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )
