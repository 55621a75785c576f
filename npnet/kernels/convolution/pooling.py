"""Pooling, compiled: a register of channels at a time, window by window.

Forward a task is a row of the output, backward it is a picture, because windows may overlap. The taps of a
window are gone through in the textbook's order, so ties and NaN end as they do there.
"""

from typing import Any, NamedTuple

import numpy as np

from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.vectors.memory import fill, lanes_of, load, load_as, store, store_as

__all__ = ["average_pool_backward", "average_pool_forward", "max_pool_backward", "max_pool_forward", "unpool"]

SERIAL = 1 << 15  # numbers of the output below which waking the other threads costs more than they save


class Shape(NamedTuple):
    """The numbers of a pooling.

    Attributes
    ----------
    channels
        C.
    size, places
        Height and width of the picture, and of the output.
    kernel, strides, dilation
        Of the window, as in ``Geometry``.
    before
        Rows and columns of padding before the picture.
    """

    channels: int
    size: Any
    places: Any
    kernel: Any
    strides: Any
    dilation: Any
    before: Any


def max_pool_forward(x, geometry):
    """y = the largest number under the window.  Also returns ``taken``, the tap it was under."""
    x, shape = _plain(x), _shape(geometry, x.shape[-1])
    y = np.empty((len(x), *geometry.places, x.shape[-1]), x.dtype)
    taken = np.empty(y.shape, np.int32)
    _max_forward(x.reshape(-1), y.reshape(-1), taken.reshape(-1), shape, len(x))
    return y, taken


def max_pool_backward(dy, taken, geometry):
    """dx = dy for the pixel that was taken under each window, 0 for the others."""
    return unpool(dy, taken, geometry, np.empty((len(dy), *geometry.size, dy.shape[-1]), dy.dtype))


def unpool(dy, taken, geometry, dx):
    """Write ``max_pool_backward`` into dx."""
    dy, taken, shape = _plain(dy), _plain(taken), _shape(geometry, dy.shape[-1])
    _max_backward(dy.reshape(-1), taken.reshape(-1), dx.reshape(-1), shape, len(dy))
    return dx


def average_pool_forward(x, geometry):
    """y = the mean of the pixels under the window: their sum by their number, without the padding."""
    x, shape = _plain(x), _shape(geometry, x.shape[-1])
    y = np.empty((len(x), *geometry.places, x.shape[-1]), x.dtype)
    _average_forward(x.reshape(-1), y.reshape(-1), shape, len(x))
    return y


def average_pool_backward(dy, geometry):
    """dx = the sum of dy / count over the windows a pixel is under."""
    dy, shape = _plain(dy), _shape(geometry, dy.shape[-1])
    dx = np.empty((len(dy), *geometry.size, dy.shape[-1]), dy.dtype)
    _average_backward(dy.reshape(-1), dx.reshape(-1), shape, len(dy))
    return dx


def _plain(array):
    return np.require(array, requirements=("C", "W"))


def _shape(geometry, channels):
    (above, _), (left, _) = geometry.padding
    return Shape(
        channels, geometry.size, geometry.places, geometry.kernel, geometry.strides, geometry.dilation,
        (above, left),
    )  # fmt: skip


# --- the kernels --------------------------------------------------------------------------------------------


@jit(refcount=False)
def _axis(shape, axis, place):
    """Along one axis: the pixel under tap 0 of a window, and the first and the last tap on real pixels."""
    size, distance = shape.size[axis], shape.dilation[axis]
    pixel = place * shape.strides[axis] - shape.before[axis]
    first = max(0, -(pixel // distance))
    return pixel, first, min(shape.kernel[axis] - 1, (size - 1 - pixel) // distance)


@jit(refcount=False)
def _clear(dx, start, count):
    for c in range(start, start + count, lanes_of(dx)):
        store(dx, c, start + count - c, fill(dx, 0.0))


@jit(parallel=True)
def _max_forward(x, y, taken, shape, pictures):
    threads = serial_below(SERIAL, y.size)
    parallel_for(pictures * shape.places[0], _max_row, (x, y, taken, shape))
    set_num_threads(threads)


@jit(refcount=False)
def _max_row(task, x, y, taken, shape):
    right, width, channels = shape.places[1], shape.size[1], shape.channels
    n, i = task // shape.places[0], task % shape.places[0]
    row, top, bottom = _axis(shape, 0, i)
    for j in range(right):
        column, first, last = _axis(shape, 1, j)
        corner, to = (n * shape.size[0] + row) * width + column, (task * right + j) * channels
        for c in range(0, channels, lanes_of(x)):
            best, tap = fill(x, -np.inf), fill(x, 0.0)
            for p in range(top, bottom + 1):
                line = corner + p * shape.dilation[0] * width
                for q in range(first, last + 1):
                    under = load(x, (line + q * shape.dilation[1]) * channels + c, channels - c)
                    # not "under > best": a NaN is taken, and the first NaN stays
                    number = fill(x, p * shape.kernel[1] + q)
                    tap = np.where(best != best, tap, np.where(under <= best, tap, number))
                    best = np.where(best != best, best, np.where(under <= best, best, under))
            store(y, to + c, channels - c, best)
            store_as(taken, to + c, channels - c, tap)


@jit(parallel=True)
def _max_backward(dy, taken, dx, shape, pictures):
    threads = serial_below(SERIAL, dx.size)
    parallel_for(pictures, _max_backward_picture, (dy, taken, dx, shape))
    set_num_threads(threads)


@jit(refcount=False)
def _max_backward_picture(n, dy, taken, dx, shape):
    (down, right), (height, width), channels = shape.places, shape.size, shape.channels
    overlaps = not (shape.strides == shape.kernel and shape.dilation == (1, 1))
    if overlaps or shape.kernel[0] * down < height or shape.kernel[1] * right < width:
        _clear(dx, n * height * width * channels, height * width * channels)
    for i in range(down):
        row, top, bottom = _axis(shape, 0, i)
        for j in range(right):
            column, first, last = _axis(shape, 1, j)
            corner, place = (n * height + row) * width + column, ((n * down + i) * right + j) * channels
            for c in range(0, channels, lanes_of(dx)):
                left = channels - c
                tap, gradient = load_as(dx, taken, place + c, left), load(dy, place + c, left)
                for p in range(top, bottom + 1):
                    line = corner + p * shape.dilation[0] * width
                    for q in range(first, last + 1):
                        at = (line + q * shape.dilation[1]) * channels + c
                        part = np.where(tap == p * shape.kernel[1] + q, gradient, 0.0)
                        store(dx, at, left, load(dx, at, left) + part if overlaps else part)


@jit(parallel=True)
def _average_forward(x, y, shape, pictures):
    threads = serial_below(SERIAL, y.size)
    parallel_for(pictures * shape.places[0], _average_row, (x, y, shape))
    set_num_threads(threads)


@jit(refcount=False)
def _average_row(task, x, y, shape):
    right, width, channels = shape.places[1], shape.size[1], shape.channels
    n, i = task // shape.places[0], task % shape.places[0]
    row, top, bottom = _axis(shape, 0, i)
    for j in range(right):
        column, first, last = _axis(shape, 1, j)
        corner, to = (n * shape.size[0] + row) * width + column, (task * right + j) * channels
        count = max(0, bottom + 1 - top) * max(0, last + 1 - first)
        for c in range(0, channels, lanes_of(x)):
            total = fill(x, 0.0)
            for p in range(top, bottom + 1):
                line = corner + p * shape.dilation[0] * width
                for q in range(first, last + 1):
                    total = total + load(x, (line + q * shape.dilation[1]) * channels + c, channels - c)
            store(y, to + c, channels - c, total / count)


@jit(parallel=True)
def _average_backward(dy, dx, shape, pictures):
    threads = serial_below(SERIAL, dx.size)
    parallel_for(pictures, _average_backward_picture, (dy, dx, shape))
    set_num_threads(threads)


@jit(refcount=False)
def _average_backward_picture(n, dy, dx, shape):
    (down, right), (height, width), channels = shape.places, shape.size, shape.channels
    _clear(dx, n * height * width * channels, height * width * channels)
    for i in range(down):
        row, top, bottom = _axis(shape, 0, i)
        for j in range(right):
            column, first, last = _axis(shape, 1, j)
            corner, place = (n * height + row) * width + column, ((n * down + i) * right + j) * channels
            count = max(0, bottom + 1 - top) * max(0, last + 1 - first)
            for p in range(top, bottom + 1):
                line = corner + p * shape.dilation[0] * width
                for q in range(first, last + 1):
                    at = (line + q * shape.dilation[1]) * channels
                    for c in range(0, channels, lanes_of(dx)):
                        left = channels - c
                        part = load(dy, place + c, left) / count
                        store(dx, at + c, left, load(dx, at + c, left) + part)
