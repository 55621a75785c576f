"""Samples and targets, checked against the model they are for."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.layers import Dense, activations
from npnet.layers.layer import Layer, Shape
from npnet.losses import (
    NAMES,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    SparseCategoricalCrossentropy,
)
from npnet.training.batches import Batch

__all__ = ["Samples", "check_targets", "class_weights", "warn_about_last_layer"]


@dataclass
class Samples:
    """Checked arrays with one row a sample; the user's own, only read."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, start: int, stop: int) -> "Samples":
        """Return some of the rows, as views."""
        weight = None if self.weight is None else self.weight[start:stop]
        return Samples(self.x[start:stop], self.y[start:stop], weight)

    def batch(self, index: np.ndarray) -> Batch:
        """Return the targets and weights of the rows ``index``."""
        return Batch(index, self.y[index], None if self.weight is None else self.weight[index])


def check_targets(name: str, value: Any, loss: Loss, output_shape: Shape) -> np.ndarray:
    """Return targets that fit the loss and the model's output.

    Raises
    ------
    ValueError, TypeError
        Where the shape is another than the output's (nothing is broadcast), a class label is outside
        0..K-1, or a probability outside 0..1.
    """
    y = checks.array(name, value)
    units = output_shape[-1]
    if isinstance(loss, SparseCategoricalCrossentropy):
        if y.shape not in ((len(y),), (len(y), 1)):
            raise ValueError(
                f"{name} must hold one integer label a sample for {type(loss).__name__}, shape ({len(y)},) or"
                f' ({len(y)}, 1), got {y.shape}. For one-hot rows use loss="categorical_crossentropy".'
            )
        labels = checks.labels(name, y)
        counted = labels if loss.ignore_class is None else labels[labels != loss.ignore_class]
        checks.label_range(name, counted, units, f"the last layer with {units} units")
        return labels
    if type(loss) not in NAMES.values():
        return y  # someone's own loss knows its targets
    if y.shape == (len(y),) and output_shape == (1,):
        y = y[:, None]
    if y.shape[1:] != output_shape:
        expected = ", ".join(map(str, (len(y), *output_shape)))
        hint = ""
        if isinstance(loss, CategoricalCrossentropy) and y.shape in ((len(y),), (len(y), 1)):
            hint = (
                f" Integer labels? Either make them one-hot, npnet.utils.to_categorical({name}, {units}),"
                ' or use loss="sparse_categorical_crossentropy".'
            )
        raise ValueError(f"{name} must have the shape of the output, ({expected}), got {y.shape}.{hint}")
    if not loss.of_probabilities:
        checks.finite(name, y)
        return y
    low, high = y.min(initial=0), y.max(initial=1)
    if not (low >= 0 and high <= 1):  # NaN is neither
        checks.finite(name, y)
        wrong = low if low < 0 else high
        raise ValueError(f"{name} must hold probabilities, 0 to 1, for {type(loss).__name__}, got {wrong}.")
    return y


def class_weights(class_weight: dict[int, float], y: np.ndarray, units: int) -> np.ndarray:
    """Return the weight of each sample's class, 1 for classes left out."""
    if not isinstance(class_weight, dict):
        raise TypeError(f"class_weight must be a dict {{label: weight}}, got {type(class_weight).__name__}.")
    one_hot = y.ndim > 1 and y.shape[-1] > 1
    labels = y.argmax(axis=-1) if one_hot else y
    if labels.size != len(y):
        raise ValueError(
            "class_weight weighs samples by the one class that each has, but the targets have the shape"
            f" {y.shape}. Give sample_weight, one number a sample."
        )
    labels = labels.reshape(-1)
    weight = np.ones(len(labels))
    for label, value in class_weight.items():
        if label not in range(max(units, 2)):
            raise ValueError(f"class_weight names the label {label!r}; labels are 0..{max(units, 2) - 1}.")
        if not isinstance(value, (int, float, np.number)):
            raise TypeError(f"class_weight[{label}] must be a number, got {value!r}.")
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"class_weight[{label}] must be finite and at least 0, got {value!r}.")
        weight[labels == label] = value
    checks.finite("class_weight", weight, remedy="Give smaller weights.")
    return weight


def warn_about_last_layer(chain: list[Layer], loss: Loss) -> None:
    """Warn where the loss and the last activation do not belong together, or a softmax has one output."""
    if _warn_about_one_output(chain, loss):
        return
    for kind, name in ((CategoricalCrossentropy, "softmax"), (BinaryCrossentropy, "sigmoid")):
        if not chain or not isinstance(loss, kind):
            continue
        present = isinstance(chain[-1], activations.NAMES[name])
        if present and loss.from_logits:
            checks.warn(
                f"{kind.__name__}(from_logits=True) applies {name} to an output that had it already."
                f" Drop from_logits=True or the last layer's {name}."
            )
        elif not present and not loss.from_logits:
            checks.warn(
                f"{kind.__name__} expects probabilities, but the last layer has no {name}. Give it"
                f' activation="{name}", or use {type(loss).__name__}(from_logits=True).'
            )


def _warn_about_one_output(chain: list[Layer], loss: Loss) -> bool:
    """Warn where a softmax, in the network or in the loss, has one output, and tell whether there is one."""
    units, where = 0, ""
    for link in chain:
        units = link.units if isinstance(link, Dense) else units
        if units == 1 and isinstance(link, (activations.Softmax, activations.LogSoftmax)):
            where = f"{type(link).__name__} after a layer"
    if not where and units == 1 and isinstance(loss, CategoricalCrossentropy):
        where = f"{type(loss).__name__} of a last layer"
    if where:
        checks.warn(
            f"{where} with one unit: the probability of the only class is 1 whatever the weights, and nothing"
            ' is learned. For two classes use Dense(1, activation="sigmoid") and loss="binary_crossentropy",'
            ' or Dense(2, activation="softmax").'
        )
    return bool(where)
