"""The datasets a run can train on, each as checked arrays with names and a fingerprint."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npnet.datasets import cifar10, cifar100, fashion_mnist, mnist, shapes, spiral
from npnet.training import batches as data

__all__ = ["LOADERS", "Dataset", "Splits", "load"]

Splits = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Dataset:
    """Samples (N, ...) as they were published, and labels (N,) from 0 to K - 1.

    Attributes
    ----------
    x_train, y_train
        To learn from.
    x_held, y_held
        Held out of the training part, to choose an epoch by; empty where none is chosen.
    x_test, y_test
        To measure the trained network on.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_held: np.ndarray
    y_held: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    @property
    def of_images(self) -> bool:
        """Whether a sample is a picture (H, W, C)."""
        return self.x_train.ndim == 4

    @property
    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """What a network is measured on after every epoch: the samples held out, else the test samples."""
        return (self.x_held, self.y_held) if len(self.x_held) else (self.x_test, self.y_test)

    def describe(self) -> str:
        """Return size and shape in words."""
        kind = "images" if self.of_images else "points"
        shape = " x ".join(map(str, self.x_train.shape[1:])) + ("" if self.of_images else " coordinates")
        held = f"{len(self.x_held):,} held out of them to choose the epoch by, " if len(self.x_held) else ""
        return (
            f"{self.name}: {len(self.x_train):,} {kind} to train on, {held}{len(self.x_test):,} to test on,"
            f" {shape}, {len(self.class_names)} classes"
        )

    def sha256(self) -> str:
        """Return the SHA-256 of all samples and labels."""
        result = hashlib.sha256()
        for parts in (
            (self.x_train, self.x_held),
            (self.y_train, self.y_held),
            (self.x_test,),
            (self.y_test,),
        ):
            shape = (sum(map(len, parts)), *parts[0].shape[1:])
            result.update(f"{parts[0].dtype.str} {shape}\n".encode())
            for part in parts:
                result.update(np.ascontiguousarray(part).data)
        return result.hexdigest()


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


LOADERS: dict[str, tuple[Callable[[str | None, int | None], Splits], tuple[str, ...]]] = {
    "cifar10": (_cifar10, cifar10.CLASS_NAMES),
    "cifar100": (_cifar100, cifar100.CLASS_NAMES),
    "mnist": (_grey(mnist.load_data), mnist.CLASS_NAMES),
    "fashion_mnist": (_grey(fashion_mnist.load_data), fashion_mnist.CLASS_NAMES),
    "shapes": (_shapes, shapes.CLASS_NAMES),
    "spiral": (_spiral, ("first arm", "second arm", "third arm")),
}

DRAWN = ("shapes", "spiral")


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
    y, kept = y.reshape(-1), data.split(len(x), validation_split) if validation_split else len(x)
    return Dataset(name, x[:kept], y[:kept], x[kept:], y[kept:], x_test, y_test.reshape(-1), class_names)
