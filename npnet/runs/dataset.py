"""What a run trains on: checked arrays with names and a fingerprint."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npnet.internal.words import quantity
from npnet.utils import to_categorical

__all__ = ["ROWS", "Dataset", "errors_in_own_unit", "things"]

ROWS = ("table", "california_housing")  # whose samples are rows of numbers, standardised


def things(name: str) -> str:
    """Return what the samples of a dataset are called."""
    return "points" if name == "spiral" else "rows" if name in ROWS else "images"


def errors_in_own_unit(history: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Return a history with the errors of a quantity in the unit of the table, not in its deviations.

    ``about`` is what the run keeps of its data; that of classes has no deviation, and nothing changes.
    """
    unit = about.get("deviation", 1.0)
    return {
        name: [unit * value for value in values] if name.endswith("mean_absolute_error") else values
        for name, values in history.items()
    }


@dataclass(frozen=True)
class Dataset:
    """Samples (N, ...) as they were published, and labels (N,) from 0 to K - 1, or standardised targets.

    Attributes
    ----------
    x_train, y_train
        To learn from.
    x_held, y_held
        Held out of the training part, to choose an epoch by; empty where none is chosen.
    x_test, y_test
        To measure the trained network on.
    class_names
        Empty where a quantity is to be predicted.
    title
        What the user calls it, if not ``name``.
    about
        What a run keeps of a table or of the user's own data, to read more of the kind: names of classes,
        encoding.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_held: np.ndarray
    y_held: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]
    title: str = ""
    about: dict[str, Any] = field(default_factory=dict)

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
        kind = things(self.name)[:-1]
        shape = " x ".join(map(str, self.x_train.shape[1:]))
        if not self.of_images:
            shape = quantity(self.x_train.shape[1], {"point": "coordinate", "row": "feature"}[kind])
        held = f"{len(self.x_held):,} held out of them to choose the epoch by, " if len(self.x_held) else ""
        answer = f"{len(self.class_names)} classes" if self.class_names else "one quantity"
        return (
            f"{self.title or self.name}: {quantity(len(self.x_train), kind)} to train on, {held}"
            f"{len(self.x_test):,} to test on, {shape}, {answer}"
        )

    @property
    def metric(self) -> str:
        """What is reported besides the loss."""
        return "accuracy" if self.class_names else "mean_absolute_error"

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Return what a network is to answer for labels or targets y: one-hot rows, or (N, 1)."""
        return to_categorical(y, len(self.class_names)) if self.class_names else y[:, None]

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
