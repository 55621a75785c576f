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
from npnet.kernels.machine.tasks import stretch
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
def _inside(shape, column):
    """The first place in a row at which a tap in this column of the window is on the picture, and the end."""
    column -= shape.before[1]
    end = (shape.size[1] - 1 - column) // shape.strides[1] + 1
    return max(0, -(column // shape.strides[1])), min(shape.places[1], end)


@jit(refcount=False)
def _convolve_row(task, x, weight, bias, y, corners, shape):
    """A row of the output, a register of channels after the other."""
    c, lanes = 0, lanes_of(y)
    while c + lanes <= shape.channels:
        _convolve_channels(task, x, weight, bias, y, corners, shape, c, lanes)
        c += lanes
    if c < shape.channels:
        _convolve_channels(task, x, weight, bias, y, corners, shape, c, shape.channels - c)


@jit(inline=True)
def _convolve_channels(task, x, weight, bias, y, corners, shape, c, some):
    """``some`` channels of a row. Where the window is inside, four places share what is loaded.

    Inlined: where ``some`` is a whole register, nothing asks for it again.
    """
    n, i = task // shape.places[0], task % shape.places[0]
    channels, step = shape.channels, shape.strides[1] * shape.channels
    top = i * shape.strides[0] - shape.before[0]
    first, end = _inside(shape, corners[0, 1])[0], _inside(shape, corners[-1, 1])[1]
    to = shape.start + n * shape.picture + i * shape.row + c
    j = 0
    while j < shape.places[1]:
        left = j * shape.strides[1] - shape.before[1]
        is_inside = first <= j and j + 4 <= end
        total = load(bias, c, some)
        y0, y1, y2, y3 = total, total, total, total
        for tap in range(len(corners)):
            row, column = top + corners[tap, 0], left + corners[tap, 1]
            if row < 0 or row >= shape.size[0]:
                continue
            at = ((n * shape.size[0] + row) * shape.size[1] + column) * channels + c
            w = load(weight, tap * channels + c, some)
            if is_inside:
                y0 = y0 + w * load(x, at, some)
                y1 = y1 + w * load(x, at + step, some)
                y2 = y2 + w * load(x, at + 2 * step, some)
                y3 = y3 + w * load(x, at + 3 * step, some)
            elif 0 <= column < shape.size[1]:
                y0 = y0 + w * load(x, at, some)
        store(y, to + j * shape.pixel, some, y0)
        if is_inside:
            store(y, to + (j + 1) * shape.pixel, some, y1)
            store(y, to + (j + 2) * shape.pixel, some, y2)
            store(y, to + (j + 3) * shape.pixel, some, y3)
        j += 4 if is_inside else 1


@jit(parallel=True)
def _gradient(x, dy, sums, corners, shape, pictures, parts):
    """Add the sums of each part to sums[part, tap, c]."""
    threads = serial_below(SERIAL, dy.size * len(corners))
    parallel_for(parts, _gradient_part, (x, dy, sums, corners, shape, pictures, parts))
    set_num_threads(threads)


@jit(refcount=False)
def _gradient_part(part, x, dy, sums, corners, shape, pictures, parts):
    """The sums of a part of the pictures."""
    channels, lanes = shape.channels, lanes_of(x)
    from_picture, to_picture = stretch(part, parts, pictures)
    for n in range(from_picture, to_picture):
        for task in range(shape.places[0] * len(corners)):
            i, tap = task // len(corners), task % len(corners)
            row = i * shape.strides[0] - shape.before[0] + corners[tap, 0]
            if row < 0 or row >= shape.size[0]:
                continue
            first, end = _inside(shape, corners[tap, 1])
            line = (n * shape.size[0] + row) * shape.size[1] - shape.before[1] + corners[tap, 1]
            operands = x, dy, sums, shape, n * shape.picture + i * shape.row, line * channels, first, end
            to = (part * len(corners) + tap) * channels
            c = 0
            while c + lanes <= channels:
                _add_row(*operands, to, c, lanes)
                c += lanes
            if c < channels:
                _add_row(*operands, to, c, channels - c)


@jit(inline=True)
def _add_row(x, dy, sums, shape, out, at, first, end, to, c, some):
    """Add the products of a row of places; four running sums, because each waits for its last product."""
    step, pixel = shape.strides[1] * shape.channels, shape.pixel
    s0, s1, s2, s3 = fill(x, 0.0), fill(x, 0.0), fill(x, 0.0), fill(x, 0.0)
    whole = first + max(0, end - first) // 4 * 4
    for j in range(first, whole, 4):
        a, b = out + c + j * pixel, at + c + j * step
        s0 = s0 + load(dy, a, some) * load(x, b, some)
        s1 = s1 + load(dy, a + pixel, some) * load(x, b + step, some)
        s2 = s2 + load(dy, a + 2 * pixel, some) * load(x, b + 2 * step, some)
        s3 = s3 + load(dy, a + 3 * pixel, some) * load(x, b + 3 * step, some)
    for j in range(whole, end):
        s0 = s0 + load(dy, out + c + j * pixel, some) * load(x, at + c + j * step, some)
    store(sums, to + c, some, load(sums, to + c, some) + ((s0 + s1) + (s2 + s3)))
