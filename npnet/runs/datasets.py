"""The datasets a run can train on, by name."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npnet.datasets import (
    california_housing,
    cifar10,
    cifar100,
    fashion_mnist,
    mnist,
    shapes,
    spiral,
    tables,
)
from npnet.runs import own_data
from npnet.runs.dataset import ROWS, Dataset
from npnet.training import batches as data

__all__ = ["DESCRIBED", "DRAWN", "LOADERS", "OWN", "Dataset", "Split", "Splits", "load", "of"]

Split = tuple[np.ndarray, np.ndarray]
Splits = tuple[Split, Split]


def _cifar10(path: str | None, limit: int | None) -> Splits:
    (x, y), test = cifar10.load_data(path)
    return (x[:limit], y[:limit]), test


def _shapes(path: str | None, limit: int | None) -> Splits:
    return shapes.load_data() if limit is None else shapes.load_data(n_train=limit)


def _spiral(path: str | None, limit: int | None) -> Splits:
    (x, y), test = spiral.load_data()
    return (x[:limit], y[:limit]), test


def _grey(load_data: Callable[..., Splits]) -> Callable[[str | None, int | None], Splits]:
    """Return a loader of grey pictures, (N, 28, 28), which gives them a channel."""

    def load(path: str | None, limit: int | None) -> Splits:
        (x, y), (x_test, y_test) = load_data() if path is None else load_data(path)
        return (x[:limit, ..., None], y[:limit]), (x_test[..., None], y_test)

    return load


def _cifar100(path: str | None, limit: int | None) -> Splits:
    (x, y), test = cifar100.load_data(path=path)
    return (x[:limit], y[:limit]), test


def _california_housing(path: str | None, limit: int | None) -> Splits:
    load_data = california_housing.load_data
    (x, y), test = load_data() if path is None else load_data(path=path)
    return (x[:limit], y[:limit]), test


def _standardised(train: Split, test: Split, names: tuple[str, ...], target: str) -> tuple[Split, Split, Any]:
    """Return rows and their quantity in units of the training rows' deviations, and what a run keeps."""
    encoding = [
        {"name": name, **tables.measure(column)} for name, column in zip(names, train[0].T, strict=True)
    ]
    measured = tables.measure(train[1])
    mean, deviation = (np.array([column[of] for column in encoding]) for of in ("mean", "deviation"))
    train, test = (
        (
            ((x - mean) / deviation).astype(np.float32),
            ((y - measured["mean"]) / measured["deviation"]).astype(np.float32),
        )
        for x, y in (train, test)
    )
    about = {"target": target, "encoding": encoding, "fill": False, "class_names": [], **measured}
    return train, test, about


LOADERS: dict[str, tuple[Callable[[str | None, int | None], Splits], tuple[str, ...]]] = {
    "cifar10": (_cifar10, cifar10.CLASS_NAMES),
    "cifar100": (_cifar100, cifar100.CLASS_NAMES),
    "mnist": (_grey(mnist.load_data), mnist.CLASS_NAMES),
    "fashion_mnist": (_grey(fashion_mnist.load_data), fashion_mnist.CLASS_NAMES),
    "california_housing": (_california_housing, ()),
    "shapes": (_shapes, shapes.CLASS_NAMES),
    "spiral": (_spiral, ("first arm", "second arm", "third arm")),
}

DRAWN = ("shapes", "spiral")
OWN = tuple(own_data.KINDS)
DESCRIBED = tuple({*OWN, *ROWS})  # of which a run keeps what they are


def of(settings: Mapping[str, Any]) -> Dataset:
    """Return the dataset of a run's settings.

    Raises
    ------
    OSError, ValueError
        If it cannot be had or is damaged, or a setting does not fit it.
    """
    if settings["dataset"] in OWN:
        return own_data.load(settings)
    return load(*(settings[name] for name in ("dataset", "data", "limit", "validation_split")))


def load(
    name: str, path: str | None = None, limit: int | None = None, validation_split: float = 0.0
) -> Dataset:
    """Return a dataset.

    Parameters
    ----------
    name
        A key of ``LOADERS``.
    path
        Where a published data set lies; shapes and spiral are drawn.
    limit
        How many samples to train on at most; the test part is whole.
    validation_split
        Share of the training samples to hold out, the last ones, as in Keras.

    Raises
    ------
    OSError, ValueError
        If it cannot be had or is damaged, or there is a ``path`` and it is drawn.
    """
    if path is not None and name in DRAWN:
        raise ValueError(
            f"data says where a published data set lies, but {name} is drawn. Leave it out, got {path!r}."
        )
    loader, class_names = LOADERS[name]
    (x, y), (x_test, y_test) = loader(path, limit)
    about: dict[str, Any] = {}
    if name in ROWS:
        names, target = california_housing.FEATURE_NAMES, california_housing.TARGET_NAME
        (x, y), (x_test, y_test), about = _standardised((x, y), (x_test, y_test), names, target)
    y, kept = y.reshape(-1), data.split(len(x), validation_split) if validation_split else len(x)
    return Dataset(
        name, x[:kept], y[:kept], x[kept:], y[kept:], x_test, y_test.reshape(-1), class_names, about=about
    )
