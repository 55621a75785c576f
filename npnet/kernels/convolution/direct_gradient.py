"""The gradient of a convolution's filters, on the register tile: any window, strides, dilation and groups.

    dW[tap, c, f] = sum over pixels of  x[pixel + tap, c] dy[pixel, f]

is a matrix product summed over the output's pixels. Its rows are the taps and channels, and where in a
picture with a border a row begins is looked up in a table, as in ``direct.py``; from one pixel to the next
all rows move on by one pixel, and a row of pixels is a segment of the sum.

A task takes some of the channels and filters, so that their sums and the pixels stay in the cache, and a part
of the pictures. How the pictures are divided follows from the shape alone, and the sums of the parts are
added in their order: the bits do not depend on the number of threads.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from npnet.kernels.convolution.memory import (
    ROWS,
    SERIAL,
    VECTORS,
    add_pixels,
    copy_picture,
    scratch,
    share_out,
    tile_width,
    up,
)
from npnet.kernels.geometry import taps
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.machine.threads import get_threads
from npnet.kernels.products.tiles import Columns, Placed, Sums, multiply_placed
from npnet.kernels.vectors.memory import lanes_of, load, store

__all__ = ["backward_parameters"]

PIXELS = 128  # of the output whose products are added at a time: a panel of dy stays in the L1 cache
DEEP = 16  # channels of a task: the pixels of a picture under these taps stay in the L1 cache
SUMS = 160 * 1024  # bytes of a task's sums, which stay in the L2 cache
WIDE = 4  # panels of a task at most
TASKS = 16  # into so many the work is divided at least: enough for the threads, and for even shares


class Shape(NamedTuple):
    """The numbers of a gradient.

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
    strides
        Pixels of the input from one of the output to the next.
    places
        Height and width of the output.
    rows
        Of the output, how many are worked on at a time.
    part
        Rows and columns of the input that these need.
    taps
        Of the window.
    deep, wide
        Channels and panels of a task.
    lines
        Rows of a task's sums: taps times channels, and what fills the last tile.
    parts
        Into which the pictures are divided.
    """

    pictures: int
    size: Any
    channels: int
    filters: int
    groups: int
    before: Any
    strides: Any
    places: Any
    rows: int
    part: Any
    taps: int
    deep: int
    wide: int
    lines: int
    parts: int


class Layout(NamedTuple):
    """A ``Shape`` with its tables and the memory that it needs.

    Attributes
    ----------
    places
        Where under a window each tap and channel lies.
    offsets
        Where the rows of pixels begin.
    ranges
        Tasks that a part is divided into.
    sums
        Numbers of a task's sums.
    share
        Numbers of a thread's scratch.
    """

    shape: Shape
    places: np.ndarray
    offsets: np.ndarray
    ranges: int
    sums: int
    share: int


def backward_parameters(x, dy, geometry):
    """dW = x[at]' dy for each tap,  db = sum of dy."""
    filters = dy.shape[-1]
    dweight = np.empty((*geometry.kernel, x.shape[-1] // geometry.groups, filters), x.dtype)
    dbias = np.zeros(filters, x.dtype)
    if dy.size == 0 or x.size == 0:
        dweight[:] = 0
        return dweight, dbias
    layout = _layout(len(x), x.shape[-1], filters, geometry, x.dtype)
    threads = get_threads()
    tasks = layout.shape.parts * layout.ranges
    memory = scratch(x.dtype, 1, threads * layout.share + tasks * layout.sums)
    memory, sums = memory[: threads * layout.share], memory[threads * layout.share :]
    biases = np.zeros((layout.shape.parts, filters), x.dtype)
    work = dy.size * dweight.size // filters
    operands = (
        x.reshape(-1), dy.reshape(-1), sums, biases.reshape(-1), layout.places, layout.offsets, layout.shape,
    )  # fmt: skip
    _do_tasks(operands, tasks, work, memory, layout.share)
    _add_parts(sums, dweight.reshape(-1), layout.shape, layout.ranges, layout.sums)
    for part in biases:
        dbias += part
    return dweight, dbias


@lru_cache(maxsize=512)
def _layout(pictures, channels, filters, geometry, dtype):
    """Divide a gradient into tasks, by its shape alone."""
    width, groups, places = tile_width(dtype), geometry.groups, geometry.places
    deep = min(channels // groups, DEEP)
    corners = [(rows.start, columns.start) for _, (rows, columns) in taps(geometry)]
    lines = up(len(corners) * deep, ROWS)
    panels = -(-(filters // groups) // width)
    wide = max(1, min(panels, WIDE, SUMS // (lines * width * dtype.itemsize)))
    ranges = groups * -(-(channels // groups) // deep) * -(-panels // wide)
    parts = -(-pictures // -(-pictures // min(pictures, -(-TASKS // ranges))))
    rows = -(-places[0] // max(1, round(places[0] * places[1] / PIXELS)))
    part = [
        (count - 1) * stride + last + 1
        for count, stride, last in zip((rows, places[1]), geometry.strides, corners[-1], strict=True)
    ]
    (above, _), (left, _) = geometry.padding
    shape = Shape(
        pictures, geometry.size, channels, filters, groups, (above, left), geometry.strides, places, rows,
        tuple(part), len(corners), deep, wide, lines, parts,
    )  # fmt: skip
    table = np.array([(y * part[1] + x) * deep + c for y, x in corners for c in range(deep)], np.int64)
    table = np.append(table, np.full(lines - table.size, table[-1]))
    offsets = np.arange(rows, dtype=np.int64) * (geometry.strides[0] * part[1] * deep)
    share = up(part[0] * part[1] * deep, 16) + rows * places[1] * wide * width
    return Layout(shape, table, offsets, ranges, wide * lines * width, up(share, 16))


# --- the kernels --------------------------------------------------------------------------------------------


@jit(refcount=False)
def _range(shape, task, w):
    """Of a task: the part of the pictures, the group, the first of its channels, and of its filters."""
    filters, channels = shape.filters // shape.groups, shape.channels // shape.groups
    runs, chunks = -(-filters // (shape.wide * w)), -(-channels // shape.deep)
    part, task = task // (runs * chunks * shape.groups), task % (runs * chunks * shape.groups)
    group, task = task // (runs * chunks), task % (runs * chunks)
    return part, group, task // runs * shape.deep, task % runs * shape.wide * w


@jit(refcount=False)
def _do_task(operands, task, memory, start):
    """Compute a task's sums, in memory[start:]."""
    x, dy, sums, biases, places, offsets, shape = operands
    w = VECTORS * lanes_of(x)
    part, group, channel, column = _range(shape, task, w)
    channels, filters = shape.channels // shape.groups, shape.filters // shape.groups
    some, left = min(shape.deep, channels - channel), min(shape.wide * w, filters - column)
    channel, column = channel + group * channels, column + group * filters
    height, width = shape.size
    down, across = shape.places
    deep, lines = shape.deep, shape.lines
    columns = start + -(-shape.part[0] * shape.part[1] * deep // 16) * 16
    every = -(-shape.pictures // shape.parts)
    to = task * shape.wide * lines * w
    is_new = True
    for n in range(part * every, min(shape.pictures, (part + 1) * every)):
        for row in range(0, down, shape.rows):
            rows = min(shape.rows, down - row)
            corner = row * shape.strides[0] - shape.before[0], -shape.before[1]
            copy_picture(
                x, n * height * width * shape.channels + channel, shape.size, shape.channels, corner,
                memory, start, shape.part, some, deep,
            )  # fmt: skip
            pixels = rows * across
            at = (n * down + row) * across * shape.filters + column
            for p in range(0, left, w):
                panel = columns + p * pixels
                _pack(dy, at + p, shape.filters, left - p, pixels, memory, panel)
                if channel == group * channels:
                    to_bias = part * shape.filters + column + p
                    add_pixels(memory, panel, w, pixels, biases, to_bias, min(w, left - p))
                for r in range(0, lines, ROWS):
                    a = Placed(memory, start, places, r, shape.strides[1] * deep, offsets, 0)
                    b, c = Columns(memory, panel, w, across * w), Sums(sums, to + p * lines + r * w, w)
                    if left - p > lanes_of(x):
                        multiply_placed(ROWS, VECTORS, a, b, across, rows, c, not is_new)
                    else:
                        multiply_placed(ROWS, 1, a, b, across, rows, c, not is_new)
            is_new = False


_do_tasks = share_out(_do_task)


@jit(refcount=False)
def _pack(dy, start, step, columns, pixels, memory, to):
    """A panel of dy, pixel by pixel; zeros fill the missing columns."""
    w, lanes = VECTORS * lanes_of(dy), lanes_of(dy)
    for q in range(pixels):
        for j in range(0, w, lanes):
            store(memory, to + q * w + j, lanes, load(dy, start + q * step + j, max(0, columns - j)))


@jit(parallel=True)
def _add_parts(sums, dweight, shape, ranges, size):
    """dweight = the sums of the first part + those of the second ..."""
    threads = serial_below(SERIAL, sums.size)
    parallel_for(ranges, _add_range, (sums, dweight, shape, ranges, size))
    set_num_threads(threads)


@jit
def _add_range(task, sums, dweight, shape, ranges, size):
    w, lanes = VECTORS * lanes_of(sums), lanes_of(sums)
    _, group, channel, column = _range(shape, task, w)
    channels, filters = shape.channels // shape.groups, shape.filters // shape.groups
    left = min(shape.wide * w, filters - column)
    for line in range(shape.taps * shape.deep):
        tap, c = line // shape.deep, channel + line % shape.deep
        if c >= channels:
            continue
        to = (tap * channels + c) * shape.filters + group * filters + column
        for p in range(0, left, w):
            at = task * size + p * shape.lines + line * w
            for j in range(0, min(w, left - p), lanes):
                total = load(sums, at + j, lanes)
                for part in range(1, shape.parts):
                    total = total + load(sums, part * ranges * size + at + j, lanes)
                store(dweight, to + p + j, left - p - j, total)
