"""Pooling: pictures made smaller, the largest or the mean number of each window; of the whole picture, too.

The mathematics is in ``kernels/reference/pooling.py``; names, arguments and defaults are Keras 3's.
"""

import math
from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.kernels.geometry import Geometry, trimmed
from npnet.layers.layer import Layer, Shape
from npnet.layers.windows import Windowed, channels_last, expect_places, sizes

__all__ = [
    "AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalPooling", "MaxPooling1D", "MaxPooling2D", "Pooling",
]  # fmt: skip


class Pooling(Windowed):
    """Base of pooling by windows: (N, H, W, C) -> (N, H', W', C).

    H' is floor((H - pool) / stride) + 1 for "valid", ceil(H / stride) for "same".

    Parameters
    ----------
    pool_size
        Height and width of the window, (2, 2) or 2.
    strides
        How far it moves; None: by its own size, so that no two windows overlap.
    padding
        "valid": windows inside the picture only, a rest at its end is left out; "same": windows that reach
        over the edges, too. What lies outside counts neither as a maximum nor in a mean.
    data_format
        "channels_last" or None.
    """

    def __init__(self, pool_size: Any, strides: Any, padding: str, data_format: str | None, **options: Any):
        super().__init__(**options)
        self.pool_size = sizes("pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else sizes("strides", strides, self.rank)
        self.padding = self.check_padding(padding)
        self.data_format = channels_last(data_format)

    @property
    def window(self) -> Shape:
        """The size of the window."""
        return self.pool_size

    def windows(self, input_shape: Shape) -> Geometry:
        """Return where the window stands in samples of a shape."""
        found = super().windows(input_shape)
        return trimmed(found) if self.padding == "same" else found

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (H', W', C)."""
        return (*self.places(input_shape), input_shape[-1])


class MaxPooling2D(Pooling):
    """The largest number of each window, channel by channel; NaN if there is one.

    Parameters
    ----------
    pool_size, strides, padding, data_format
        See ``Pooling``.
    """

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **options: Any,
    ):
        super().__init__(pool_size, strides, padding, data_format, **options)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the maxima, and remember which tap of each window was the largest."""
        self.geometry = self.windows(x.shape[1:])
        y, self.taken = self.kernels.max_pool_forward(self.as_pictures(x), self.geometry)
        return self.as_samples(y)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy where the maxima came from; of equal ones the first gets it."""
        dx = self.kernels.max_pool_backward(self.as_pictures(dy), self.taken, self.geometry)
        return self.as_samples(dx)


class MaxPooling1D(MaxPooling2D):
    """The largest number of each window of a sequence (N, L, C)."""

    rank = 1


class AveragePooling2D(Pooling):
    """The mean of each window, channel by channel.

    Parameters
    ----------
    pool_size, strides, padding, data_format
        See ``Pooling``.
    """

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **options: Any,
    ):
        super().__init__(pool_size, strides, padding, data_format, **options)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the means of the pixels that are there."""
        self.geometry = self.windows(x.shape[1:])
        return self.as_samples(self.kernels.average_pool_forward(self.as_pictures(x), self.geometry))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return to each pixel its share of each window it was in."""
        return self.as_samples(self.kernels.average_pool_backward(self.as_pictures(dy), self.geometry))


class AveragePooling1D(AveragePooling2D):
    """The mean of each window of a sequence (N, L, C)."""

    rank = 1


class GlobalPooling(Layer):
    """Base of pooling over whole pictures: (N, H, W, C) -> (N, C).

    Parameters
    ----------
    data_format
        "channels_last" or None.
    keepdims
        Keep height and width, each as 1: (N, 1, 1, C).
    """

    rank = 2

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **options: Any):
        super().__init__(**options)
        self.data_format = channels_last(data_format)
        self.keepdims = checks.flag("keepdims", keepdims)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (C,), or (1, 1, C)."""
        expect_places(self, input_shape, self.rank)
        return (*(1,) * (self.rank if self.keepdims else 0), input_shape[-1])

    @property
    def axes(self) -> Shape:
        """The axes that are pooled."""
        return tuple(range(1, self.rank + 1))

    def with_axes(self, dy: np.ndarray) -> np.ndarray:
        """Return dy (N, C) as (N, 1, 1, C)."""
        return dy if self.keepdims else np.expand_dims(dy, self.axes)


class GlobalAveragePooling2D(GlobalPooling):
    """y = the mean of each channel over the whole picture."""

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the means."""
        self.x_shape = x.shape
        return x.mean(axis=self.axes, keepdims=self.keepdims)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy / (H W) for each pixel."""
        pixels = math.prod(self.x_shape[1:-1])
        return np.broadcast_to(self.with_axes(dy) / pixels, self.x_shape).astype(dy.dtype)


class GlobalAveragePooling1D(GlobalAveragePooling2D):
    """y = the mean of each channel over a whole sequence (N, L, C)."""

    rank = 1


class GlobalMaxPooling2D(GlobalPooling):
    """y = the largest number of each channel in the whole picture; NaN if there is one."""

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the maxima, and remember where the first of the largest is."""
        self.x_shape = x.shape
        pixels = x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
        self.place = pixels.argmax(axis=1, keepdims=True)
        y = np.take_along_axis(pixels, self.place, axis=1)
        return y.reshape(len(x), *self.compute_output_shape(x.shape[1:]))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy for the first of the largest pixels, 0 for the others."""
        n, channels = self.x_shape[0], self.x_shape[-1]
        dx = np.zeros((n, math.prod(self.x_shape[1:-1]), channels), dy.dtype)
        np.put_along_axis(dx, self.place, dy.reshape(n, 1, channels), axis=1)
        return dx.reshape(self.x_shape)


class GlobalMaxPooling1D(GlobalMaxPooling2D):
    """y = the largest number of each channel in a whole sequence (N, L, C)."""

    rank = 1
