"""The blocked matrix product: out = A B (+ bias), for A and B with any strides.

    task          rows x columns of out, one thread each; tasks are cut by shape alone, so the bits of the
                  result do not depend on the number of threads
    depth block   DEPTH steps of the sum: the columns of B that a register tile needs stay in the L1 cache
    tile          see ``tiles.py``

Blocks of A and B are copied (packed) before use: the tile then reads memory in order, and edges are filled
up with zeros instead of being tested for.
"""

import numpy as np
from numba import prange

from npnet.kernels.runtime import compiled, get_num_threads, set_num_threads
from npnet.kernels.tiles import ROWS, multiply_tile, width, width_of
from npnet.kernels.vectors import lanes_of, load, store, store_parts, transpose

DEPTH = 256  # 256 steps x 32 columns x 4 bytes = 32 KiB of B, within any L1 cache
GAP = 16  # elements between packed tiles, lest all of them compete for the same cache sets
TASK_ROWS, TASK_COLUMNS = 256, 512  # at most; 256 x DEPTH of A and DEPTH x 512 of B fit the L2 cache together
TASKS = 8  # at least, where the product is large enough to be divided
SERIAL = 1 << 21  # multiplications up to which waking the other threads costs more than they save
SMALL = 1 << 20  # multiplications up to which NumPy's BLAS is done before a kernel here has begun


def multiply(a, b, bias=None):
    """Return a b + bias for matrices a (R, K) and b (K, C), which may be transposed views.

    Small products and those with a vector are left to NumPy's BLAS, which measures quicker there.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    if rows * columns * depth <= SMALL or (depth > 1 and 1 in (rows, columns)):
        out = a @ b
        if bias is not None:
            out += bias
        return out
    out = np.empty((rows, columns), a.dtype)
    if bias is None:
        bias = np.zeros(columns, a.dtype)
    (a, a_row, a_step), (b, b_step, b_column) = _flat(a), _flat(b)
    tall, wide = _task_shape(rows, columns, depth, width(out.dtype))
    _multiply(a, a_row, a_step, b, b_step, b_column, depth, bias, out, tall, wide)
    return out


def _flat(matrix):
    """A contiguous matrix or its transpose as (all elements in memory order, row stride, column stride)."""
    if matrix.flags.c_contiguous:
        return matrix.reshape(-1), matrix.shape[1], 1
    return matrix.T.reshape(-1), 1, matrix.shape[0]


def _task_shape(rows, columns, depth, tile_columns):
    """Rows and columns of out that one thread computes at a time: large, but enough of them to go round.

    A deep product is cut into tall tasks, because B is packed once for each; a shallow one, whose cost is to
    write out, into wide ones, which write whole rows.
    """
    tall = min(TASK_ROWS, _up(rows, ROWS))
    wide = min(TASK_COLUMNS // tile_columns * tile_columns, _up(columns, tile_columns))  # whole tiles
    while -(-rows // tall) * -(-columns // wide) < TASKS:
        can_narrow, can_shorten = wide > 2 * tile_columns, tall > 8 * ROWS
        if can_narrow and (depth > DEPTH or not can_shorten):
            wide = _up(wide // 2, tile_columns)
        elif can_shorten:
            tall = _up(tall // 2, ROWS)
        else:
            break
    return tall, wide


def _up(number, multiple):
    """The next multiple, from ``number`` on."""
    return -(-number // multiple) * multiple


@compiled(parallel=True)
def _multiply(a, a_row, a_step, b, b_step, b_column, depth, bias, out, tall, wide):
    across = -(-out.shape[1] // wide)
    threads = get_num_threads()
    if out.size * depth <= SERIAL:
        set_num_threads(1)
    for task in prange(-(-out.shape[0] // tall) * across):
        row, column = task // across * tall, task % across * wide
        _multiply_task(a, a_row, a_step, b, b_step, b_column, depth, bias, out, row, column, tall, wide)
    set_num_threads(threads)


@compiled
def _multiply_task(a, a_row, a_step, b, b_step, b_column, depth, bias, out, row, column, tall, wide):
    """out[row : row + tall, column : column + wide], as far as out reaches."""
    columns = width_of(out)
    rows_left, columns_left = min(tall, out.shape[0] - row), min(wide, out.shape[1] - column)
    tiles_down, tiles_across = -(-rows_left // ROWS), -(-columns_left // columns)
    longest = min(DEPTH, depth)
    whole_tiles = rows_left // ROWS if a_step == 1 else 0
    a_tile, b_panel = ROWS * longest + GAP, columns * longest + GAP
    packed_a = aligned_empty(a_tile if a_step == 1 else _whole(rows_left, out) // ROWS * a_tile, out)
    packed_b = aligned_empty(tiles_across * b_panel, out)
    one_block = depth <= DEPTH
    sums = aligned_empty((1 if one_block else tiles_down * tiles_across) * ROWS * columns, out)
    for k in range(0, depth, DEPTH):
        steps = min(DEPTH, depth - k)
        a_start = row * a_row + k * a_step
        if a_step == 1:
            _pack_rows(a, a_start + whole_tiles * ROWS * a_row, a_row, rows_left % ROWS, steps, packed_a)
        else:
            _pack_rows_turned(a, a_start, a_step, rows_left, steps, packed_a, a_tile)
        b_start = k * b_step + column * b_column
        if b_column == 1:
            _pack_columns(b, b_start, b_step, columns_left, steps, packed_b, b_panel)
        else:
            _pack_transposed(b, b_start, b_column, columns_left, steps, packed_b, b_panel)
        for tile in range(tiles_down * tiles_across):
            if one_block:  # along the rows of out, which are written at once
                down, across = tile // tiles_across, tile % tiles_across
                c_at = 0
            else:  # down the columns, so that B's panel stays in the L1 cache
                down, across = tile % tiles_down, tile // tiles_down
                c_at = tile * ROWS * columns
            b_at = across * b_panel
            if down < whole_tiles:
                multiply_tile(
                    a, a_start + down * ROWS * a_row, a_row, 1, 0,
                    packed_b, b_at, columns, 0, steps, 1, sums, c_at, columns, k > 0,
                )  # fmt: skip
            else:
                a_at = (down - whole_tiles) * a_tile
                packed_row, packed_step = (steps, 1) if a_step == 1 else (1, ROWS)
                multiply_tile(
                    packed_a, a_at, packed_row, packed_step, 0,
                    packed_b, b_at, columns, 0, steps, 1, sums, c_at, columns, k > 0,
                )  # fmt: skip
            if k + steps == depth:
                _finish(sums, c_at, bias, out, row + down * ROWS, column + across * columns)


@compiled
def _pack_rows(source, start, row, rows, steps, packed):
    """Rows one after the other, each ``steps`` long; zeros fill the last tile's missing rows."""
    for r in range(-(-rows // ROWS) * ROWS):
        for k in range(0, steps, lanes_of(packed)):
            left = steps - k
            numbers = load(source, start + r * row + k, left if r < rows else 0)
            store(packed, r * steps + k, left, numbers)


@compiled
def _whole(rows, like):
    """Rows filled up to whole registers and whole tiles."""
    chunk = max(ROWS, lanes_of(like))
    return -(-rows // chunk) * chunk


@compiled
def _pack_rows_turned(source, start, step, rows, steps, packed, distance):
    """Tiles of ROWS rows, each step by step, where the rows are neighbours; zeros fill the missing rows."""
    every = lanes_of(packed)
    for k in range(steps):
        for r in range(0, rows, every):
            numbers = load(source, start + k * step + r, rows - r)
            store_parts(packed, r // ROWS * distance + k * ROWS + r % ROWS, distance, ROWS, numbers)


@compiled
def _pack_columns(source, start, step, columns, steps, packed, distance):
    """Panels of a tile's width, each step by step; zeros fill the last panel's missing columns."""
    w, every = width_of(packed), lanes_of(packed)
    for k in range(steps):
        for first in range(0, columns, w):
            for j in range(first, first + w, every):
                numbers = load(source, start + k * step + j, columns - j)
                store(packed, first // w * distance + k * w + j - first, every, numbers)


@compiled
def _pack_transposed(source, start, column, columns, steps, packed, distance):
    """As ``_pack_columns``, by a tile's width, where the steps are neighbours and not the columns."""
    chunk, square = width_of(packed), lanes_of(packed)
    for j in range(0, -(-columns // chunk) * chunk, square):
        to = j // chunk * distance + j % chunk
        for k in range(0, steps, square):
            if j + square <= columns and k + square <= steps:
                transpose(source, start + j * column + k, column, packed, to + k * chunk, chunk)
            else:
                for i in range(k, min(k + square, steps)):
                    for c in range(square):
                        inside = j + c < columns
                        packed[to + i * chunk + c] = source[start + (j + c) * column + i] if inside else 0


@compiled
def _finish(sums, start, bias, out, row, column):
    """Write one tile's sums plus bias to where they belong, as far as out reaches."""
    columns = width_of(out)
    for r in range(min(ROWS, out.shape[0] - row)):
        for j in range(0, columns, lanes_of(out)):
            left = out.shape[1] - column - j
            numbers = load(sums, start + r * columns + j, columns) + load(bias, column + j, left)
            store(out, (row + r) * out.shape[1] + column + j, left, numbers)


@compiled
def aligned_empty(size, like):
    """An uninitialised vector of ``like``'s dtype on a cache line's boundary."""
    spare = 64 // like.itemsize
    memory = np.empty(size + spare, like.dtype)
    start = -(memory.ctypes.data // like.itemsize) % spare
    return memory[start : start + size]
