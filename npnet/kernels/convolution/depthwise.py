"""Depthwise convolution, compiled: each channel has its own filter, so a register of channels goes together.

    y[n,i,j,c] = b[c] + sum over taps of  x[n, under the tap, c] W[tap, c]

There is no sum over channels and nothing to multiply in tiles. Taps in the border are left out; the caller
sees to it that they would add zeros, which they do where filters and dy are finite.
"""

from typing import Any, NamedTuple

import numpy as np

from npnet.kernels.geometry import taps
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.vectors.memory import fill, lanes_of, load, store

__all__ = ["backward_parameters", "convolve"]

SERIAL = 1 << 17  # multiplications below which waking the other threads costs more than they save
PARTS = 16  # into which the pictures are divided for the gradient of the filters


class Shape(NamedTuple):
    """The numbers of a depthwise convolution.

    Attributes
    ----------
    channels
        C.
    size, places
        Height and width of the input, and of the output.
    strides, before
        How far the window moves, and rows and columns of the border before the picture.
    start, row, pixel, picture
        Where the first number of the output lies, and how far its rows, pixels and pictures are apart.
    """

    channels: int
    size: Any
    places: Any
    strides: Any
    before: Any
    start: int
    row: int
    pixel: int
    picture: int


def convolve(x, weight, bias, window, y, target):
    """Compute the target's pixels of y, with filters (taps, C); see ``direct.py``."""
    channels = x.shape[-1]
    shape = Shape(
        channels, x.shape[1:3], window.places, window.strides, window.before,
        target.start * channels, target.strides[0] * target.size[1] * channels, target.strides[1] * channels,
        target.size[0] * target.size[1] * channels,
    )  # fmt: skip
    _convolve(x.reshape(-1), weight.reshape(-1), bias, y.reshape(-1), np.array(window.taps), shape, len(x))


def backward_parameters(x, dy, geometry):
    """dW = x[at]' dy for each tap (kh, kw, 1, C),  db = sum of dy."""
    channels = x.shape[-1]
    (above, _), (left, _) = geometry.padding
    shape = Shape(
        channels, geometry.size, geometry.places, geometry.strides, (above, left),
        0, geometry.places[1] * channels, channels, geometry.places[0] * geometry.places[1] * channels,
    )  # fmt: skip
    corners = np.array([(rows.start, columns.start) for _, (rows, columns) in taps(geometry)])
    parts = min(PARTS, len(x))
    sums = np.zeros((parts, len(corners), channels), x.dtype)
    _gradient(x.reshape(-1), dy.reshape(-1), sums.reshape(-1), corners, shape, len(x), parts)
    dweight = np.zeros((len(corners), channels), x.dtype)
    for part in sums:
        dweight += part
    return dweight.reshape(*geometry.kernel, 1, channels), dy.sum(axis=(0, 1, 2))


# --- the kernels --------------------------------------------------------------------------------------------


@jit(parallel=True)
def _convolve(x, weight, bias, y, corners, shape, pictures):
    threads = serial_below(SERIAL, y.size * len(corners))
    parallel_for(pictures * shape.places[0], _convolve_row, (x, weight, bias, y, corners, shape))
    set_num_threads(threads)


@jit(refcount=False)
def _convolve_row(task, x, weight, bias, y, corners, shape):
    (height, width), channels = shape.size, shape.channels
    n, i = task // shape.places[0], task % shape.places[0]
    top = i * shape.strides[0] - shape.before[0]
    for j in range(shape.places[1]):
        left = j * shape.strides[1] - shape.before[1]
        to = shape.start + n * shape.picture + i * shape.row + j * shape.pixel
        for c in range(0, channels, lanes_of(y)):
            some = channels - c
            total = load(bias, c, some)
            for tap in range(len(corners)):
                row, column = top + corners[tap, 0], left + corners[tap, 1]
                if 0 <= row < height and 0 <= column < width:
                    at = ((n * height + row) * width + column) * channels + c
                    total = total + load(x, at, some) * load(weight, tap * channels + c, some)
            store(y, to + c, some, total)


@jit(parallel=True)
def _gradient(x, dy, sums, corners, shape, pictures, parts):
    """Add the sums of each part to sums[part, tap, c]."""
    threads = serial_below(SERIAL, dy.size * len(corners))
    parallel_for(parts, _gradient_part, (x, dy, sums, corners, shape, pictures, parts))
    set_num_threads(threads)


@jit(refcount=False)
def _gradient_part(part, x, dy, sums, corners, shape, pictures, parts):
    (height, width), (down, right), channels = shape.size, shape.places, shape.channels
    for n in range(part * pictures // parts, (part + 1) * pictures // parts):
        for task in range(down * len(corners)):
            i, tap = task // len(corners), task % len(corners)
            row = i * shape.strides[0] - shape.before[0] + corners[tap, 0]
            if row < 0 or row >= height:
                continue
            for c in range(0, channels, lanes_of(x)):
                some, total = channels - c, fill(x, 0.0)
                for j in range(right):
                    column = j * shape.strides[1] - shape.before[1] + corners[tap, 1]
                    if 0 <= column < width:
                        here = load(
                            dy, shape.start + n * shape.picture + i * shape.row + j * shape.pixel + c, some
                        )
                        total = total + here * load(
                            x, ((n * height + row) * width + column) * channels + c, some
                        )
                to = (part * len(corners) + tap) * channels + c
                store(sums, to, some, load(sums, to, some) + total)
