"""Pooling: pictures made smaller, the largest or the mean number of each window; of the whole picture, too.

The mathematics is in ``kernels/reference/pooling.py``; names, arguments and defaults are Keras 3's.
"""

from typing import Any

import numpy as np

from npnet.internal import checks
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

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return one number a channel."""
        self.x_shape = x.shape
        y = self.pool(x.reshape(len(x), -1, x.shape[-1]))
        return y.reshape(len(x), *self.compute_output_shape(x.shape[1:]))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dx, in the shape of x."""
        n, *places, channels = self.x_shape
        pixels = np.empty((n, int(np.prod(places)), channels), dy.dtype)
        self.pool_backward(dy.reshape(n, 1, channels), pixels)
        return pixels.reshape(self.x_shape)

    def pool(self, pixels: np.ndarray) -> np.ndarray:
        """Return (N, 1, C) of pixels (N, H W, C)."""
        raise NotImplementedError

    def pool_backward(self, dy: np.ndarray, dpixels: np.ndarray) -> None:
        """Write the gradient of the pixels (N, H W, C), given dy (N, 1, C)."""
        raise NotImplementedError


class GlobalAveragePooling2D(GlobalPooling):
    """The mean of each channel over the whole picture."""

    def pool(self, pixels: np.ndarray) -> np.ndarray:
        """Return the means."""
        return pixels.mean(axis=1, keepdims=True)

    def pool_backward(self, dy: np.ndarray, dpixels: np.ndarray) -> None:
        """Each pixel is one H W-th of the mean."""
        dpixels[...] = dy / dpixels.shape[1]


class GlobalAveragePooling1D(GlobalAveragePooling2D):
    """The mean of each channel over a whole sequence (N, L, C)."""

    rank = 1


class GlobalMaxPooling2D(GlobalPooling):
    """The largest number of each channel in the whole picture; NaN if there is one."""

    def pool(self, pixels: np.ndarray) -> np.ndarray:
        """Return the maxima, and remember where the first of the largest is."""
        self.place = pixels.argmax(axis=1, keepdims=True)
        return np.take_along_axis(pixels, self.place, axis=1)

    def pool_backward(self, dy: np.ndarray, dpixels: np.ndarray) -> None:
        """The maximum is a copy of one pixel."""
        dpixels[...] = 0
        np.put_along_axis(dpixels, self.place, dy, axis=1)


class GlobalMaxPooling1D(GlobalMaxPooling2D):
    """The largest number of each channel in a whole sequence (N, L, C)."""

    rank = 1
