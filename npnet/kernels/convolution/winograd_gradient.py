"""The gradient of the filters by Winograd's convolution, transposed: see ``winograd.py``.

Y = A' [(G g G') . (B' d B)] A is linear in g, so the gradient goes back through the same matrices:

    dg = G' [sum over tiles of (B' d B) . (A dY A')] G

For each of the 36 places the sum is a matrix product: channels x filters, summed over the tiles of all
pictures. A task takes some of the channels and filters, as many as have sums that stay in the L2 cache or
near it, and a part of the pictures, some tiles at a time: to transform x and dy again for each such task
costs less than to fetch the values, or the sums, from further away. How the work is divided follows from the
shape alone, and the sums of the parts are added in their order.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from npnet.kernels.convolution.memory import (
    SERIAL,
    VECTORS,
    add_pixels,
    copy_picture,
    scratch,
    share_out,
    tile_width,
    up,
)
from npnet.kernels.convolution.winograd import (
    FOUR,
    GAP,
    OUT,
    PLACES,
    ROWS,
    SIX,
    VALUES,
    pixel_values,
    spread_tile,
    weights_of_values,
)
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.machine.threads import get_threads
from npnet.kernels.products.tiles import Columns, Placed, Sums, multiply_placed
from npnet.kernels.vectors.memory import lanes_of, load, load_planes, store, store_planes
from npnet.kernels.vectors.registers import lanes

__all__ = ["backward_parameters"]

DEEP, WIDE = 64, 4  # channels and panels of a task at most
TILES = 32  # whose products are added at a time
TASKS = 8  # into so many the work is divided at least: enough for the threads


class Shape(NamedTuple):
    """The numbers of a gradient.

    Attributes
    ----------
    pictures
        N.
    size
        Height and width of the input.
    channels, filters
        C and F.
    before
        Rows and columns of the border before the picture.
    places
        Height and width of the output.
    rows, across, together
        How many rows of tiles, tiles in a row, and pictures are worked on at a time.
    deep, wide
        Channels and panels of a task.
    lines
        Rows of a task's sums: its channels, and what fills the last register tile.
    parts
        Into which the pictures are divided.
    matrix, panel
        How far the places' values are apart, those of x and those of a panel of dy.
    """

    pictures: int
    size: Any
    channels: int
    filters: int
    before: Any
    places: Any
    rows: int
    across: int
    together: int
    deep: int
    wide: int
    lines: int
    parts: int
    matrix: int
    panel: int


def backward_parameters(x, dy, geometry):
    """dW = x[at]' dy for each tap,  db = sum of dy; None where a dW is not finite."""
    channels, filters = x.shape[-1], dy.shape[-1]
    dweight = np.zeros((3, 3, channels, filters), x.dtype)
    if dy.size == 0:
        return dweight, np.zeros(filters, x.dtype)
    shape, share = _layout(len(x), channels, filters, geometry, x.dtype)
    ranges = -(-channels // shape.deep) * -(-filters // (shape.wide * tile_width(x.dtype)))
    size = shape.wide * PLACES * shape.lines * tile_width(x.dtype)
    threads, tasks = get_threads(), shape.parts * ranges
    memory = scratch(x.dtype, 1, threads * share + tasks * size)
    memory, sums = memory[: threads * share], memory[threads * share :]
    biases = np.zeros((shape.parts, filters), x.dtype)
    tables = np.arange(shape.lines), np.zeros(1, np.int64)
    work = len(x) * PLACES * shape.across * -(-shape.places[0] // OUT) * channels * filters
    operands = x.reshape(-1), dy.reshape(-1), sums, biases.reshape(-1), *tables, shape
    _do_tasks(operands, tasks, work, memory, share)
    _finish(sums, dweight.reshape(-1), shape, ranges, size)
    if not np.isfinite(dweight).all():
        return None
    return dweight, sum(biases)


@lru_cache(maxsize=512)
def _layout(pictures, channels, filters, geometry, dtype):
    """Divide a gradient into tasks by its shape alone; return its Shape and a thread's numbers of scratch."""
    width, places = tile_width(dtype), geometry.places
    down, across = (-(-n // OUT) for n in places)
    chunks, runs = -(-channels // DEEP), -(-filters // (WIDE * width))
    deep = up(-(-channels // chunks), lanes(dtype))
    wide = -(-filters // (runs * width))
    parts = -(-pictures // -(-pictures // min(pictures, -(-TASKS // (chunks * runs)))))
    rows = -(-down // max(1, round(down * across / TILES)))
    together = min(-(-pictures // parts), max(1, TILES // (down * across))) if rows == down else 1
    tiles = together * rows * across
    (above, _), (left, _) = geometry.padding
    shape = Shape(
        pictures, geometry.size, channels, filters, (above, left), places, rows, across, together, deep, wide,
        up(deep, ROWS), parts, tiles * deep + GAP, tiles * width + GAP,
    )  # fmt: skip
    images = (rows * OUT + 2) * (across * OUT + 2) * deep + rows * OUT * across * OUT * wide * width
    share = images + PLACES * (lanes(dtype) + shape.matrix + wide * shape.panel)
    return shape, up(share, 16)


# --- the kernels --------------------------------------------------------------------------------------------


@jit(refcount=False)
def _range(shape, task, w):
    """Of a task: the part of the pictures, the first of its channels, and of its filters."""
    runs, chunks = -(-shape.filters // (shape.wide * w)), -(-shape.channels // shape.deep)
    part, task = task // (runs * chunks), task % (runs * chunks)
    return part, task // runs * shape.deep, task % runs * shape.wide * w


@jit(refcount=False)
def _do_task(operands, task, memory, start):
    """Compute a task's sums, in memory[start:]."""
    x, dy, sums, biases, table, zero, shape = operands
    lanes_, w = lanes_of(x), VECTORS * lanes_of(x)
    part, channel, column = _range(shape, task, w)
    (height, width), (down, right) = shape.size, shape.places
    deep, across, wide = shape.deep, shape.across, shape.wide * w
    some, left = min(deep, shape.channels - channel), min(wide, shape.filters - column)
    line, row_of_dy = (across * OUT + 2) * deep, across * OUT * wide
    gradient = start + (shape.rows * OUT + 2) * line
    between = gradient + shape.rows * OUT * row_of_dy
    spread = between + PLACES * lanes_
    panels = spread + PLACES * shape.matrix
    every = -(-shape.pictures // shape.parts)
    end = min(shape.pictures, (part + 1) * every)
    is_new = True
    for first in range(part * every, end, shape.together):
        for row in range(0, down, shape.rows * OUT):
            rows = min(shape.rows, -(-(down - row) // OUT))
            each, count = rows * across, min(shape.together, end - first)
            for i in range(count):
                copy_picture(
                    x, (first + i) * height * width * shape.channels + channel, shape.size, shape.channels,
                    (row - shape.before[0], -shape.before[1]),
                    memory, start, (rows * OUT + 2, across * OUT + 2), some, deep,
                )  # fmt: skip
                copy_picture(
                    dy, (first + i) * down * right * shape.filters + column, shape.places, shape.filters,
                    (row, 0), memory, gradient, (rows * OUT, across * OUT), left, wide,
                )  # fmt: skip
                if channel == 0:
                    pixels = each * OUT * OUT
                    add_pixels(memory, gradient, wide, pixels, biases, part * shape.filters + column, left)
                for t in range(each):
                    y, z, tile = t // across * OUT, t % across * OUT, i * each + t
                    at = start + y * line + z * deep
                    spread_tile(memory, at, line, deep, deep, between, spread + tile * deep, shape.matrix)
                    for j in range(0, left, lanes_):
                        at = gradient + y * row_of_dy + z * wide + j
                        to = panels + j // w * PLACES * shape.panel + tile * w + j % w
                        _spread_gradient(memory, at, row_of_dy, wide, between, to, shape.panel)
            for p in range(0, left, w):
                for place in range(PLACES):
                    b = Columns(memory, panels + (p // w * PLACES + place) * shape.panel, w, 0)
                    to = ((task * shape.wide + p // w) * PLACES + place) * shape.lines * w
                    for r in range(0, shape.lines, ROWS):
                        a = Placed(memory, spread + place * shape.matrix, table, r, deep, zero, 0)
                        c = Sums(sums, to + r * w, w)
                        multiply_placed(ROWS, VECTORS, a, b, count * each, 1, c, not is_new)
            is_new = False


_do_tasks = share_out(_do_task)


@jit(refcount=False)
def _spread_gradient(memory, at, line, pixel, between, to, matrix):
    """A dY A' of the 4 x 4 pixels from memory[at] on, a register of filters of them, as ``spread_tile``."""
    lanes_ = lanes_of(memory)
    for y in range(OUT):
        columns = pixel_values(load_planes(memory, at + y * line, pixel, FOUR))
        store_planes(memory, between + y * VALUES * lanes_, lanes_, columns)
    for x in range(VALUES):
        rows = pixel_values(load_planes(memory, between + x * lanes_, VALUES * lanes_, FOUR))
        store_planes(memory, to + x * matrix, VALUES * matrix, rows)


@jit(parallel=True)
def _finish(sums, dweight, shape, ranges, size):
    """dweight = G' (the sums of the first part + those of the second ...) G."""
    threads = serial_below(SERIAL, ranges * size)
    parallel_for(ranges * shape.deep, _finish_line, (sums, dweight, shape, ranges, size))
    set_num_threads(threads)


@jit
def _finish_line(task, sums, dweight, shape, ranges, size):
    """One channel of a range."""
    lanes_, w = lanes_of(sums), VECTORS * lanes_of(sums)
    task, line = task // shape.deep, task % shape.deep
    _, channel, column = _range(shape, task, w)
    channel += line
    if channel >= shape.channels:
        return
    memory = np.empty((PLACES + 3 * VALUES) * lanes_, sums.dtype)
    between = PLACES * lanes_
    for j in range(0, min(shape.wide * w, shape.filters - column), lanes_):
        for place in range(PLACES):
            at = task * size + ((j // w * PLACES + place) * shape.lines + line) * w + j % w
            total = load(sums, at, lanes_)
            for part in range(1, shape.parts):
                total = total + load(sums, part * ranges * size + at, lanes_)
            store(memory, place * lanes_, lanes_, total)
        for y in range(VALUES):
            columns = weights_of_values(load_planes(memory, y * VALUES * lanes_, lanes_, SIX))
            store_planes(memory, between + y * 3 * lanes_, lanes_, columns)
        left = shape.filters - column - j
        for q in range(3):
            rows = weights_of_values(load_planes(memory, between + q * lanes_, 3 * lanes_, SIX))
            for p in range(3):
                to = ((p * 3 + q) * shape.channels + channel) * shape.filters + column + j
                store(dweight, to, left, rows[p])
