"""Class labels as one-hot rows."""

from typing import Any

import numpy as np

from npnet.internal import checks

__all__ = ["to_categorical"]


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Return one-hot rows: ``y[n, x[n]] = 1``.

    Parameters
    ----------
    x
        Integer labels of any shape; a last axis of length 1 is dropped.
    num_classes
        K; by default the largest label plus one.

    Returns
    -------
    numpy.ndarray
        float64 (as in Keras 3) of shape ``(*x.shape, K)``.

    Raises
    ------
    ValueError
        If a label is not an integer in 0..K-1. (Keras lets negative labels wrap around.)
    """
    labels = checks.labels("x", checks.numbers("x", x))
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        num_classes = int(labels.max(initial=-1)) + 1
    else:
        num_classes = checks.integer("num_classes", num_classes)
    checks.label_range("x", labels, num_classes, f"num_classes={num_classes}")
    y = np.zeros((labels.size, num_classes))
    y[np.arange(labels.size), labels.reshape(-1)] = 1
    return y.reshape(*labels.shape, num_classes)
