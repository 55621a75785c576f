"""Layers that move numbers and compute none, or next to none: shapes, borders, larger pictures.

Names, arguments and defaults are Keras 3's.
"""

import math
from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.layers.layer import Layer, Shape
from npnet.layers.windows import channels_last, expect_places, sizes

__all__ = ["Cropping2D", "Permute", "Reshape", "UpSampling2D", "ZeroPadding2D"]

Sides = tuple[tuple[int, ...], ...]


class Reshape(Layer):
    """(N, ...) -> (N, *target_shape), the numbers in the order they lie in memory.

    Parameters
    ----------
    target_shape
        Shape of one sample; one of its sizes may be -1, which is then what is left.
    """

    takes_integers = True

    def __init__(self, target_shape: Any, **options: Any):
        super().__init__(**options)
        try:
            self.target_shape = tuple(checks.integer("target_shape", size, least=-1) for size in target_shape)
        except (TypeError, ValueError):
            self.target_shape = ()
        if not self.target_shape or 0 in self.target_shape or self.target_shape.count(-1) > 1:
            raise ValueError(
                "target_shape must hold positive integers and at most one -1, for instance (32, 32, 3), got"
                f" {target_shape!r}."
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the target shape, its -1 worked out."""
        have, known = math.prod(input_shape), math.prod(size for size in self.target_shape if size > 0)
        shape = tuple(have // known if size == -1 else size for size in self.target_shape)
        if math.prod(shape) != have:
            raise ValueError(
                f"target_shape of Reshape {self.name!r} must hold {have} numbers, as samples of shape"
                f" {input_shape} do, got {self.target_shape}."
            )
        return shape

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x in the target shape."""
        self.sample_shape = x.shape[1:]
        return x.reshape(len(x), *self.compute_output_shape(self.sample_shape))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy in the shape of x."""
        return dy.reshape(len(dy), *self.sample_shape)


class Permute(Layer):
    """The axes of a sample in another order: ``Permute((3, 1, 2))`` makes (C, H, W) of (H, W, C).

    Parameters
    ----------
    dims
        The axes' new order, counted from 1: the batch axis stays first.
    """

    takes_integers = True

    def __init__(self, dims: Any, **options: Any):
        super().__init__(**options)
        self.dims = tuple(dims) if np.ndim(dims) == 1 else ()
        if not self.dims or sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(f"dims must hold 1, 2, ... in some order, for instance (2, 1), got {dims!r}.")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the sizes in their new order."""
        if len(input_shape) != len(self.dims):
            raise ValueError(
                f"dims of Permute {self.name!r} must name each axis of samples of shape {input_shape}, got"
                f" {self.dims}."
            )
        return tuple(input_shape[axis - 1] for axis in self.dims)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x with its axes in the new order."""
        return x.transpose(0, *self.dims)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy with its axes in the old order."""
        return dy.transpose(0, *(1 + np.argsort(self.dims)))


class ZeroPadding2D(Layer):
    """Zeros around pictures (N, H, W, C).

    Parameters
    ----------
    padding
        A number for all sides, (height, width), or ((above, below), (left, right)).
    data_format
        "channels_last" or None.
    """

    takes_integers = True

    def __init__(self, padding: Any = (1, 1), data_format: str | None = None, **options: Any):
        super().__init__(**options)
        self.padding = _sides("padding", padding)
        self.data_format = channels_last(data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the larger height and width, and the channels."""
        expect_places(self, input_shape, 2)
        height, width = (n + sum(sides) for n, sides in zip(input_shape[:2], self.padding, strict=True))
        return height, width, input_shape[-1]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return x with zeros around it."""
        return np.pad(x, ((0, 0), *self.padding, (0, 0)))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return the inner part of dy."""
        return _inner(dy, self.padding)


class Cropping2D(Layer):
    """Pictures (N, H, W, C) without some rows and columns at their edges.

    Parameters
    ----------
    cropping
        A number for all sides, (height, width), or ((above, below), (left, right)).
    data_format
        "channels_last" or None.
    """

    takes_integers = True

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **options: Any):
        super().__init__(**options)
        self.cropping = _sides("cropping", cropping)
        self.data_format = channels_last(data_format)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the smaller height and width, and the channels."""
        expect_places(self, input_shape, 2)
        height, width = (n - sum(sides) for n, sides in zip(input_shape[:2], self.cropping, strict=True))
        if min(height, width) < 1:
            raise ValueError(
                f"cropping of Cropping2D {self.name!r} must leave some of {input_shape[0]} x"
                f" {input_shape[1]} pixels, got {self.cropping}."
            )
        return height, width, input_shape[-1]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the inner part of x."""
        return _inner(x, self.cropping)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy with zeros around it: what was cut off had no effect."""
        return np.pad(dy, ((0, 0), *self.cropping, (0, 0)))


class UpSampling2D(Layer):
    """Pictures (N, H, W, C) made ``size`` times as large.

    Parameters
    ----------
    size
        How many times as high and as wide.
    data_format
        "channels_last" or None.
    interpolation
        "nearest": each pixel is repeated. "bilinear": each new pixel lies, seen from its centre, between two
        old ones in each direction, and is their mean weighted by nearness; beyond the outermost centres it is
        the outermost pixel.
    """

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        **options: Any,
    ):
        super().__init__(**options)
        self.size = sizes("size", size, 2)
        self.data_format = channels_last(data_format)
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(f"interpolation must be 'nearest' or 'bilinear', got {interpolation!r}.")
        self.interpolation = interpolation

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the larger height and width, and the channels."""
        expect_places(self, input_shape, 2)
        height, width = (n * times for n, times in zip(input_shape[:2], self.size, strict=True))
        return height, width, input_shape[-1]

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the larger pictures: first higher, then wider."""
        for axis, times in enumerate(self.size, start=1):
            x = self._stretched(x, axis, times)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return to each pixel what came of it."""
        for axis, times in enumerate(self.size, start=1):
            dy = self._shrunk(dy, axis, times)
        return dy

    def _stretched(self, x: np.ndarray, axis: int, times: int) -> np.ndarray:
        if self.interpolation == "nearest":
            return np.repeat(x, times, axis)
        before, after, nearness = _between(x, axis, x.shape[axis], times)
        return x.take(before, axis) * (1 - nearness) + x.take(after, axis) * nearness

    def _shrunk(self, dy: np.ndarray, axis: int, times: int) -> np.ndarray:
        n = dy.shape[axis] // times
        if self.interpolation == "nearest":
            return dy.reshape(*dy.shape[:axis], n, times, *dy.shape[axis + 1 :]).sum(axis=axis + 1)
        before, after, nearness = _between(dy, axis, n, times)
        dx = np.zeros((*dy.shape[:axis], n, *dy.shape[axis + 1 :]), dy.dtype)
        for old, weight in ((before, 1 - nearness), (after, nearness)):
            np.add.at(np.moveaxis(dx, axis, 0), old, np.moveaxis(dy * weight, axis, 0))
        return dx


def _between(x: np.ndarray, axis: int, n: int, times: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each new pixel of an axis the old ones before and after it, and its nearness to the latter.

    The centre of new pixel j lies at (j + 1/2) / times - 1/2, counted in old pixels.
    """
    centres = np.clip((np.arange(n * times) + 0.5) / times - 0.5, 0, n - 1)
    before = centres.astype(np.intp)
    after = np.minimum(before + 1, n - 1)
    nearness = (centres - before).astype(x.dtype)
    return before, after, nearness.reshape(-1, *(1,) * (x.ndim - axis - 1))


def _sides(name: str, value: Any) -> Sides:
    """Return ((above, below), (left, right)), each at least 0."""
    try:
        both = (value, value) if np.ndim(value) == 0 else tuple(value)
        if len(both) != 2:
            raise ValueError
        return tuple(sizes(name, sides, 2, least=0) for sides in both)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be an integer of at least 0, (height, width) or ((above, below), (left, right)),"
            f" got {value!r}."
        ) from None


def _inner(x: np.ndarray, sides: Sides) -> np.ndarray:
    """Return pictures without some pixels at each side."""
    (above, below), (left, right) = sides
    return x[:, above : x.shape[1] - below, left : x.shape[2] - right]
