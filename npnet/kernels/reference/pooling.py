"""Pooling: the largest or the mean number in each window, channel by channel.

Arrays: x (N, H, W, C), y (N, H', W', C); where the window stands is said in ``kernels/geometry.py``. Padding
is no number: it is never the largest, and means are those of the pixels that are there.
"""

import numpy as np

from npnet.kernels.geometry import taps

__all__ = ["average_pool_backward", "average_pool_forward", "max_pool_backward", "max_pool_forward"]


def max_pool_forward(x, geometry):
    """y = the largest number under the window.  Also returns ``taken`` (N, H', W', C), the tap it was under.

    Taps are counted row after row. Of equal numbers the first is taken, of NaNs too: a window with a NaN
    has the maximum NaN. (A window of -infinity alone takes its tap 0.)
    """
    x = _padded(x, geometry, -np.inf)
    y = np.full((len(x), *geometry.places, x.shape[-1]), -np.inf, x.dtype)
    taken = np.zeros(y.shape, np.int32)
    for number, (_, (rows, columns)) in enumerate(taps(geometry)):
        under = x[:, rows, columns]
        better = (under > y) | (np.isnan(under) & ~np.isnan(y))
        y, taken = np.where(better, under, y), np.where(better, np.int32(number), taken)
    return y, taken


def max_pool_backward(dy, taken, geometry):
    """dx = dy for the pixel that was taken under each window, 0 for the others.

    y is a copy of one pixel, whose ∂y/∂x is 1; that of all others is 0. At a tie the maximum has a kink;
    the first of the equal pixels gets all of dy, as in TensorFlow, PyTorch and JAX.
    """
    dx = _room(dy, geometry)
    for number, (_, (rows, columns)) in enumerate(taps(geometry)):
        dx[:, rows, columns] += np.where(taken == number, dy, 0)
    return _cropped(dx, geometry)


def average_pool_forward(x, geometry):
    """y = the mean of the pixels under the window: their sum by their number, without the padding."""
    x, count = _padded(x, geometry, 0), _counts(geometry, x.dtype)
    return sum(x[:, rows, columns] for _, (rows, columns) in taps(geometry)) / count


def average_pool_backward(dy, geometry):
    """dx = the sum of dy / count over the windows a pixel is under.

    ∂y/∂x is 1 / count for every pixel under the window.
    """
    dx, part = _room(dy, geometry), dy / _counts(geometry, dy.dtype)
    for _, (rows, columns) in taps(geometry):
        dx[:, rows, columns] += part
    return _cropped(dx, geometry)


def _padded(x, geometry, value):
    """x with a border of ``value``."""
    return np.pad(x, ((0, 0), *geometry.padding, (0, 0)), constant_values=value)


def _counts(geometry, dtype):
    """How many real pixels are under the window in each of its places (H', W', 1)."""
    real = _padded(np.ones((1, *geometry.size, 1), dtype), geometry, 0)[0]
    return sum(real[rows, columns] for _, (rows, columns) in taps(geometry))


def _room(dy, geometry):
    """Zeros for the gradient of the padded picture."""
    sides = (n + before + after for n, (before, after) in zip(geometry.size, geometry.padding, strict=True))
    return np.zeros((len(dy), *sides, dy.shape[-1]), dy.dtype)


def _cropped(dx, geometry):
    """The gradient without the padding."""
    (above, _), (left, _) = geometry.padding
    height, width = geometry.size
    return dx[:, above : above + height, left : left + width]
