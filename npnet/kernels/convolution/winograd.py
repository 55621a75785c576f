"""Winograd's convolution F(4x4, 3x3): 36 multiplications for 4 x 4 pixels instead of 144.

Four outputs y_i = sum_a g_a d_(i+a) of three weights g and six pixels d take six multiplications:

    y = A' [(G g) . (B' d)]          "." multiplies number by number

    G    the values of the polynomial g(t) = g0 + g1 t + g2 t^2 in six points, divided by N_k
    A'   the values of 1, t, t^2, t^3 in these points
    B'   row k has the coefficients of the polynomial that is N_k in point k and 0 in the others

Why it is so: transposed, this is the product of two polynomials, g(t) and one with the coefficients y. It has
six coefficients and is found from its values in six points by Lagrange's interpolation; the product of values
is the only multiplication. (S. Winograd 1980, Arithmetic Complexity of Computations.) In two dimensions G, A'
and B' are applied to columns and rows, and the sum over channels is taken between (A. Lavin, S. Gray 2015,
arXiv:1509.09308):

    Y = A' [sum over channels of (G g G') . (B' d B)] A        d: 6 x 6 pixels, Y: 4 x 4 pixels

So each of the 36 places in the 6 x 6 values is a matrix product (tiles x C) (C x F).

The usual points 0, +-1, +-2 and infinity err by 1e-5 of the largest output at C = 256 in float32. With 0,
+-3/4, +-3/2 and infinity it is 2e-6, little more than a plain sum's error: the powers of points near 1 are
alike in size. Where the result is not finite it says nothing (infinity - infinity); the caller then computes
it by the definition.
"""

from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types

from npnet.kernels.convolution.epilogue import applied, flat, outputs_of, type_of
from npnet.kernels.convolution.memory import SERIAL, VECTORS, copy_picture, scratch, share_out, tile_width, up
from npnet.kernels.machine.addresses import call
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.machine.threads import get_threads
from npnet.kernels.products.blocked import aligned_empty
from npnet.kernels.products.tiles import Columns, Placed, Sums, multiply_placed
from npnet.kernels.vectors.memory import (
    fill,
    lanes_of,
    load,
    load_planes,
    store,
    store_as,
    store_planes,
    total,
)
from npnet.kernels.vectors.registers import REGISTER_BYTES, REGISTERS, lanes

__all__ = [
    "GAP",
    "OUT",
    "PLACES",
    "POINTS",
    "ROWS",
    "VALUES",
    "backward_input",
    "forward",
    "input_values",
    "matrices",
    "output_pixels",
    "pixel_values",
    "spread_tile",
    "suits",
    "weight_values",
    "weights_of_values",
]

OUT, VALUES = 4, 6  # pixels of a tile's output, and values in its points, along an axis
PLACES = VALUES * VALUES
GAP = 16  # numbers between matrices, which would otherwise compete for the same cache sets
LEAST = 16  # channels and filters from which on the products are worth the transforms
WASTE = 1.8  # computed pixels for each of the map, up to which it is faster than the definition
# Rows of a register tile: tiles of pixels, or channels, which mostly come in multiples of 4 and not of 6.
# With 4 x 2 registers 98 GFLOP/s, with 6 x 2 102 (one thread, 16 registers of 32 bytes).
ROWS = 4 if (REGISTER_BYTES, REGISTERS) in ((32, 16), (16, 16)) else 8
BLOCK = 64  # channels whose products are added at a time: the sums of blocks err less than one long sum
TILES = 32  # of a task, about: the weights are read once for all of them, their values stay in the L2 cache

POINTS = (0, Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))  # and infinity
P, Q = 3 / 4, 3 / 2
P2, Q2, P3, Q3, PQ = P**2, Q**2, P**3, Q**3, P**2 * Q**2
N0, NP, NQ = 1 / PQ, 1 / (2 * P2 * (P2 - Q2)), 1 / (2 * Q2 * (Q2 - P2))  # 1 / N_k


def matrices(points):
    """Return G (n+1, 3), B' (n+1, n+1) and A' (n-1, n+1) of n points and infinity, in fractions."""

    def polynomial(roots):
        result = [Fraction(1)]
        for root in roots:
            result = [a - root * b for a, b in zip([0, *result], [*result, 0], strict=True)]
        return result

    g, b = [], []
    for k, point in enumerate(points):
        others = polynomial(points[:k] + points[k + 1 :])
        norm = sum(c * point**i for i, c in enumerate(others))
        g.append([Fraction(point) ** i / norm for i in range(3)])
        b.append([*others, Fraction(0)])
    g.append([Fraction(0), Fraction(0), Fraction(1)])
    b.append(polynomial(points))
    last = len(points) - 2
    a = [[*(Fraction(p) ** i for p in points), Fraction(i == last)] for i in range(last + 1)]
    return g, b, a


# --- transforms along one axis ------------------------------------------------------------------------------


@jit(inline=True)
def input_values(d):
    """B' d: six values of six pixels."""
    a, b = d[4] - Q2 * d[2], P * (d[3] - Q2 * d[1])
    c, e = d[4] - P2 * d[2], Q * (d[3] - P2 * d[1])
    return (
        PQ * d[0] - (P2 + Q2) * d[2] + d[4],
        a + b, a - b, c + e, c - e,
        PQ * d[1] - (P2 + Q2) * d[3] + d[5],
    )  # fmt: skip


@jit(inline=True)
def output_pixels(m):
    """A' m: four pixels of six values."""
    a, b, c, d = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return (m[0] + a + c, P * b + Q * d, P2 * a + Q2 * c, P3 * b + Q3 * d + m[5])


@jit(inline=True)
def pixel_values(y):
    """A y: six values of four pixels."""
    a, b = y[0] + P2 * y[2], P * y[1] + P3 * y[3]
    c, d = y[0] + Q2 * y[2], Q * y[1] + Q3 * y[3]
    return (y[0], a + b, a - b, c + d, c - d, y[3])


@jit(inline=True)
def weight_values(g):
    """G g: six values of three weights."""
    a, b, c, d = g[0] + P2 * g[2], P * g[1], g[0] + Q2 * g[2], Q * g[1]
    return (N0 * g[0], NP * (a + b), NP * (a - b), NQ * (c + d), NQ * (c - d), g[2])


@jit(inline=True)
def weights_of_values(m):
    """G' m: three weights of six values."""
    a, b, c, d = NP * (m[1] + m[2]), NP * (m[1] - m[2]), NQ * (m[3] + m[4]), NQ * (m[3] - m[4])
    return (N0 * m[0] + a + c, P * b + Q * d, P2 * a + Q2 * c + m[5])


# --- where it is used ---------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def suits(geometry, channels, filters, places):
    """Whether Winograd's convolution computes these places faster than the definition does; by shape."""
    computed = np.prod([up(n, OUT) for n in places])
    plain = (geometry.kernel, geometry.strides, geometry.dilation, geometry.groups)
    return (
        plain == ((3, 3), (1, 1), (1, 1), 1)
        and min(channels, filters) >= LEAST
        and min(places) > 0
        and computed <= WASTE * np.prod(places)
    )


def forward(x, weight, bias, geometry, epilogue, y):
    """y = epilogue(sum over taps of x[at] W[tap], plus b); return whether the sums are finite."""
    (above, _), (left, _) = geometry.padding
    return _convolve(x, weight, bias, (above, left), geometry.places, epilogue, y)


def backward_input(dy, weight, geometry, epilogue, dx):
    """dx = epilogue(the sum over taps of dy W[tap]', laid where x[at] was); return whether they are finite.

    This is the convolution of dy with the filters turned by 180 degrees.
    """
    (above, _), (left, _) = geometry.padding
    turned = np.ascontiguousarray(weight[::-1, ::-1].swapaxes(2, 3))
    return _convolve(dy, turned, None, (2 - above, 2 - left), geometry.size, epilogue, dx)


class Shape(NamedTuple):
    """The numbers of a convolution.

    Attributes
    ----------
    pictures
        N.
    size
        Height and width of the input.
    channels, filters
        C and F.
    deep
        C as a multiple of a register's numbers.
    before
        Rows and columns of the border before the picture.
    places
        Height and width of the output.
    rows, across, together
        How many rows of tiles, tiles in a row, and pictures belong to a task.
    matrix, sums
        How far the places' values, and their sums, are apart.
    """

    pictures: int
    size: Any
    channels: int
    filters: int
    deep: int
    before: Any
    places: Any
    rows: int
    across: int
    together: int
    matrix: int
    sums: int


@lru_cache(maxsize=512)
def _layout(pictures, size, channels, filters, before, places, dtype):
    """Divide a convolution into tasks, by its shape alone.

    Return its Shape, where the tiles' values begin, and the numbers of scratch that a thread needs.
    """
    down, across = (-(-n // OUT) for n in places)
    deep, width = up(channels, lanes(dtype)), tile_width(dtype)
    rows = -(-down // max(1, round(down * across / TILES)))
    together = min(pictures, max(1, TILES // (down * across))) if rows == down else 1
    tiles = together * rows * across
    tall = up(tiles, ROWS)
    shape = Shape(
        pictures, size, channels, filters, deep, before, places, rows, across, together,
        tall * deep + GAP, tall * width + GAP,
    )  # fmt: skip
    table = np.minimum(np.arange(tall), tiles - 1) * deep
    image = (rows * OUT + 2) * (across * OUT + 2) * deep
    share = image + PLACES * (lanes(dtype) + shape.matrix + shape.sums)
    return shape, table, up(share, 16)


def _convolve(x, weight, bias, before, places, epilogue, y):
    """y = epilogue(x * W + b) for filters (3, 3, C, F); return whether x * W + b is finite."""
    channels, filters = weight.shape[2:]
    if y.size == 0:
        return True
    if bias is None:
        bias = np.zeros(filters, x.dtype)
    shape, table, share = _layout(len(x), x.shape[1:3], channels, filters, before, places, x.dtype)
    memory = scratch(x.dtype, get_threads(), share)
    values = _spread(weight)
    work = len(x) * up(places[0], OUT) * up(places[1], OUT) * channels * filters * PLACES // OUT**2
    write = _address(epilogue.kind, x.dtype)
    tasks = -(-shape.pictures // shape.together) * -(-places[0] // (shape.rows * OUT))
    infinite, zero = np.zeros(tasks, np.int64), np.zeros(1, np.int64)
    operands = x.reshape(-1), values, bias, flat(epilogue, y), write, infinite, table, zero, shape
    _do_tasks(operands, tasks, work, memory, share)
    return not infinite.any()


def _spread(weight):
    """G w G' as (panels, 36, C, width), all in a row."""
    channels, filters = weight.shape[2:]
    panels = -(-filters // tile_width(weight.dtype))
    values = aligned_empty.py_func(panels * PLACES * channels * tile_width(weight.dtype), weight)
    _spread_kernel(weight.reshape(-1), values, channels, filters, panels)
    return values


# --- the kernels --------------------------------------------------------------------------------------------

THREE, FOUR, SIX = (0,) * 3, (0,) * OUT, (0,) * VALUES  # as long as what load_planes is to return


@jit(parallel=True)
def _spread_kernel(weight, values, channels, filters, panels):
    threads = serial_below(SERIAL, PLACES * values.size)
    parallel_for(panels * channels, _spread_row, (weight, values, channels, filters))
    set_num_threads(threads)


@jit
def _spread_row(task, weight, values, channels, filters):
    """The values of the filters of a panel, for one channel."""
    lanes_, w = lanes_of(weight), VECTORS * lanes_of(weight)
    panel, channel = task // channels, task % channels
    memory = np.empty((9 + 3 * VALUES) * lanes_, weight.dtype)
    between = 9 * lanes_
    for j in range(0, w, lanes_):
        column = panel * w + j
        for tap in range(9):
            left = max(0, filters - column)
            store(
                memory,
                tap * lanes_,
                lanes_,
                load(weight, (tap * channels + channel) * filters + column, left),
            )
        for x in range(3):
            rows = weight_values(load_planes(memory, x * lanes_, 3 * lanes_, THREE))
            store_planes(memory, between + x * lanes_, 3 * lanes_, rows)
        for y in range(VALUES):
            columns = weight_values(load_planes(memory, between + y * 3 * lanes_, lanes_, THREE))
            to = ((panel * PLACES + y * VALUES) * channels + channel) * w + j
            store_planes(values, to, channels * w, columns)


@jit(refcount=False)
def _do_task(operands, task, memory, start):
    """Compute some rows of tiles of some pictures, in memory[start:]; infinite[task] says if not finite."""
    x, values, bias, outputs, write, infinite, table, zero, shape = operands
    bands = -(-shape.places[0] // (shape.rows * OUT))
    first, row = task // bands * shape.together, task % bands * shape.rows * OUT
    lanes_, w = lanes_of(x), VECTORS * lanes_of(x)
    height, width = shape.size
    deep, across = shape.deep, shape.across
    count = min(shape.together, shape.pictures - first)
    rows = min(shape.rows, -(-(shape.places[0] - row) // OUT))
    each, line = rows * across, (across * OUT + 2) * deep
    between = start + (shape.rows * OUT + 2) * line
    spread = between + PLACES * lanes_
    sums = spread + PLACES * shape.matrix
    for i in range(count):
        copy_picture(
            x, (first + i) * height * width * shape.channels, shape.size, shape.channels,
            (row - shape.before[0], -shape.before[1]),
            memory, start, (rows * OUT + 2, across * OUT + 2), shape.channels, deep,
        )  # fmt: skip
        for t in range(each):
            at = start + t // across * OUT * line + t % across * OUT * deep
            spread_tile(memory, at, line, deep, deep, between, spread + (i * each + t) * deep, shape.matrix)
    for p in range(0, shape.filters, w):
        for place in range(PLACES):
            for channel in range(0, shape.channels, BLOCK):
                steps = min(BLOCK, shape.channels - channel)
                b = Columns(values, (p * PLACES + place * w) * shape.channels + channel * w, w, 0)
                for r in range(0, count * each, ROWS):
                    a = Placed(memory, spread + place * shape.matrix + channel, table, r, 1, zero, 0)
                    c = Sums(memory, sums + place * shape.sums + r * w, w)
                    multiply_placed(ROWS, VECTORS, a, b, steps, 1, c, channel > 0)
        tiles = Tiles(first, count, row, rows, p)
        infinite[task] += call(write, (memory, sums, between, bias, outputs, shape, tiles))


_do_tasks = share_out(_do_task)


@jit(refcount=False)
def spread_tile(memory, at, line, pixel, channels, between, to, matrix):
    """B' d B of the 6 x 6 pixels from memory[at] on, place by place, ``matrix`` apart, from memory[to] on.

    Rows are ``line`` apart and pixels ``pixel``; memory[between:] is scratch for 36 registers.
    """
    lanes_ = lanes_of(memory)
    for c in range(0, channels, lanes_):
        for y in range(VALUES):
            columns = input_values(load_planes(memory, at + y * line + c, pixel, SIX))
            store_planes(memory, between + y * VALUES * lanes_, lanes_, columns)
        for x in range(VALUES):
            rows = input_values(load_planes(memory, between + x * lanes_, VALUES * lanes_, SIX))
            store_planes(memory, to + x * matrix + c, VALUES * matrix, rows)


# --- writing the results ------------------------------------------------------------------------------------


class Tiles(NamedTuple):
    """Which tiles of the output a task has computed.

    Attributes
    ----------
    picture, pictures
        The first picture, and how many.
    row, rows
        The first row of pixels, and how many rows of tiles.
    filter
        The first filter of the panel.
    """

    picture: int
    pictures: int
    row: int
    rows: int
    filter: int


@cache
def _address(kind, dtype):
    """Where the machine code lies that writes the results: ``_writer`` for these types."""
    numbers, outputs = type_of(dtype), outputs_of(dtype)
    shape, *_ = _layout(1, (4, 4), 1, 1, (1, 1), (4, 4), dtype)
    kinds = numbers, types.intp, types.intp, numbers, outputs, typeof(shape), typeof(Tiles(0, 0, 0, 0, 0))
    return _writer(*kind).address(kinds)


@cache
def _writer(rule, constants, reads, writes, scales, pool, takes):
    """The operation that writes what an epilogue makes of A' M A, for the tiles of a task.

    It returns 0 if all of A' M A is finite.
    """
    apply = applied(rule, constants, reads, writes, scales)
    pools_sums = pool == "sums"

    @jit(inline=True)
    def write_tile(columns_of, affine, outputs, to, row, pixel, rows, columns, left):
        y, beside, _, _, numbers = outputs
        memory, between, lanes_ = columns_of
        zeros = fill(memory, 0.0)
        for j in range(columns):
            pixels = output_pixels(load_planes(memory, between + j * lanes_, VALUES * lanes_, SIX))
            for i in range(rows):
                zeros = zeros + pixels[i] * 0.0
                at = to + i * row + j * pixel
                store(y, at, left, apply(pixels[i], affine, beside, at, left, numbers))
        return zeros

    @jit(inline=True)
    def pool_tile(columns_of, affine, outputs, to, row, pixel, rows, columns, left):
        y, beside, taken, _, numbers = outputs
        memory, between, lanes_ = columns_of
        zeros = fill(memory, 0.0)
        for j in range(0, columns - 1, 2):
            pixels = output_pixels(load_planes(memory, between + j * lanes_, VALUES * lanes_, SIX))
            others = output_pixels(load_planes(memory, between + (j + 1) * lanes_, VALUES * lanes_, SIX))
            for i in range(0, rows - 1, 2):
                at = to + i // 2 * row + j // 2 * pixel
                best, tap = fill(memory, 0.0), fill(memory, 0.0)
                for k in range(4):
                    sums = (others if k % 2 else pixels)[i + k // 2]
                    zeros = zeros + sums * 0.0
                    under = sums if pools_sums else apply(sums, affine, beside, at, left, numbers)
                    if k == 0:
                        best = under
                    else:  # not "under > best": a NaN is taken, and the first NaN stays
                        if takes:
                            number = fill(memory, 1.0 * k)
                            tap = np.where(best != best, tap, np.where(under <= best, tap, number))
                        best = np.where(best != best, best, np.where(under <= best, best, under))
                if pools_sums:
                    best = apply(best, affine, beside, at, left, numbers)
                store(y, at, left, best)
                if takes:
                    store_as(taken, at, left, tap)
        return zeros

    finish = pool_tile if pool else write_tile
    pooled = 2 if pool else 1

    @jit(addressed=True, refcount=False)
    def write(memory, sums, between, bias, outputs, shape, tiles):
        lanes_, w = lanes_of(memory), VECTORS * lanes_of(memory)
        (down, right), across, filters = shape.places, shape.across, shape.filters
        each, p = tiles.rows * across, tiles.filter
        height, width = down // pooled, right // pooled
        _, _, _, scale, _ = outputs
        zeros = fill(memory, 0.0)
        for i in range(tiles.pictures):
            for t in range(each):
                top, first = tiles.row + t // across * OUT, t % across * OUT
                pixel = ((tiles.picture + i) * height + top // pooled) * width + first // pooled
                for j in range(0, min(w, filters - p), lanes_):
                    left = filters - p - j
                    affine = load(scale, p + j, left), load(bias, p + j, left)
                    at = sums + (i * each + t) * w + j
                    for v in range(VALUES):
                        pixels = output_pixels(
                            load_planes(memory, at + v * VALUES * shape.sums, shape.sums, SIX)
                        )
                        store_planes(memory, between + v * VALUES * lanes_, lanes_, pixels)
                    zeros = zeros + finish(
                        (memory, between, lanes_), affine, outputs, pixel * filters + p + j, width * filters,
                        filters, min(OUT, down - top), min(OUT, right - first), left,
                    )  # fmt: skip
        return int(total(zeros) != 0)

    return write
