"""What a run says on the terminal before and after it trains."""

import shutil
import sys
import textwrap
from typing import Any

import npnet
from npnet.internal import processes
from npnet.internal.progress import can_encode, clock
from npnet.internal.words import quantity
from npnet.kernels import name_of
from npnet.kernels.machine import threads
from npnet.models import Sequential
from npnet.plotting.canvas import so_far
from npnet.runs.clock import NAMES
from npnet.runs.datasets import Dataset
from npnet.runs.folder import RunFolder
from npnet.runs.recipes import steps_per_epoch, widths
from npnet.runs.settings import Settings, learning_rate, recipe_of

__all__ = [
    "BAR",
    "LABEL",
    "NO_BREAK",
    "WIDEST",
    "columns",
    "describe_error",
    "describe_network",
    "describe_training",
    "duration",
    "print_header",
    "print_result",
    "say",
    "say_classes",
]

WIDEST = 100  # columns that text fills at most
LABEL = 11  # columns of the words on the left
NO_BREAK = "\u00a0"
BAR = 30  # cells of a class's bar at most


def print_header(folder: RunFolder, settings: Settings, dataset: Dataset, model: Sequential) -> None:
    """Print what is going to happen, and where."""
    print(f"npnet {npnet.__version__}")
    say("Dataset", dataset.describe())
    if not dataset.class_names:
        target, unit = dataset.about["target"], dataset.about["deviation"]
        say("Unit", f"errors of an epoch are in standard deviations of {target}, {unit:.4g} each")
    say("Network", describe_network(settings, dataset, model))
    say("Training", describe_training(settings, len(dataset.x_train)))
    compiled = name_of(model.kernels) == "numba"
    policy = f", {settings['dtype']}" if settings["dtype"] != "float32" else ""
    say("Kernels", (f"numba, {quantity(threads.get_threads(), 'thread')}" if compiled else "numpy") + policy)
    if settings["shards"] is not None:
        group = processes.group()
        say("Processes", f"{', '.join(group.machines)}; {quantity(settings['shards'], 'shard')} a batch")
    say("Seed", str(settings["seed"]))
    hint = f" (should a process be killed: npnet train --resume {folder.path})"
    say("Folder", f"{folder.path}{hint if processes.group().size > 1 else ''}")
    epoch, steps, _ = model.position
    if epoch or steps:
        say("Goes on", f"after {so_far(epoch, steps)}")
    print(flush=True)


def describe_network(settings: Settings, dataset: Dataset, model: Sequential) -> str:
    """Return "3072-512-512-10, relu: 1,841,162 parameters"."""
    sizes = widths(recipe_of(settings), dataset.x_train.shape[1:], len(dataset.class_names) or 1)
    extras = [settings["activation"]] if settings["hidden"] or settings["filters"] else []
    extras += ["batch normalisation"] if settings["batch_norm"] else []
    rates = [f"{settings[name]:g}" for name in ("pool_dropout", "dropout") if settings[name]]
    extras += [f"dropout {' and '.join(rates)}"] if rates else []
    extras += [f"{settings['inputs']} inputs"] if dataset.of_images else []
    return f"{sizes}, {', '.join(extras)}: {model.count_params():,} parameters"


def describe_training(settings: Settings, n: int) -> str:
    """Return "20 epochs of 1,563 steps of 32 samples, rmsprop 0.001"."""
    batch_size, rate = settings["batch_size"], learning_rate(settings)
    epochs, steps = (
        quantity(settings["epochs"], "epoch"),
        quantity(steps_per_epoch(recipe_of(settings), n), "step"),
    )
    parts = [f"{epochs} of {steps} of {quantity(batch_size, 'sample')}"]
    parts += [f"{settings['optimizer']} {rate:g}"]
    parts += [f"weight decay {settings['weight_decay']:g}"] if settings["weight_decay"] else []
    parts += [f"{settings['schedule']} schedule"] if settings["schedule"] != "constant" else []
    parts += ["alternating flips" if settings["alternate"] else "flips"] if settings["flip"] else []
    parts += [f"shifts up to {settings['shift']}"] if settings["shift"] else []
    parts += [f"label smoothing {settings['label_smoothing']:g}"] if settings["label_smoothing"] else []
    return ", ".join(parts)


def print_result(folder: RunFolder, result: dict[str, Any]) -> None:
    """Print what the run came to."""
    print()
    if result["status"] == "failed":
        say("Failed", result["reason"])
    best, test = result["best_epoch"], result["test"]
    which = f"weights of epoch {result['epochs']}, the last"
    if result["steps"]:
        which = f"weights after {so_far(result['epochs'], result['steps'])}"
    elif result["status"] == "failed":
        which += " saved"
    if best is not None:
        say(
            "Best epoch",
            f"{best} of {result['epochs']}, chosen on {quantity(result['held_out'], 'sample')} held out",
        )
        which = f"weights of epoch {best}"
    if quantity_known := result.get("quantity"):
        say("Test", f"{describe_error(result)} ({quantity(quantity_known['samples'], 'sample')}; {which})")
    else:
        samples = quantity(sum(map(sum, result["confusion"])), "sample")
        scores = f"accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}"
        seen = f", {result['views']} views of each" if result["views"] > 1 else ""
        say("Test", f"{scores} ({samples}{seen}; {which})")
        say_classes(result["class_names"], result["confusion"])
    if result["images_per_second"] is not None:
        say("Speed", f"{result['images_per_second']:,} samples a second in training")
    seconds = result["seconds"]
    counted = [name for name in NAMES if seconds[name] >= 0.05]
    parts = [f"{name} {duration(seconds[name])}" for name in counted]
    say("Time", f"{duration(seconds['total'])}: {', '.join(parts)}")
    if result["step_share"]:
        shares = [f"{name} {share:.0%}" for name, share in result["step_share"].items()]
        say("A step", f"{', '.join(shares)} (estimated: operations one by one)")
    if (folder / "boundary.png").exists():
        say("Picture", str(folder / "boundary.png"))
    say("Report", str(folder / "report.html"))
    if result["status"] in ("interrupted", "terminated"):
        say("Go on", f"npnet train --resume {folder.path}")


def describe_error(result: dict[str, Any]) -> str:
    """Return "price: mean absolute error 31.2 (42.1 where the mean is predicted), ..., R2 0.61"."""
    known = result["quantity"]
    r2 = f", R2 {known['r2']:.3f}" if known["r2"] is not None else ""
    return (
        f"{known['target']}: mean absolute error {result['test']['mean_absolute_error']:.4g}"
        f" ({known['of_the_mean']:.4g} where the mean is predicted), root mean square"
        f" {known['root_mean_squared_error']:.4g}{r2}"
    )


def columns() -> int:
    """Return how wide a line may be: the terminal's width, 80 where there is none."""
    return min(shutil.get_terminal_size().columns, WIDEST)


def say(label: str, text: str) -> None:
    """Print a label and a text, which goes on below itself where the line is too short."""
    first = f"{label:<{LABEL}}"
    options: dict[str, Any] = {"initial_indent": first, "subsequent_indent": " " * LABEL}
    wrapped = textwrap.wrap(text, columns(), break_long_words=False, break_on_hyphens=False, **options)
    print("\n".join(wrapped).replace(NO_BREAK, " "))


def say_classes(names: list[str], confusion: list[list[int]]) -> None:
    """Print a line a class: how many of its samples are recognised, as a share and a bar."""
    longest = max(map(len, names))
    cells = min(BAR, columns() - LABEL - longest - len("  0.000 "))
    full = "━" if can_encode("━", sys.stdout) else "="
    for name, row, k in zip(names, confusion, range(len(names)), strict=True):
        share = row[k] / sum(row) if sum(row) else 0
        figure = f"{share:.3f}" if sum(row) else "not tested"
        line = f"{'':{LABEL}}{name:<{longest}}  {figure} {full * round(cells * share)}"
        print(line.rstrip())


def duration(seconds: float) -> str:
    """Return "0.4 s", "12 s" or "3:05"."""
    if seconds < 10:
        return f"{seconds:.1f}{NO_BREAK}s"
    return f"{seconds:.0f}{NO_BREAK}s" if seconds < 100 else clock(seconds)
