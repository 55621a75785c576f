"""The blocked matrix product: out = A B (+ bias), for A and B with any strides.

    task    rows x columns of out, computed by one thread at a time
    DEPTH   steps of the sum at a time: the columns of B that a register tile needs stay in the L1 or L2 cache
    tile    see ``tiles.py``

Large products of float32 run on the processor's matrix unit, where there is one (``amx.py``). Otherwise B is
copied (packed) into panels of a tile's columns, in which the tile reads memory in order; where B's rows lie
in order, the first tile packs them while it multiplies. Rows of A are read where they lie, or copied closer
together where they would compete for the cache; where A's columns lie in order, A is packed too. A tile's
sums go from the registers to out as soon as they are complete, while the next tile is multiplied; those of
transposed products, whose numbers lie apart in out, at the end of the task.

Every number of out is summed in the same order however out is cut into tasks: its bits do not depend on the
number of threads.
"""

import math
import threading
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numba import from_dtype, types

from npnet.kernels.machine.helper import Job
from npnet.kernels.machine.jit import get_num_threads, jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.machine.tasks import new_counters, stretch, take
from npnet.kernels.machine.threads import get_threads
from npnet.kernels.products.amx import (
    BFLOAT16,
    FLOAT32,
    SIDE,
    multiply_squares,
    split_pairs,
    split_rows,
    split_size,
    start_unit,
    stop_unit,
    transpose_square,
)
from npnet.kernels.products.few import FEW_ROWS, FEW_STEPS, multiply_few, multiply_outer
from npnet.kernels.products.tiles import (
    ROWS,
    WIDE,
    Columns,
    RowsAt,
    Squares,
    Sums,
    Target,
    multiply_part,
    multiply_part_packing,
    wide_of,
)
from npnet.kernels.vectors.memory import fill, lanes_of, load, store, store_parts, total, transpose
from npnet.kernels.vectors.registers import AMX, REGISTER_BYTES, lanes

__all__ = [
    "DEPTH", "aligned_empty", "is_small", "multiply", "multiply_bfloat16", "product_job", "suits_bfloat16",
]  # fmt: skip

DEPTH = 256  # 256 steps x 48 columns x 4 bytes are 48 KiB of B at most: the L1 cache, or close to it
AMX_DEPTH = 128  # on the matrix unit: 4 squares of A and of B, split, are 51 KB
GROUP = 128  # columns of B split at a time: long stretches of its rows
GAP = 16  # elements between packed tiles, which would otherwise compete for the same cache sets
TASK_ROWS, TASK_COLUMNS = 512, 1024  # at most: what is packed is used that often
CUT = 1 if REGISTER_BYTES == 64 else WIDE  # tasks are cut after so many registers: narrow tiles have few sums
COPIED = 2  # panels of B up to which A is read where it lies
PERIOD = 1 << 17  # bytes after which addresses share a set of the L2 cache: 2,048 sets of lines of 64 bytes
WAYS = 8  # rows that may share one: caches have room for 8 to 16 lines in a set
MOST_TRANSPOSED = 96  # rows up to which it pays to transpose A and not a transposed B, which is larger
# Multiplications up to which a product is left to NumPy, whose OpenBLAS is quicker there. It starts a second
# thread at 2^19 (one for each 2^18), and those threads then keep a core busy for a tenth of a second. With
# 512-bit registers it has kernels for small products on one thread, unless B is transposed.
SMALL = (1 << 19) - 1
SMALL_BY_ROWS = 100**3 if REGISTER_BYTES == 64 else SMALL
SMALL_VECTOR = 1 << 18  # where A is a few rows or B one column
SMALL_OUTER = 2048  # of sums of one product, for which NumPy asks no BLAS
SERIAL = 1 << 20  # multiplications below which waking the other threads costs more than they save
LARGE = 1 << 24  # multiplications from which on the matrix unit is quicker
LARGE_BFLOAT16 = 1 << 18  # multiplications of bfloat16 above which it is
MOVING = 8  # multiplications in the time in which a number comes from memory


def multiply(a, b, bias=None):
    """Return a b + bias for matrices a (R, K) and b (K, C), which may be transposed views.

    Small products are left to NumPy's BLAS, which is done before a kernel here has begun; those of a few rows
    are done in one pass over b (``few.py``).
    """
    (rows, depth), columns = a.shape, b.shape[1]
    if is_small(rows, depth, columns, b.flags.c_contiguous):
        out = a @ b
        if bias is not None:
            out += bias
        return out
    if columns == 1 and rows > 1:  # out' = b' a'
        return multiply(b.T, a.T, None if bias is None else np.full(rows, bias[0])).T
    out = np.empty((rows, columns), a.dtype)
    if bias is None:
        bias = np.zeros(columns, a.dtype)
    if rows <= FEW_ROWS and a.flags.c_contiguous:
        multiply_few(a, b, bias, out)
        return out
    if depth <= FEW_STEPS and a.T.flags.c_contiguous and b.flags.c_contiguous:
        multiply_outer(a.T, b, bias, out)
        return out
    on_unit = _suits_matrix_unit(rows, columns, depth, out.dtype)
    if not on_unit or not _multiply_into(a, b, bias, out, FLOAT32):
        _multiply_into(a, b, bias, out)  # not finite: the matrix unit makes NaN of infinities
    return out


def product_job(rows, depth, columns, dtype):
    """The kernel that ``multiply`` takes for a product of this shape, to be compiled before it is needed.

    None where it takes none, or another than that of most products.
    """
    if is_small(rows, depth, columns) or rows <= FEW_ROWS or depth <= FEW_STEPS or columns == 1:
        return None
    numbers = types.Array(from_dtype(dtype), 1, "C")
    pair = types.UniTuple(types.int64, 2)
    operands = numbers, numbers, types.UniTuple(types.int64, 5), numbers, numbers
    shape = types.boolean, pair, types.int64, types.UniTuple(pair, 2)
    kernel = _on_matrix_unit if _suits_matrix_unit(rows, columns, depth, dtype) else _on_vector_unit
    return Job(kernel, (*operands, *shape, types.int64, numbers, types.int64))


def _on_vector_unit():
    """The kernel of most products."""
    return _multiply(_do_task)


def _on_matrix_unit():
    """The kernel of large products of float32."""
    return _multiply(_task_on_unit(FLOAT32))


def multiply_bfloat16(a, b):
    """Return a b as ``multiply`` does, of operands that the matrix unit rounds to bfloat16."""
    out = np.empty((len(a), b.shape[1]), a.dtype)
    _multiply_into(a, b, np.zeros(b.shape[1], a.dtype), out, BFLOAT16)
    return out


def _multiply_into(a, b, bias, out, precision=None):
    """Write a b + bias to out, in tiles or in a precision of the matrix unit.

    Return whether all numbers are finite on the matrix unit; otherwise True.
    """
    (rows, columns), depth, threads = out.shape, len(b), get_threads()
    by_rows = a.flags.c_contiguous, b.flags.c_contiguous
    blocking = _blocking(rows, depth, columns, by_rows, out.dtype, precision, threads)
    kernel, strides, transposed, shape, grid, work = blocking
    if transposed:  # out' = b' a'
        a, b = b, a
    share, scratch = _scratch(out.dtype, threads)
    operands = a.ravel("K"), b.ravel("K"), strides, bias, out.ravel(), transposed, shape, depth
    return kernel(*operands, grid, work, scratch, share)


class _Blocking(NamedTuple):
    """How products of one shape and layout are computed: a kernel from ``_multiply`` and its arguments."""

    kernel: Callable[..., bool]
    strides: tuple[int, int, int, int, int]
    transposed: bool
    shape: tuple[int, int]
    grid: tuple[tuple[int, int], tuple[int, int]]
    work: int


@lru_cache(maxsize=1024)
def _blocking(rows, depth, columns, by_rows, dtype, precision, threads):
    """Return how to multiply (rows, depth) (depth, columns).

    ``by_rows``: of each of the two, whether its rows lie in order or its columns.
    """
    a_by_rows, b_by_rows = by_rows
    left, right = (depth, 1) if a_by_rows else (1, rows), (columns, 1) if b_by_rows else (1, depth)
    transposed, shape = not b_by_rows and rows <= MOST_TRANSPOSED and rows < columns, (rows, columns)
    if transposed:
        left, right, shape = right[::-1], left[::-1], shape[::-1]
    tile, narrowest, task = (ROWS, CUT * lanes(dtype)), WIDE * lanes(dtype), _do_task
    if precision is not None:
        tile, narrowest, task = (SIDE, SIDE), SIDE, _task_on_unit(precision)
    work = rows * depth * columns + MOVING * (rows * depth + depth * columns + rows * columns)
    grid = _grid(*shape, depth, tile, narrowest, threads if work >= SERIAL else 1)
    strides = *left, *right, columns
    return _Blocking(_multiply(task).below(SERIAL, work), strides, transposed, shape, grid, work)


def is_small(rows, depth, columns, by_rows=True):
    """Whether the product (rows, depth) (depth, columns) is left to NumPy.

    ``by_rows``: whether the second factor's rows lie in order; those of a transposed matrix do not.
    """
    if depth == 1:
        most = SMALL_OUTER
    elif rows <= FEW_ROWS or columns == 1:
        most = SMALL_VECTOR
    else:
        most = SMALL_BY_ROWS if by_rows else SMALL
    return rows * depth * columns <= most


def _suits_matrix_unit(rows, columns, depth, dtype):
    """Whether there is a matrix unit for this dtype, and enough to do to pay for splitting A and B."""
    large = min(rows, columns) >= 2 * SIDE and depth >= SIDE and rows * columns * depth > LARGE
    return AMX and dtype == np.float32 and large


def suits_bfloat16(rows, columns, depth, dtype):
    """Whether ``multiply_bfloat16`` is there for this dtype, and quicker than to round first and multiply."""
    large = min(columns, depth) >= SIDE and rows * depth * columns > LARGE_BFLOAT16
    return AMX and dtype == np.float32 and large


_kept = threading.local()


def _scratch(dtype, threads):
    """Return how many elements a thread may use for A, B, the sums and a row of zeros, and memory for all.

    It is kept: memory that is new costs more to touch than to pack.
    """
    w = WIDE * lanes(dtype)
    packed = TASK_ROWS * (DEPTH + GAP) + w * DEPTH + w
    split = (TASK_ROWS + GROUP) // SIDE * AMX_DEPTH // SIDE * split_size(FLOAT32.left) + SIDE * SIDE
    share = max(packed, split) + TASK_ROWS * -(-TASK_COLUMNS // w) * w
    memory = getattr(_kept, dtype.char, None)
    if memory is None or memory.size < threads * share:
        memory = aligned_empty.py_func(threads * share, np.empty(0, dtype))
        setattr(_kept, dtype.char, memory)
    return share, memory


def _grid(rows, columns, depth, tile, narrowest, threads):
    """Return into how many tasks to cut out, (down, across), and the tile between which to cut.

    Tasks are large, as equal as can be, and enough for all threads to share, but have ``narrowest`` columns.

    A deep product is cut into squares, because A and B are packed once for each task; a shallow one, whose
    cost is to write out, into wide tasks, which write long rows.
    """
    down, across = -(-rows // TASK_ROWS), -(-columns // TASK_COLUMNS)
    most_down, most_across = -(-rows // tile[0]), -(-columns // narrowest)
    while True:
        tasks = down * across
        if threads == 1 or tasks >= 8 * threads or (tasks >= 2 * threads and tasks % threads == 0):
            break
        can_narrow, can_shorten = across < most_across, down < most_down and rows > 32 * down
        too_wide = depth > DEPTH and columns * down >= rows * across
        if can_narrow and (too_wide or not can_shorten):
            across = min(2 * across, most_across)
        elif can_shorten:
            down = min(2 * down, most_down)
        else:
            break
    return (down, across), tile


@jit
def _part(i, parts, length, tile):
    """Where part i of equal parts of a length begins, and how long it is, if they are cut between tiles."""
    first, end = stretch(i, parts, -(-length // tile))
    return first * tile, min(end * tile, length) - first * tile


@jit
def _up(number, multiple):
    """The next multiple, from ``number`` on."""
    return -(-number // multiple) * multiple


@cache
def _multiply(do_task):
    """The kernel that has ``do_task`` compute each task; it returns whether all of them returned True."""

    @jit
    def do_tasks(thread, threads, counters, shape, grid, operands, scratch, share, right):
        right[thread] = True
        memory = scratch[thread * share : (thread + 1) * share]
        (rows, columns), ((down, across), tile) = shape, grid
        tasks = down * across
        task = take((counters, thread, threads), 0, tasks)
        while task < tasks:
            row, tall = _part(task // across, down, rows, tile[0])
            column, wide = _part(task % across, across, columns, tile[1])
            if not do_task(*operands, row, column, (tall, wide), memory):
                right[thread] = False
            task = take((counters, thread, threads), 0, tasks)

    @jit(parallel=True)
    def kernel(a, b, strides, bias, out, transposed, shape, depth, grid, work, scratch, share):
        """out, or its transpose if ``transposed``, is A B; ``bias`` is added to the rows of out.

        ``shape``: (R, C), of A B
        ``depth``: K
        ``strides``: in a from row to row and from step to step, in b from step to step and column to column,
        in out from row to row
        ``grid``: from ``_grid``
        ``work``: multiplications, or what takes as long
        ``scratch``: memory for all threads, of which each uses ``share`` elements
        """
        threads = serial_below(SERIAL, work)
        team = min(get_num_threads(), scratch.size // share)
        counters = new_counters(1, team)
        right = np.empty(team, np.bool_)
        operands = a, b, strides, bias, out, transposed, depth
        parallel_for(team, do_tasks, (team, counters, shape, grid, operands, scratch, share, right))
        set_num_threads(threads)
        for thread in range(1, team):
            right[0] &= right[thread]
        return right[0]

    return kernel


# --- a task on the matrix unit ---------------------------------------------------------------------------


@cache
def _task_on_unit(precision):
    """``_do_task`` on the matrix unit, in so many parts."""
    left_parts, right_parts = precision
    left_size, right_size = split_size(left_parts), split_size(right_parts)
    split_left, split_right = _split_left(left_parts), _split_right(right_parts)

    @jit(refcount=False)
    def do_task(a, b, strides, bias, out, transposed, depth, row, column, size, memory):
        """Return whether out is finite there; if not, it may be wrong."""
        (rows, columns), (a_row, a_step, b_step, b_column, out_row) = size, strides
        tall, longest = _up(rows, SIDE), -(-min(AMX_DEPTH, depth) // SIDE)
        split_a = memory[: tall // SIDE * longest * left_size]
        split_b = memory[split_a.size :]
        square = split_b[GROUP // SIDE * longest * right_size :]
        sums = square[SIDE * SIDE :]
        start_unit()
        for k in range(0, depth, AMX_DEPTH):
            steps = min(AMX_DEPTH, depth - k)
            squares = -(-steps // SIDE)
            a_start, b_start = row * a_row + k * a_step, k * b_step + column * b_column
            split_left(a, a_start, a_row, a_step, rows, steps, split_a, longest * left_size, square)
            for g in range(0, columns, GROUP):
                wide, b_group = min(GROUP, columns - g), b_start + g * b_column
                split_right(b, b_group, b_step, b_column, steps, wide, split_b, longest * right_size, square)
                for p in range(0, wide, SIDE):
                    right = Squares(split_b, p // SIDE * longest * right_size, right_size)
                    for r in range(0, rows, SIDE):
                        left = Squares(split_a, r // SIDE * longest * left_size, left_size)
                        c = Sums(sums, (g + p) * tall + r * SIDE, SIDE)
                        multiply_squares(left, right, squares, c, k > 0, left_parts, right_parts)
        stop_unit()
        if transposed:
            return _finish_transposed(sums, tall, bias, out, out_row, row, rows, column, columns)
        return _finish(sums, tall, bias, out, out_row, row, rows, column, columns)

    return do_task


@cache
def _split_left(parts):
    """The kernel that splits rows of A for some steps."""
    split_square, size = split_rows(parts), split_size(parts)

    @jit(refcount=False)
    def work(a, start, a_row, a_step, rows, steps, split, line, square):
        """Squares beside each other lie in order then, those below a line apart.

        ``square`` is memory for one of them.
        """
        if a_step == 1:
            for r in range(0, rows, SIDE):
                split_square(a, start + r * a_row, a_row, rows - r, steps, split, r // SIDE * line, size)
        else:
            for k in range(0, steps, SIDE):
                for r in range(0, rows, SIDE):
                    _transpose_part(a, start + r + k * a_step, a_step, steps - k, rows - r, square)
                    to = r // SIDE * line + k // SIDE * size
                    split_square(square, 0, SIDE, SIDE, SIDE, split, to, size)

    return work


@jit(refcount=False)
def _transpose_part(source, start, row, rows, columns, target):
    """target[j * SIDE + i] = source[start + i * row + j]; missing numbers are zero."""
    if rows >= SIDE and columns >= SIDE:
        transpose_square(source, start, row, target)
    else:
        for i in range(SIDE):
            for j in range(SIDE):
                inside = i < rows and j < columns
                target[j * SIDE + i] = source[start + i * row + j] if inside else 0


@cache
def _split_right(parts):
    """The kernel that splits columns of B for some steps."""
    split_square, size = split_pairs(parts), split_size(parts)

    @jit(refcount=False)
    def work(b, start, b_step, b_column, steps, columns, split, line, square):
        """Squares below each other lie in order then, those beside a line apart.

        ``square`` is memory for one of them.
        """
        if b_column == 1:
            for k in range(0, steps, SIDE):
                to = k // SIDE * size
                split_square(b, start + k * b_step, b_step, steps - k, columns, split, to, line, None)
        else:
            for j in range(0, columns, SIDE):
                for k in range(0, steps, SIDE):
                    _transpose_part(b, start + j * b_column + k, b_column, columns - j, steps - k, square)
                    to = j // SIDE * line + k // SIDE * size
                    split_square(square, 0, SIDE, SIDE, SIDE, split, to, line, None)

    return work


@jit
def _finish(sums, tall, bias, out, out_row, row, rows, column, columns):
    """Write a task's sums plus bias to out, row by row, because memory is quickest in long stretches.

    Return whether all are finite.
    """
    lanes = lanes_of(out)
    zeros = fill(out, 0.0)
    for r in range(rows):
        for p in range(0, columns, SIDE):
            for j in range(0, min(SIDE, columns - p), lanes):
                left = columns - p - j
                numbers = load(sums, p * tall + r * SIDE + j, lanes) + load(bias, column + p + j, left)
                zeros = zeros + numbers * 0.0
                store(out, (row + r) * out_row + column + p + j, left, numbers)
    return total(zeros) == 0


@jit
def _finish_transposed(sums, tall, bias, out, out_row, row, rows, column, columns):
    """``_finish`` where the sums are those of the transpose of out."""
    zero = 0.0
    for j in range(columns):
        for r in range(rows):
            number = sums[j // SIDE * SIDE * tall + r * SIDE + j % SIDE] + bias[row + r]
            zero += number * 0.0
            out[(column + j) * out_row + row + r] = number
    return zero == 0


# --- a task in tiles -------------------------------------------------------------------------------------


@jit
def _do_task(a, b, strides, bias, out, transposed, depth, row, column, size, memory):
    """Compute ``size`` rows and columns of A B from (row, column) on; return True: they are right."""
    (rows, columns), (a_row, a_step) = size, strides[:2]
    copied = a_step == 1 and columns > COPIED * wide_of(out) and _compete(rows, a_row * out.itemsize)
    places = np.empty(_tall(rows, out), np.int64)  # where A's rows begin
    for r in range(places.size):
        here = min(r, rows - 1)  # what fills the last tile repeats the last row
        places[r] = here * (min(DEPTH, depth) + GAP) if copied else (row + here) * a_row
    _multiply_task(a, b, strides, bias, out, transposed, depth, row, column, size, memory, copied, places)
    return True


@jit
def _tall(rows, like):
    """Rows of packed A, and of the sums of a task."""
    return _up(rows, max(ROWS, lanes_of(like)))


@jit(refcount=False)
def _multiply_task(
    a, b, strides, bias, out, transposed, depth, row, column, size, memory, copied, places
):  # fmt: skip
    """What ``_do_task`` does, without reference counting: its atomic operations would make threads wait.

    ``copied``: whether A's rows are copied to their ``places`` first
    """
    (rows, columns), (a_row, a_step, b_step, b_column, out_row) = size, strides
    w, tall, longest = wide_of(out), _tall(rows, out), min(DEPTH, depth)
    line = longest + GAP
    packed_a, packed_b = memory[: tall * line], memory[tall * line : tall * line + w * longest]
    sums, zeros = memory[packed_a.size + packed_b.size :], memory[memory.size - w :]
    for j in range(w):
        zeros[j] = 0
    for k in range(0, depth, DEPTH):
        steps = min(DEPTH, depth - k)
        a_start = row * a_row + k * a_step
        if a_step != 1:
            _pack_rows(a, a_start, a_step, rows, steps, packed_a, ROWS * line)
        p = 0
        while p < columns:
            left, b_start = columns - p, k * b_step + (column + p) * b_column
            vectors = _vectors(left, out)
            packing = b_column == 1 and vectors > 1 and left >= vectors * lanes_of(out)
            if b_column != 1:
                _pack_panel_transposed(b, b_start, b_column, left, steps, packed_b, vectors)
            elif not packing:
                _pack_panel(b, b_start, b_step, left, steps, packed_b, vectors)
            panel_of_b = left, vectors, packing, b, b_start, b_step, packed_b
            panel_of_c = sums, p * tall, k > 0, zeros
            target = k + steps == depth and not transposed, out, out_row, bias, row, column + p
            if a_step == 1:
                rows_of_a, start = (packed_a, 0) if copied else (a, k)
                copy = copied and p == 0, a, a_start, a_row, line
                tiles_of_a = rows_of_a, start, places, 0
                _multiply_panel(tiles_of_a, panel_of_b, panel_of_c, rows, steps, copy, target)
            else:
                tiles_of_a, copy = (packed_a, 0, None, ROWS * line), (False, packed_a, 0, 0, 0)
                _multiply_panel(tiles_of_a, panel_of_b, panel_of_c, rows, steps, copy, target)
            p += vectors * lanes_of(out)
    if transposed:
        _write_transposed(sums, tall, out, out_row, bias, row, column, rows, columns)


@jit
def _vectors(columns, like):
    """Return the registers across the next panel: as a wide tile has, but two and two, not three and one."""
    left = -(-columns // lanes_of(like))
    if left == 4 and WIDE == 3:
        return 2
    return left if left < 3 else WIDE


@jit
def _compete(rows, distance):
    """Whether rows so many bytes apart compete for the same sets of the L2 cache.

    They begin at PERIOD / gcd(distance, PERIOD) different places of it.
    """
    return rows * math.gcd(distance, PERIOD) > WAYS * PERIOD


@jit(refcount=False)
def _multiply_panel(tiles_of_a, panel_of_b, panel_of_c, rows, steps, copy, target):
    """The sums (+)= A B for one panel of B, tile by tile; the first one packs B on its way.

    A's rows are where ``places`` says, or packed in tiles that are ``distance`` apart.
    ``copy``: whether to copy A there first, and from where
    ``target``: whether the sums are complete then, and where to write them
    """
    a, start, places, distance = tiles_of_a
    copying, source, source_start, source_row, line = copy
    columns, vectors, packing, b, b_start, b_step, packed = panel_of_b
    sums, c_start, add, zeros = panel_of_c
    complete, out, out_row, bias, row, column = target
    w = vectors * lanes_of(sums)
    panel, rows_of_b = Columns(packed, 0, w, 0), Columns(b, b_start, b_step, 0)
    for r in range(0, rows, ROWS):
        here = min(ROWS, rows - r)
        if copying:
            _copy_rows(source, source_start + r * source_row, source_row, here, steps, a, r * line, line)
        tile_of_a = RowsAt(a, start + r // ROWS * distance, places, r)
        c = Sums(sums, c_start + r * w, w)
        whole = complete and here == ROWS and columns >= w
        if whole:
            to = Target(out, (row + r) * out_row + column, out_row, bias, column)
        else:
            to = Target(sums, c.start, w, zeros, 0)
        if r == 0 and packing and vectors == WIDE:
            multiply_part_packing(WIDE, tile_of_a, rows_of_b, steps, c, add, to, packed, 0)
        elif r == 0 and packing:
            multiply_part_packing(2, tile_of_a, rows_of_b, steps, c, add, to, packed, 0)
        elif vectors == WIDE:
            multiply_part(WIDE, tile_of_a, panel, steps, c, add, to)
        elif vectors == 2:
            multiply_part(2, tile_of_a, panel, steps, c, add, to)
        else:
            multiply_part(1, tile_of_a, panel, steps, c, add, to)
        if complete and not whole:
            _write(sums, c.start, w, out, out_row, bias, row + r, column, here, min(w, columns))


@jit
def _write(sums, start, w, out, out_row, bias, row, column, rows, columns):
    """Write a tile's sums plus bias to out, where some of its rows or columns are missing."""
    lanes = lanes_of(out)
    for r in range(rows):
        for j in range(0, columns, lanes):
            numbers = load(sums, start + r * w + j, lanes) + load(bias, column + j, columns - j)
            store(out, (row + r) * out_row + column + j, columns - j, numbers)


@jit
def _write_transposed(sums, tall, out, out_row, bias, row, column, rows, columns):
    """Write a task's sums plus bias to out, whose transpose they are."""
    p = 0
    while p < columns:
        w = _vectors(columns - p, out) * lanes_of(out)
        for j in range(min(w, columns - p)):
            for r in range(rows):
                out[(column + p + j) * out_row + row + r] = sums[p * tall + r * w + j] + bias[row + r]
        p += w


@jit
def _copy_rows(source, start, row, rows, steps, packed, to, line):
    """Rows a line apart, from ``to`` on."""
    lanes = lanes_of(packed)
    for r in range(rows):
        for k in range(0, steps, lanes):
            store(packed, to + r * line + k, steps - k, load(source, start + r * row + k, steps - k))


@jit
def _pack_rows(source, start, step, rows, steps, packed, distance):
    """Tiles of ROWS rows, ``distance`` apart, step by step; in the source a step's numbers lie in order.

    Zeros fill the missing rows.
    """
    lanes = lanes_of(packed)
    for k in range(steps):
        for r in range(0, rows, lanes):
            numbers = load(source, start + k * step + r, rows - r)
            store_parts(packed, r // ROWS * distance + k * ROWS + r % ROWS, distance, ROWS, numbers)


@jit
def _pack_panel(source, start, step, columns, steps, packed, vectors):
    """A panel's columns, step by step; zeros fill the missing columns."""
    w, lanes = vectors * lanes_of(packed), lanes_of(packed)
    for k in range(steps):
        for j in range(0, w, lanes):
            store(packed, k * w + j, lanes, load(source, start + k * step + j, columns - j))


@jit
def _pack_panel_transposed(source, start, column, columns, steps, packed, vectors):
    """As ``_pack_panel``, where a column's numbers lie in order; missing columns repeat the last one."""
    w, lanes = vectors * lanes_of(packed), lanes_of(packed)
    for j in range(0, min(w, columns), lanes):
        rows = columns - j
        for k in range(0, steps - lanes + 1, lanes):
            transpose(source, start + j * column + k, column, rows, packed, k * w + j, w)
        for k in range(steps // lanes * lanes, steps):
            for c in range(lanes):
                packed[k * w + j + c] = source[start + (j + min(c, rows - 1)) * column + k]


@jit
def aligned_empty(size, like):
    """An uninitialised vector of ``like``'s dtype on a cache line's boundary."""
    spare = 64 // like.itemsize
    memory = np.empty(size + spare, like.dtype)
    start = -(memory.ctypes.data // like.itemsize) % spare
    return memory[start : start + size]
