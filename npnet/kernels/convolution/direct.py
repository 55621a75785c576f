"""Convolution by its definition, on the register tile: any window, strides, dilation, padding and groups.

    y[pixel, f] = b[f] + sum over taps and channels of  x[pixel + tap, c] W[tap, c, f]

is a matrix product whose rows are the output's pixels: only where a row of A begins differs from a dense
layer, and that is looked up in a table. A task copies a part of the pictures with a border of zeros into its
thread's scratch. There the channels under one tap, or under several taps beside each other, lie in order
(NHWC): they are a segment of the sum. The filters lie in panels of a tile's columns, one row for each number
of a segment.

The gradient of the input is a convolution of dy. With strides s, the pixels of dx whose distance is a
multiple of s meet the same taps: they are a convolution with strides of 1 whose filters are these taps.

Every number of the output is summed in the same order, on any number of threads: tap after tap, channel after
channel.
"""

from functools import cache, lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numba import types

from npnet.kernels.convolution import depthwise
from npnet.kernels.convolution.epilogue import applied, flat, outputs_of, type_of
from npnet.kernels.convolution.memory import (
    ROWS,
    VECTORS,
    copy_picture,
    panels_of,
    scratch,
    share_out,
    tile_width,
    up,
)
from npnet.kernels.geometry import Pair
from npnet.kernels.machine.addresses import call
from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.threads import get_threads
from npnet.kernels.products.tiles import Columns, Placed, Sums, multiply_placed
from npnet.kernels.vectors.memory import lanes_of, load, store

__all__ = ["backward_input", "forward"]

PIXELS = 192  # of the output that a task computes, about: their sums stay in the L1 cache
IN_L1 = 20 * 1024  # bytes of a panel that stay in the L1 cache while the pixels go by


def forward(x, weight, bias, geometry, epilogue, y):
    """y = epilogue(sum over taps of x[at] W[tap], plus b)."""
    window, target = _whole(geometry)
    _convolve(x, weight.reshape(-1, *weight.shape[2:]), bias, window, epilogue, y, target)


def backward_input(dy, weight, geometry, epilogue, dx):
    """dx = epilogue(the sum over taps of dy W[tap]', laid where x[at] was).

    Pixel u of dx meets dy[i] through the tap p where u = i s + p d - a. For the pixels u = o + k s, k = 0, 1,
    ..., these are the taps with (o + a - p d) / s an integer, and i is k plus that integer.
    """
    groups, (channels, filters) = geometry.groups, weight.shape[2:]
    turned = weight.reshape(*geometry.kernel, channels, groups, filters // groups).transpose(0, 1, 4, 3, 2)
    for offset in np.ndindex(*geometry.strides):
        places, window, chosen = _phase(geometry, offset)
        target = Target(offset[0] * geometry.size[1] + offset[1], geometry.strides, geometry.size)
        if not chosen:
            dx[:, offset[0] :: geometry.strides[0], offset[1] :: geometry.strides[1]] = 0
        elif min(places) > 0:
            part = np.stack([turned[tap] for tap in chosen])
            part = part.reshape(len(chosen), filters // groups, -1)
            _convolve(dy, part, None, window, epilogue, dx, target)


class Window(NamedTuple):
    """Where the taps of a convolution stand.

    Attributes
    ----------
    taps
        (down, right) of each from the window's corner, in pixels, in the order in which they lie in memory.
    before
        Rows and columns of the border before the picture.
    strides, places, groups
        As in ``Geometry``.
    """

    taps: tuple[Pair, ...]
    before: Pair
    strides: Pair
    places: Pair
    groups: int


class Target(NamedTuple):
    """Which pixels of the output a convolution computes.

    Attributes
    ----------
    start
        The number of the first one.
    strides
        How far they are apart, down and to the right.
    size
        Height and width of the output.
    """

    start: int
    strides: Pair
    size: Pair


@lru_cache(maxsize=512)
def _whole(geometry):
    """Window and target of the convolution that computes all of y."""
    ((above, _), (left, _)), (down, right) = geometry.padding, geometry.dilation
    taps = tuple((p * down, q * right) for p, q in np.ndindex(*geometry.kernel))
    window = Window(taps, (above, left), geometry.strides, geometry.places, geometry.groups)
    return window, Target(0, (1, 1), geometry.places)


@lru_cache(maxsize=512)
def _phase(geometry, offset):
    """Places, window and taps of the convolution that computes every s-th pixel of dx from ``offset`` on."""
    axes = []
    for o, n, k, s, d, (a, _) in zip(
        offset, geometry.size, geometry.kernel, geometry.strides, geometry.dilation, geometry.padding,
        strict=True,
    ):  # fmt: skip
        shifts = sorted(((o + a - p * d) // s, p) for p in range(k) if (o + a - p * d) % s == 0)
        axes.append((-(-(n - o) // s), shifts))
    (down, rows), (right, columns) = axes
    if not rows or not columns:
        return (down, right), None, ()
    taps = tuple((r - rows[0][0], c - columns[0][0]) for r, _ in rows for c, _ in columns)
    window = Window(taps, (-rows[0][0], -columns[0][0]), (1, 1), (down, right), geometry.groups)
    return window.places, window, tuple((p, q) for _, p in rows for _, q in columns)


# --- what the kernel is told --------------------------------------------------------------------------------


class Shape(NamedTuple):
    """The numbers of a convolution.

    Attributes
    ----------
    pictures
        N.
    size
        Height and width of the input.
    channels, filters
        Of the input and of the output, of all groups.
    groups
        Into how many they are divided.
    before
        Rows and columns of the border before the picture.
    places
        Rows and columns that are computed.
    rows, together
        Of the output's rows, and of the pictures, how many belong to a task.
    step
        Rows of the input from one row of the output to the next.
    part
        Rows and columns of the input that a task copies of a picture.
    steps, segments, blocked
        Numbers in a segment of the sum, segments, and how many of them are added at a time.
    start, row, picture
        Where the output's first pixel lies, and how far its rows and its pictures are apart.
    """

    pictures: int
    size: Any
    channels: int
    filters: int
    groups: int
    before: Any
    places: Any
    rows: int
    together: int
    step: int
    part: Any
    steps: int
    segments: int
    blocked: int
    start: int
    row: int
    picture: int


class Layout(NamedTuple):
    """A ``Shape`` with its tables and the memory that a thread needs.

    Attributes
    ----------
    places, targets
        For each pixel of a task: where its window begins in the scratch, and where it lies in the output.
    offsets
        Where the segments begin under a window.
    share
        Numbers of scratch.
    """

    shape: Shape
    places: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray
    share: int


@lru_cache(maxsize=512)
def _layout(pictures, size, channels, filters, window, target, dtype):
    """Divide a convolution into tasks and segments, by its shape alone."""
    (down, right), groups = window.places, window.groups
    bands = max(1, min(down, round(down * right / PIXELS)))
    rows = -(-down // bands)
    together = min(pictures, max(1, PIXELS // (rows * right))) if bands == 1 else 1
    reach = max(tap[0] for tap in window.taps), max(tap[1] for tap in window.taps)
    part = (rows - 1) * window.strides[0] + reach[0] + 1, (right - 1) * window.strides[1] + reach[1] + 1
    picture, y, x = np.indices((together, rows, right)).reshape(3, -1)
    places = (picture * part[0] + y * window.strides[0]) * part[1] + x * window.strides[1]
    row, whole = target.strides[0] * target.size[1] * filters, target.size[0] * target.size[1] * filters
    targets = picture * whole + y * row + x * target.strides[1] * filters
    in_l1 = IN_L1 // (tile_width(dtype) * dtype.itemsize)
    runs = _runs(window.taps) if groups == 1 else [[tap] for tap in window.taps]
    if len(runs[0]) * channels > in_l1:
        runs = [[tap] for tap in window.taps]
    steps = len(runs[0]) * channels // groups
    shape = Shape(
        pictures, size, channels, filters, groups, window.before, window.places, rows, together,
        window.strides[0], part, steps, len(runs), max(1, min(len(runs), in_l1 // max(1, steps))),
        target.start * filters, row, whole,
    )  # fmt: skip
    offsets = np.array([(run[0][0] * part[1] + run[0][1]) * channels for run in runs], np.int64)
    places = np.append(places, np.full(-places.size % ROWS, places[-1])) * channels
    sums = up(places.size, ROWS) * tile_width(dtype)
    return Layout(
        shape, places, targets, offsets, up(together * part[0] * part[1] * channels, 16) + up(sums, 16)
    )


def _runs(taps):
    """Taps that stand beside each other, if all such runs are equally long; else each tap alone."""
    runs = [
        [tap for _, tap in run] for _, run in groupby(enumerate(taps), lambda e: (e[1][0], e[1][1] - e[0]))
    ]
    return runs if len({len(run) for run in runs}) == 1 else [[tap] for tap in taps]


def _convolve(x, weight, bias, window, epilogue, y, target):
    """Compute the target's pixels of y; ``weight`` is (taps, C/groups, F), ``bias`` may be None."""
    filters = weight.shape[-1]
    if y.size == 0:
        return
    if bias is None:
        bias = np.zeros(filters, x.dtype)
    if 1 < window.groups == x.shape[-1] == filters:
        depthwise.convolve(x, weight, bias, window, y, target)
        return
    layout = _layout(len(x), x.shape[1:3], x.shape[-1], filters, window, target, x.dtype)
    threads = get_threads()
    memory = scratch(x.dtype, threads, layout.share)
    work = len(x) * window.places[0] * window.places[1] * weight.size // window.groups
    shape = layout.shape
    tasks = -(-shape.pictures // shape.together) * -(-shape.places[0] // shape.rows)
    operands = (
        x.reshape(-1), panels_of(weight, window.groups), bias, flat(epilogue, y),
        _address(epilogue.kind, x.dtype), layout.places, layout.targets, layout.offsets, shape,
    )  # fmt: skip
    _do_tasks(operands, tasks, work, memory, layout.share)


# --- the kernel ---------------------------------------------------------------------------------------------


@jit(refcount=False)
def _do_task(operands, task, memory, start):
    """Compute some rows of some pictures, in memory[start:]."""
    x, panels, bias, outputs, write, places, targets, offsets, shape = operands
    bands = -(-shape.places[0] // shape.rows)
    first, row = task // bands * shape.together, task % bands * shape.rows
    count = min(shape.together, shape.pictures - first)
    height, width = shape.size
    each = shape.part[0] * shape.part[1] * shape.channels
    corner = row * shape.step - shape.before[0], -shape.before[1]
    for i in range(count):
        picture = (first + i) * height * width * shape.channels
        copy_picture(
            x, picture, shape.size, shape.channels, corner,
            memory, start + i * each, shape.part, shape.channels, shape.channels,
        )  # fmt: skip
    sums = start + -(-shape.together * each // 16) * 16
    pixels = count * min(shape.rows, shape.places[0] - row) * shape.places[1]
    to = first * shape.picture + shape.start + row * shape.row
    w, depth = VECTORS * lanes_of(x), shape.steps * shape.segments
    channels, filters = shape.channels // shape.groups, shape.filters // shape.groups
    panel = 0
    for group in range(shape.groups):
        for column in range(0, filters, w):
            left = filters - column
            for segment in range(0, shape.segments, shape.blocked):
                some = min(shape.blocked, shape.segments - segment)
                b = Columns(panels, (panel * depth + segment * shape.steps) * w, w, shape.steps * w)
                for r in range(0, pixels, ROWS):
                    a = Placed(memory, start + group * channels, places, r, 1, offsets, segment)
                    c = Sums(memory, sums + r * w, w)
                    if left > lanes_of(x):
                        multiply_placed(ROWS, VECTORS, a, b, shape.steps, some, c, segment > 0)
                    else:
                        multiply_placed(ROWS, 1, a, b, shape.steps, some, c, segment > 0)
            at = group * filters + column
            call(write, (memory, sums, bias, at, left, outputs, to, targets, pixels))
            panel += 1


_do_tasks = share_out(_do_task)


@cache
def _address(kind, dtype):
    """Where the machine code lies that writes the results: ``_writer`` for these types."""
    numbers, number, table = type_of(dtype), types.intp, types.Array(types.int64, 1, "C")
    outputs = outputs_of(dtype)
    kinds = numbers, number, numbers, number, number, outputs, number, table, number
    return _writer(kind.rule, kind.constants, kind.reads, kind.writes, kind.scales).address(kinds)


@cache
def _writer(rule, constants, reads, writes, scales):
    """The operation that writes what an epilogue makes of a panel's sums to their pixels of y."""
    apply = applied(rule, constants, reads, writes, scales)

    @jit(addressed=True, refcount=False)
    def write(memory, sums, bias, column, left, outputs, to, targets, pixels):
        y, beside, _, scale, numbers = outputs
        w, lanes = VECTORS * lanes_of(memory), lanes_of(memory)
        for q in range(pixels):
            for j in range(0, min(w, left), lanes):
                affine = load(scale, column + j, left - j), load(bias, column + j, left - j)
                at = to + targets[q] + column + j
                values = load(memory, sums + q * w + j, lanes)
                store(y, at, left - j, apply(values, affine, beside, at, left - j, numbers))
        return 0

    return write
