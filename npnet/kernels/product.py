"""The blocked matrix product: out = A B (+ bias), for A and B with any strides.

    task          rows x columns of out, computed by one thread
    depth block   DEPTH steps of the sum: the columns of B that a register tile needs stay in the L1 cache
    tile          see ``tiles.py``

B is copied (packed) into panels of a tile's columns, in which the tile reads memory in order; where B's rows
lie in order, the first tile does that while it multiplies. A is packed only where its columns lie in order,
its rows are read as they are. Every number of out is summed in the same order however out is cut into tasks:
the bits do not depend on the number of threads.
"""

import threading

import numpy as np
from numba import prange

from npnet.kernels.runtime import compiled, get_num_threads
from npnet.kernels.tasks import new_counters, take
from npnet.kernels.threads import get_threads
from npnet.kernels.tiles import ROWS, VECTORS, multiply_part, multiply_part_packing, width, width_of
from npnet.kernels.vectors import fill, lanes_of, load, store, store_parts, total, transpose

DEPTH = 256  # 256 steps x 32 columns x 4 bytes = 32 KiB of B, within any L1 cache
GAP = 16  # elements between packed tiles, lest all of them compete for the same cache sets
TASK_ROWS, TASK_COLUMNS = 256, 512  # at most; 256 x DEPTH of A and as many sums fit the L2 cache together
FEW = 96  # rows up to which it pays to turn A over and not a transposed B, which is larger
SMALL = 1 << 18  # multiplications up to which a product is NumPy's: OpenBLAS, on one thread, is as quick
SERIAL = 1 << 20  # multiplications up to which waking the other threads costs more than they save
MOVING = 8  # multiplications in the time in which a number comes from memory


def multiply(a, b, bias=None):
    """Return a b + bias for matrices a (R, K) and b (K, C), which may be transposed views.

    Small products are left to NumPy's BLAS, which is done before a kernel here has begun.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    if rows * columns * depth <= SMALL:
        out = a @ b
        if bias is not None:
            out += bias
        return out
    a_in_rows, b_in_rows = a.flags.c_contiguous, b.flags.c_contiguous
    if columns == 1 and rows > 1 and not a_in_rows:
        return multiply(b.T, a.T, None if bias is None else np.repeat(bias, rows)).reshape(rows, 1)
    out = np.empty((rows, columns), a.dtype)
    if bias is None:
        bias = np.zeros(columns, a.dtype)
    if not depth:
        out[:] = bias
    elif columns == 1:
        _multiply_vector(a.reshape(-1), b.reshape(-1), bias, out.reshape(-1))
    elif rows == 1 and not b_in_rows:
        _multiply_vector(b.T.reshape(-1), a.reshape(-1), bias, out.reshape(-1))
    elif out.size:
        turned = not b_in_rows and rows <= FEW and rows < columns
        if turned:
            a, b = b.T, a.T
        (a, a_row, a_step), (b, b_step, b_column) = _flat(a), _flat(b)
        shape = (columns, rows) if turned else (rows, columns)
        threads, work = get_threads(), out.size * depth + MOVING * (a.size + b.size + out.size)
        share, scratch = _scratch(out.dtype, threads)
        blocks = _task_shape(*shape, depth, width(out.dtype), 2 * threads)
        strides = a_row, a_step, b_step, b_column
        _multiply(a, b, strides, bias, out, turned, shape, depth, blocks, work > SERIAL, scratch, share)
    return out


def _flat(matrix):
    """A contiguous matrix or its transpose as (all elements in memory order, row stride, column stride)."""
    if matrix.flags.c_contiguous:
        return matrix.reshape(-1), matrix.shape[1], 1
    return matrix.T.reshape(-1), 1, matrix.shape[0]


_kept = threading.local()


def _scratch(dtype, threads):
    """Return how many elements a thread may use to pack and to sum, and memory for all of them.

    It is kept: memory that is new costs more to touch than to pack.
    """
    share, memory = getattr(_kept, dtype.char, (0, None))
    if memory is None or memory.size < threads * share:
        tiles, panels = TASK_ROWS // ROWS + 1, TASK_COLUMNS // width(dtype)
        share = (
            tiles * (ROWS * DEPTH + GAP) + panels * (width(dtype) * DEPTH + GAP) + TASK_ROWS * TASK_COLUMNS
        )
        memory = aligned_empty.py_func(threads * share, np.empty(0, dtype))
        setattr(_kept, dtype.char, (share, memory))
    return share, memory


def _task_shape(rows, columns, depth, tile_columns, tasks):
    """Rows and columns of out that one thread computes at a time: large, but enough of them to go round.

    A deep product is cut into tall tasks, because B is packed once for each; a shallow one, whose cost is to
    write out, into wide ones, which write whole rows.
    """
    tall = min(TASK_ROWS, _up(rows, ROWS))
    wide = min(TASK_COLUMNS // tile_columns * tile_columns, _up(columns, tile_columns))  # whole tiles
    while -(-rows // tall) * -(-columns // wide) < tasks:
        can_narrow, can_shorten = wide > tile_columns, tall > 4 * ROWS
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
def _multiply(a, b, strides, bias, out, turned, shape, depth, blocks, together, scratch, share):
    if together:
        threads = min(get_num_threads(), scratch.size // share)
        counters = new_counters(1, threads)
        for thread in prange(threads):  # counts unsigned: not converted, everything is compiled twice
            memory = scratch[thread * share : (thread + 1) * share]
            team = counters, np.int64(thread), np.int64(threads)
            _do_tasks(team, a, b, strides, bias, out, turned, shape, depth, blocks, memory)
    else:
        team = new_counters(1, 1), np.int64(0), np.int64(1)
        _do_tasks(team, a, b, strides, bias, out, turned, shape, depth, blocks, scratch)


@compiled
def _do_tasks(team, a, b, strides, bias, out, turned, shape, depth, blocks, memory):
    (rows, columns), (tall, wide) = shape, blocks
    across = -(-columns // wide)
    tasks = -(-rows // tall) * across
    task = take(team, 0, tasks)
    while task < tasks:
        row, column = task // across * tall, task % across * wide
        size = min(tall, rows - row), min(wide, columns - column)
        _do_task(a, b, strides, bias, out, turned, depth, row, column, size, memory)
        task = take(team, 0, tasks)


@compiled
def _do_task(a, b, strides, bias, out, turned, depth, row, column, size, memory):
    """``size`` rows and columns of A B from (row, column) on."""
    (rows, columns), (a_row, a_step, b_step, b_column) = size, strides
    w, longest = width_of(out), min(DEPTH, depth)
    a_tile, b_panel, panels = ROWS * longest + GAP, w * longest + GAP, -(-columns // w)
    one_block = depth <= DEPTH
    turned_tiles = -(-rows // ROWS) + 1 if a_step != 1 else 0
    packed_a = memory[: turned_tiles * a_tile]
    rest = memory[packed_a.size :]
    packed_b = rest[: panels * b_panel]
    sums = rest[packed_b.size :]
    rows_of_a, a_strides = (a, (a_row, 1)) if a_step == 1 else (packed_a, (1, ROWS))
    for k in range(0, depth, DEPTH):
        steps = min(DEPTH, depth - k)
        a_start, b_start = row * a_row + k * a_step, k * b_step + column * b_column
        if a_step != 1:
            _pack_rows(a, a_start, a_step, rows, steps, packed_a, a_tile)
        # A deep product goes down the columns of out, so that B's panel stays in the L1 cache, a shallow one
        # along its rows, which are written at once.
        for first in range(1 if one_block else panels):
            r = 0
            while r < rows:
                height = ROWS
                while height > rows - r:
                    height //= 2
                a_at = a_start + r * a_row if a_step == 1 else r // ROWS * a_tile + r % ROWS
                for p in range(first, panels if one_block else first + 1):
                    left, b_at = columns - p * w, b_start + p * w * b_column
                    c_at = 0 if one_block else (p * rows + r) * w
                    packing = r == 0 and b_column == 1 and left >= w
                    if r == 0 and not packing:
                        if b_column == 1:
                            _pack_panel(b, b_at, b_step, left, steps, packed_b, p * b_panel)
                        else:
                            _pack_panel_turned(b, b_at, b_column, left, steps, packed_b, p * b_panel)
                    _multiply_rows(
                        height, packing, left <= lanes_of(out), rows_of_a, a_at, *a_strides,
                        b, b_at, b_step, packed_b, p * b_panel, steps, sums, c_at, k > 0,
                    )  # fmt: skip
                    if k + steps < depth:
                        continue
                    if turned:
                        _finish_turned(sums, c_at, out, row + r, height, column + p * w, min(w, left))
                    else:
                        _finish(sums, c_at, bias, out, row + r, height, column + p * w)
                r += height


def _tile_of(height):
    """The tile with this many rows; B comes from where it was packed, or is packed on the way."""

    @compiled
    def tile(packing, narrow, a, a_at, a_row, a_step, b, b_at, b_step, packed, to, steps, sums, c_at, add):
        w = width_of(sums)
        if packing:
            multiply_part_packing(
                height, VECTORS, a, a_at, a_row, a_step, b, b_at, b_step, steps, sums, c_at, w, add,
                packed, to,
            )  # fmt: skip
        elif narrow:
            multiply_part(height, 1, a, a_at, a_row, a_step, packed, to, w, steps, sums, c_at, w, add)
        else:
            multiply_part(height, VECTORS, a, a_at, a_row, a_step, packed, to, w, steps, sums, c_at, w, add)

    return tile


_tile, _half, _quarter, _row = (_tile_of(max(1, height)) for height in (ROWS, ROWS // 2, ROWS // 4, 1))


@compiled
def _multiply_rows(
    height, packing, narrow, a, a_at, a_row, a_step, b, b_at, b_step, packed, to, steps, sums, c_at, add
):
    if height == ROWS:
        if a_step == 1:  # constants are part of the instructions
            _tile(packing, narrow, a, a_at, a_row, 1, b, b_at, b_step, packed, to, steps, sums, c_at, add)
        else:
            _tile(packing, narrow, a, a_at, 1, ROWS, b, b_at, b_step, packed, to, steps, sums, c_at, add)
    elif height == ROWS // 2:
        _half(packing, narrow, a, a_at, a_row, a_step, b, b_at, b_step, packed, to, steps, sums, c_at, add)
    elif height == ROWS // 4:
        _quarter(packing, narrow, a, a_at, a_row, a_step, b, b_at, b_step, packed, to, steps, sums, c_at, add)
    else:
        _row(packing, narrow, a, a_at, a_row, a_step, b, b_at, b_step, packed, to, steps, sums, c_at, add)


@compiled
def _pack_rows(source, start, step, rows, steps, packed, distance):
    """Tiles of ROWS rows, each step by step, where the rows are neighbours; zeros fill the missing rows."""
    every = lanes_of(packed)
    for k in range(steps):
        for r in range(0, rows, every):
            numbers = load(source, start + k * step + r, rows - r)
            store_parts(packed, r // ROWS * distance + k * ROWS + r % ROWS, distance, ROWS, numbers)


@compiled
def _pack_panel(source, start, step, columns, steps, packed, to):
    """Up to a tile's columns, step by step; zeros fill the missing columns."""
    w, every = width_of(packed), lanes_of(packed)
    for k in range(steps):
        for j in range(0, w, every):
            store(packed, to + k * w + j, every, load(source, start + k * step + j, columns - j))


@compiled
def _pack_panel_turned(source, start, column, columns, steps, packed, to):
    """As ``_pack_panel``, where the steps are neighbours and not the columns."""
    w, square = width_of(packed), lanes_of(packed)
    for j in range(0, w, square):
        for k in range(0, steps, square):
            if j + square <= columns and k + square <= steps:
                transpose(source, start + j * column + k, column, packed, to + k * w + j, w)
            else:
                for i in range(k, min(k + square, steps)):
                    for c in range(square):
                        inside = j + c < columns
                        packed[to + i * w + j + c] = source[start + (j + c) * column + i] if inside else 0


@compiled
def _finish(sums, start, bias, out, row, rows, column):
    """Write one tile's sums plus bias to where they belong, as far as out reaches."""
    columns = width_of(out)
    for r in range(rows):
        for j in range(0, columns, lanes_of(out)):
            left = out.shape[1] - column - j
            numbers = load(sums, start + r * columns + j, columns) + load(bias, column + j, left)
            store(out, (row + r) * out.shape[1] + column + j, left, numbers)


@compiled
def _finish_turned(sums, start, out, row, rows, column, columns):
    """Write one tile's sums to where they belong in the transpose of out."""
    for j in range(columns):
        for r in range(rows):
            out[column + j, row + r] = sums[start + r * width_of(out) + j]


@compiled(parallel=True)
def _multiply_vector(matrix, vector, bias, out):
    """out = matrix vector + bias, row by row."""
    if matrix.size * MOVING > SERIAL:
        for row in prange(out.size):
            out[row] = _dot(matrix, row * vector.size, vector) + bias[row % bias.size]
    else:
        for row in range(out.size):
            out[row] = _dot(matrix, row * vector.size, vector) + bias[row % bias.size]


@compiled
def _dot(matrix, start, vector):
    every = lanes_of(vector)
    s0, s1, s2, s3 = fill(vector, 0.0), fill(vector, 0.0), fill(vector, 0.0), fill(vector, 0.0)
    whole = vector.size // (4 * every) * (4 * every)
    for k in range(0, whole, 4 * every):
        s0 = s0 + load(matrix, start + k, every) * load(vector, k, every)
        s1 = s1 + load(matrix, start + k + every, every) * load(vector, k + every, every)
        s2 = s2 + load(matrix, start + k + 2 * every, every) * load(vector, k + 2 * every, every)
        s3 = s3 + load(matrix, start + k + 3 * every, every) * load(vector, k + 3 * every, every)
    for k in range(whole, vector.size, every):
        left = vector.size - k
        s0 = s0 + load(matrix, start + k, left) * load(vector, k, left)
    return total((s0 + s1) + (s2 + s3))


@compiled
def aligned_empty(size, like):
    """An uninitialised vector of ``like``'s dtype on a cache line's boundary."""
    spare = 64 // like.itemsize
    memory = np.empty(size + spare, like.dtype)
    start = -(memory.ctypes.data // like.itemsize) % spare
    return memory[start : start + size]
