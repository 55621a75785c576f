"""The user's own data as a dataset to train on: a folder of pictures, a table of a CSV file."""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from npnet.datasets import folders, tables
from npnet.datasets.cells import is_missing
from npnet.datasets.picture_file import read_picture
from npnet.internal import checks
from npnet.internal.progress import Progress, is_watched
from npnet.internal.words import quantity
from npnet.runs.dataset import Dataset
from npnet.training import batches

__all__ = ["IMAGE_SIZE", "KINDS", "MOST_CLASSES", "load", "pictures", "table"]

IMAGE_SIZE = 32  # pixels on each side, where nobody says
MOST_CLASSES = 20  # a target of more different whole numbers is a quantity
# Folders above the classes, in small letters or not.
TRAIN, TEST = "train", ("test", "val", "valid", "validation")
NAMED = 5  # unreadable pictures, or classes, that a message names


def load(settings: Mapping[str, Any]) -> Dataset:
    """Return the dataset of settings whose "dataset" is one of ``KINDS`` and whose "data" is a path."""
    dataset = KINDS[settings["dataset"]](settings)
    parts = (
        ("training", [*dataset.y_train, *dataset.y_held], "the network cannot learn"),
        ("test", dataset.y_test, "nothing tests"),
    )
    for part, labels, consequence in parts:
        absent = set(range(len(dataset.class_names))) - set(labels)
        names = [repr(dataset.class_names[label]) for label in sorted(absent)]
        if names:
            listed = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if names[NAMED:] else "")
            checks.warn(
                f"the {part} part has no sample of {listed}: {consequence} {'them' if names[1:] else 'it'}."
            )
    return dataset


def pictures(settings: Mapping[str, Any]) -> Dataset:
    """Return a folder of pictures, one sub-folder a class, or train/ and test/ with such sub-folders.

    Where there is no test/, the share ``test_split`` of each class is held out to test on, the same pictures
    in every run.

    Raises
    ------
    OSError, ValueError
        If the folder is not there, or pictures cannot be read: all are tried, and the first named.
    """
    place = Path(settings["data"]).expanduser()
    below = {entry.name for entry in place.iterdir()} if place.is_dir() else set()
    parts = {name.lower(): name for name in sorted(below)}
    test = next((parts[name] for name in TEST if name in parts), None) if TRAIN in parts else None
    rng = np.random.default_rng(0)
    found = folders.find(place / parts[TRAIN] if test else place)
    if test:
        others = sorted(name for name in below - {parts[TRAIN], test} if name[0] != ".")
        if others:
            checks.warn(f"{place} is read in {parts[TRAIN]} and {test}; left out: {', '.join(others)}.")
        tested = _of_the_same_classes(found, place / test)
    else:
        chosen = _of_each_class(found, settings["test_split"], rng)
        tested, found = found.some(np.flatnonzero(chosen)), found.some(np.flatnonzero(~chosen))
    if len(found.class_names) < 2:
        raise ValueError(
            f"{place} has the one class {found.class_names[0]!r}: there is nothing to tell apart."
        )
    found = found.some(rng.permutation(len(found.files))[: settings["limit"]])
    size = settings["image_size"] or IMAGE_SIZE
    x = _read([*found.files, *tested.files], (size, size, 3))
    kept, n = _kept(len(found.files), settings["validation_split"]), len(found.files)
    return Dataset(
        "pictures", x[:kept], found.labels[:kept], x[kept:n], found.labels[kept:], x[n:], tested.labels,
        found.class_names, title=place.resolve().name, about={"class_names": list(found.class_names)},
    )  # fmt: skip


def _of_the_same_classes(found: folders.Pictures, test: Path) -> folders.Pictures:
    """Return the pictures of a test folder, with the labels of the training folder's classes."""
    tested = folders.find(test)
    unknown = [name for name in tested.class_names if name not in found.class_names]
    if unknown:
        raise ValueError(
            f"{test} has the class {unknown[0]!r}, which nothing was trained on. Known: "
            f"{', '.join(found.class_names)}."
        )
    labels = np.array([found.class_names.index(tested.class_names[label]) for label in tested.labels])
    return folders.Pictures(tested.files, labels, found.class_names)


def _of_each_class(found: folders.Pictures, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return which pictures to test on: a share of each class, of two or more at least one."""
    chosen = np.zeros(len(found.files), bool)
    for label in range(len(found.class_names)):
        rows = np.flatnonzero(found.labels == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen[rng.permutation(rows)[:count]] = True
    if not chosen.any():
        raise ValueError("Each class has one picture: none is left to test on. Give more pictures.")
    return chosen


def _read(files: list[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """Return pictures as uint8 (N, *shape), read in several threads."""
    x, refused = np.empty((len(files), *shape), np.uint8), []

    def read(number: int) -> str | None:
        try:
            x[number] = read_picture(files[number], shape)[0]
        except (OSError, ValueError) as error:
            return str(error)
        return None

    # For who watches; standard output may be JSON, or be swallowed because nothing is to be said.
    progress = Progress(len(files), stream=sys.stderr) if is_watched(sys.stdout) else None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, problem in enumerate(pool.map(read, range(len(files)))):
            refused += [problem] if problem else []
            if progress:
                progress.update(number + 1, {})
    if progress:
        progress.finish({})
    if refused:
        more = f" And {len(refused) - NAMED} more." if len(refused) > NAMED else ""
        raise ValueError(
            f"{len(refused)} of {quantity(len(files), 'picture')} cannot be read. Replace or remove them:"
            f" {' '.join(refused[:NAMED])}{more}"
        )
    return x


def table(settings: Mapping[str, Any]) -> Dataset:
    """Return the rows of a CSV file, whose column ``target`` is to be told from the others.

    Text is classes. So are up to ``MOST_CLASSES`` different whole numbers, unless most values occur only
    once; other numbers are a quantity, which is standardised. The share ``test_split`` of the rows, mixed,
    is held out to test on, the same rows in every run.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read or a value does not fit; its line and column are named.
    """
    found, target = tables.read(settings["data"]), settings["target"]
    for row, cell in enumerate(found.column(target)):
        if is_missing(cell):
            raise ValueError(f"{found.place(row, target)}: the target is missing. Remove the row.")
    if text := tables.no_number(found, target):
        raise ValueError(f"{text}. Correct it, or remove the row.")
    unknown = [name for name in settings["ignore"] if name not in found.columns]
    if unknown:
        raise ValueError(f"{found.path} has no column {unknown[0]!r} to ignore: {', '.join(found.columns)}.")
    names = [name for name in found.columns if name != target and name not in settings["ignore"]]
    if not names:
        raise ValueError(f"{found.path} has no column but the target {target!r}: nothing to tell it from.")
    n, rng = len(found.rows), np.random.default_rng(0)
    order = rng.permutation(n)
    tested = max(1, round(settings["test_split"] * n))
    if tested >= n:
        raise ValueError(f"{found.path} has {quantity(n, 'row')}: none is left to train on. Give more rows.")
    test, train = order[:tested], order[tested:][: settings["limit"]]
    fill = settings["missing"] == "fill"
    encoding = tables.describe(found, names, train, fill)
    x = tables.encode(found, encoding, fill)
    if not x.shape[1]:
        raise ValueError(f"{found.path} has no value but those of the target {target!r}.")
    y, about = _answers(found, target, train)
    about |= {"target": target, "encoding": encoding, "fill": fill}
    kept = _kept(len(train), settings["validation_split"])
    train, held = train[:kept], train[kept:]
    return Dataset(
        "table", x[train], y[train], x[held], y[held], x[test], y[test], tuple(about["class_names"]),
        title=found.path.stem, about=about,
    )  # fmt: skip


def _answers(found: tables.Table, target: str, train: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Return labels or standardised values of the target, and what a run keeps of them."""
    cells, values = found.column(target), tables.numbers_of(found, target)
    known = cells if values is None else values.tolist()
    counts = Counter(known)
    if len(counts) == 1:
        raise ValueError(f"{found.path}: the target {target!r} is {cells[0]!r} everywhere.")
    once = [value for value, count in counts.items() if count == 1]
    mostly_once = 2 * len(once) > len(cells)
    if values is not None and (mostly_once or (values % 1).any() or len(counts) > MOST_CLASSES):
        scale = tables.scale(found, target, values, train)
        return tables.standardise(found, target, values, scale), {"class_names": [], **scale}
    if mostly_once:
        row = cells.index(once[0])
        raise ValueError(
            f"{found.place(row, target)}: {cells[row]!r} is no number, and no class: most values of the"
            " target occur only once. Write plain numbers, or predict another column: --target COLUMN."
        )
    spelled: dict[Any, str] = {}  # a number may be written in several ways; its class has the shortest name
    for answer, cell in zip(known, cells, strict=True):
        spelled[answer] = min(spelled.get(answer, cell), cell, key=lambda name: (len(name), name))
    classes = sorted(spelled)
    labels = {answer: label for label, answer in enumerate(classes)}
    return np.array([labels[answer] for answer in known]), {"class_names": [spelled[of] for of in classes]}


def _kept(n: int, validation_split: float) -> int:
    return batches.split(n, validation_split) if validation_split else n


KINDS = {"pictures": pictures, "table": table}
