"""A picture looked at several times, moved and mirrored: what a model says of all views together."""

from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.kernels.reference import move_pixels
from npnet.kernels.reference.more_pictures import places
from npnet.models import Sequential

__all__ = ["NUMBERS", "check", "predict"]

NUMBERS = (1, 6)
SHIFTS = ((0, 0.5), (-1, 0.25), (1, 0.25))  # pixels down and to the right, and what such a view counts


def check(name: str, value: Any) -> int:
    """Return ``value`` if there are so many views."""
    if checks.integer(name, value) not in NUMBERS:
        raise ValueError(f"{name} must be {' or '.join(map(str, NUMBERS))}, got {value!r}.")
    return int(value)


def predict(model: Sequential, x: np.ndarray, views: int = 1, batch_size: int = 32) -> np.ndarray:
    """Return the probabilities (N, K) that a model gives to pictures (N, H, W, C), of several views together.

    Six views: the picture and its mirror image, each also moved by one pixel up and left, and down and right,
    with reflected edges. The probabilities are softmax(sum of weight log p), which is the softmax of the mean
    of the logits: log p differs from the logits by a number that is the same for all classes.

    Parameters
    ----------
    views
        1 or 6; with 1 this is ``model.predict``.
    """
    if check("views", views) == 1:
        return model.predict(x, batch_size=batch_size, verbose=0)
    height, width = x.shape[1:3]
    total: Any = 0.0
    for shift, weight in SHIFTS:
        rows, columns = (places(np.arange(size) - shift, size, "mirror") for size in (height, width))
        ways = np.zeros((2, len(x)), int)
        for order in (columns, columns[::-1]):
            seen = move_pixels(x, rows[None], order[None], ways, 0)
            p = model.predict(seen, batch_size=batch_size, verbose=0)
            total = total + weight / 2 * np.log(np.maximum(p, np.finfo(p.dtype).tiny))
    powers = np.exp(total - total.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
