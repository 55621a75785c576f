"""Products of a few rows with a large matrix, in one pass over it: as quick as it comes from memory.

A prediction of one sample reads every weight once and uses it once. Packing it into panels, as ``blocked.py``
does, would only move it a second time. The gradient of a few samples, a sum over so few that every number is
written as soon as it is computed, is a pass over the result.
"""

import numpy as np

from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.vectors.memory import fill, lanes_of, load, store, total

__all__ = [
    "FEW_ROWS", "FEW_STEPS", "PART", "SERIAL", "add_part", "add_up", "multiply_few", "multiply_outer",
]  # fmt: skip

FEW_ROWS = 3  # rows up to which this is quicker than tiles
FEW_STEPS = 8  # numbers in a sum up to which an outer product is
PART = 256  # rows of the matrix that a task takes, whatever the number of threads
GROUP = 4  # rows of the matrix that are added at a time
SERIAL = 1 << 17  # numbers of the matrix below which waking the other threads costs more than they save


def multiply_few(a, b, bias, out):
    """out = a b + bias, for FEW_ROWS rows at most and b a matrix in memory order or its transpose."""
    kernel, b = (_multiply, b) if b.flags.c_contiguous else (_multiply_transposed, b.T)
    kernel.below(SERIAL, b.size)(a.reshape(-1), b.reshape(-1), bias, out.reshape(-1))


def multiply_outer(a, b, bias, out):
    """out = a' b + bias, for matrices a and b of FEW_STEPS rows at most, in memory order."""
    _outer.below(SERIAL, out.size)(a.reshape(-1), b.reshape(-1), bias, out.reshape(-1))


# --- a b --------------------------------------------------------------------------------------------------


@jit(inline=True, refcount=False)
def _add_group(a, at, b, k, sums, to, left):
    """sums[to] += a[at] b[k] + ... for GROUP rows of B from k on and one register of their columns."""
    columns = sums.shape[2]
    some = load(sums, to, left) + a[at] * load(b, k, left)
    some = some + a[at + 1] * load(b, k + columns, left)
    some = some + a[at + 2] * load(b, k + 2 * columns, left)
    store(sums, to, left, some + a[at + 3] * load(b, k + 3 * columns, left))


@jit(refcount=False)
def add_part(part, a, b, sums):
    """sums[part] = A[:, k] B[k] for PART rows k of B."""
    _, rows, columns = sums.shape
    lanes, depth = lanes_of(b), a.size // rows
    whole, last = columns // lanes * lanes, min(part * PART + PART, depth)
    grouped = last - last % GROUP
    end = (part + 1) * rows * columns
    for to in range(end - rows * columns, end, lanes):
        store(sums, to, end - to, fill(sums, 0.0))
    for k in range(part * PART, grouped, GROUP):
        for r in range(rows):
            to = (part * rows + r) * columns
            for j in range(0, whole, lanes):
                _add_group(a, r * depth + k, b, k * columns + j, sums, to + j, lanes)
            if whole < columns:
                left = columns - whole
                _add_group(a, r * depth + k, b, k * columns + whole, sums, to + whole, left)
    for k in range(max(grouped, part * PART), last):
        for r in range(rows):
            to = (part * rows + r) * columns
            for j in range(0, columns, lanes):
                some = load(sums, to + j, columns - j)
                more = a[r * depth + k] * load(b, k * columns + j, columns - j)
                store(sums, to + j, columns - j, some + more)


@jit(refcount=False)
def add_up(sums, bias, out):
    """out = A B + bias, of the sums of its parts, whose first out may be."""
    parts, rows, columns = sums.shape
    for r in range(rows):
        for j in range(0, columns, lanes_of(out)):
            left = columns - j
            some = load(bias, j, left)
            for part in range(parts):
                some = some + load(sums, (part * rows + r) * columns + j, left)
            store(out, r * columns + j, left, some)


@jit(parallel=True)
def _multiply(a, b, bias, out):
    """out = a b + bias, where all matrices are given as their numbers, row by row."""
    columns = bias.size
    rows = out.size // columns
    parts = (b.size // columns + PART - 1) // PART
    sums = np.empty((parts, rows, columns), out.dtype)
    threads = serial_below(SERIAL, b.size)
    parallel_for(parts, add_part, (a, b, sums))
    set_num_threads(threads)
    add_up(sums, bias, out)


# --- a b' -------------------------------------------------------------------------------------------------


@jit(inline=True, refcount=False)
def _add_dots(a, at, b, k, depth, left, sums):
    """Add a[at : at + left] times the numbers from k on of GROUP rows of B, which are ``depth`` apart."""
    some = load(a, at, left)
    first, second, third, fourth = sums
    return (
        first + some * load(b, k, left),
        second + some * load(b, k + depth, left),
        third + some * load(b, k + 2 * depth, left),
        fourth + some * load(b, k + 3 * depth, left),
    )


@jit(refcount=False)
def _dot_part(part, a, b, bias, out):
    """out[:, c] = A B'[:, c] + bias[c] for PART rows c of B, GROUP of them at a time."""
    columns, lanes = bias.size, lanes_of(b)
    rows, depth = out.size // columns, b.size // columns
    whole, zeros, last = depth // lanes * lanes, fill(b, 0.0), min(part * PART + PART, columns)
    grouped = part * PART + (last - part * PART) // GROUP * GROUP
    for c in range(part * PART, grouped, GROUP):
        for r in range(rows):
            sums = zeros, zeros, zeros, zeros
            for i in range(0, whole, lanes):
                sums = _add_dots(a, r * depth + i, b, c * depth + i, depth, lanes, sums)
            if whole < depth:
                sums = _add_dots(a, r * depth + whole, b, c * depth + whole, depth, depth - whole, sums)
            at = r * columns + c
            out[at], out[at + 1] = total(sums[0]) + bias[c], total(sums[1]) + bias[c + 1]
            out[at + 2], out[at + 3] = total(sums[2]) + bias[c + 2], total(sums[3]) + bias[c + 3]
    for c in range(grouped, last):
        for r in range(rows):
            sum_ = zeros
            for i in range(0, depth, lanes):
                left = depth - i
                sum_ = sum_ + load(a, r * depth + i, left) * load(b, c * depth + i, left)
            out[r * columns + c] = total(sum_) + bias[c]


@jit(parallel=True)
def _multiply_transposed(a, b, bias, out):
    """out = a b' + bias, where all matrices are given as their numbers, row by row."""
    threads = serial_below(SERIAL, b.size)
    parallel_for((bias.size + PART - 1) // PART, _dot_part, (a, b, bias, out))
    set_num_threads(threads)


# --- a' b -------------------------------------------------------------------------------------------------


@jit(refcount=False)
def _outer_part(part, a, b, bias, out):
    """out[i] = the sum over r of A[r, i] B[r], + bias, for PART rows i of out, four registers at a time."""
    columns, lanes = bias.size, lanes_of(out)
    rows, depth = out.size // columns, b.size // columns
    whole = columns // (4 * lanes) * (4 * lanes)
    for i in range(part * PART, min(part * PART + PART, rows)):
        for j in range(0, whole, 4 * lanes):
            first, second = load(bias, j, lanes), load(bias, j + lanes, lanes)
            third, fourth = load(bias, j + 2 * lanes, lanes), load(bias, j + 3 * lanes, lanes)
            for r in range(depth):
                number, k = a[r * rows + i], r * columns + j
                first = first + number * load(b, k, lanes)
                second = second + number * load(b, k + lanes, lanes)
                third = third + number * load(b, k + 2 * lanes, lanes)
                fourth = fourth + number * load(b, k + 3 * lanes, lanes)
            at = i * columns + j
            store(out, at, lanes, first)
            store(out, at + lanes, lanes, second)
            store(out, at + 2 * lanes, lanes, third)
            store(out, at + 3 * lanes, lanes, fourth)
        for j in range(whole, columns, lanes):
            left = columns - j
            some = load(bias, j, left)
            for r in range(depth):
                some = some + a[r * rows + i] * load(b, r * columns + j, left)
            store(out, i * columns + j, left, some)


@jit(parallel=True)
def _outer(a, b, bias, out):
    """out = a' b + bias, where all matrices are given as their numbers, row by row."""
    threads = serial_below(SERIAL, out.size)
    parallel_for((out.size // bias.size + PART - 1) // PART, _outer_part, (a, b, bias, out))
    set_num_threads(threads)
