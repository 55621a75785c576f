"""Products of a few rows with a large matrix, in one pass over it: as quick as it comes from memory.

A prediction of one sample reads every weight once and uses it once. Packing it into panels, as ``blocked.py``
does, would only move it a second time.
"""

import numpy as np

from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.vectors.memory import fill, lanes_of, load, store, total

__all__ = ["FEW_ROWS", "multiply_few", "multiply_few_transposed"]

FEW_ROWS = 3  # rows up to which this is quicker than tiles
PART = 256  # rows of the matrix that a task takes, whatever the number of threads
GROUP = 4  # rows of the matrix that are added at a time
SERIAL = 1 << 17  # numbers of the matrix below which waking the other threads costs more than they save


@jit(inline=True, refcount=False)
def _add_group(a, at, b, k, sums, to, left):
    """sums[to] += a[at] b[k] + ... for GROUP rows of B from k on and one register of their columns."""
    columns = sums.shape[2]
    some = load(sums, to, left) + a[at] * load(b, k, left)
    some = some + a[at + 1] * load(b, k + columns, left)
    some = some + a[at + 2] * load(b, k + 2 * columns, left)
    store(sums, to, left, some + a[at + 3] * load(b, k + 3 * columns, left))


@jit(refcount=False)
def _add_part(part, a, b, sums):
    """sums[part] = A[:, k] B[k] for PART rows k of B."""
    _, rows, columns = sums.shape
    lanes, depth = lanes_of(b), a.size // rows
    whole, last = columns // lanes * lanes, min(part * PART + PART, depth)
    grouped = last - last % GROUP
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


@jit(parallel=True)
def multiply_few(a, b, bias, out):
    """out = a b + bias, where all matrices are given as their numbers, row by row."""
    columns = bias.size
    rows = out.size // columns
    parts = (b.size // columns + PART - 1) // PART
    sums = np.zeros((parts, rows, columns), out.dtype)
    threads = serial_below(SERIAL, b.size)
    parallel_for(parts, _add_part, (a, b, sums))
    set_num_threads(threads)
    for r in range(rows):
        for j in range(0, columns, lanes_of(out)):
            left = columns - j
            some = load(bias, j, left)
            for part in range(parts):
                some = some + load(sums, (part * rows + r) * columns + j, left)
            store(out, r * columns + j, left, some)


@jit(refcount=False)
def _dot(a, at, b, k, depth):
    """The sum of a[at + i] b[k + i] for i < depth."""
    lanes, zeros = lanes_of(b), fill(b, 0.0)
    first, second, third, fourth = zeros, zeros, zeros, zeros
    whole = depth // (4 * lanes) * (4 * lanes)
    for i in range(0, whole, 4 * lanes):
        first = first + load(a, at + i, lanes) * load(b, k + i, lanes)
        second = second + load(a, at + i + lanes, lanes) * load(b, k + i + lanes, lanes)
        third = third + load(a, at + i + 2 * lanes, lanes) * load(b, k + i + 2 * lanes, lanes)
        fourth = fourth + load(a, at + i + 3 * lanes, lanes) * load(b, k + i + 3 * lanes, lanes)
    for i in range(whole, depth, lanes):
        first = first + load(a, at + i, depth - i) * load(b, k + i, depth - i)
    return total((first + second) + (third + fourth))


@jit(refcount=False)
def _dot_part(part, a, b, bias, out):
    """out[:, c] = A B'[:, c] + bias[c] for PART rows c of B."""
    columns = bias.size
    rows, depth = out.size // columns, b.size // columns
    for c in range(part * PART, min(part * PART + PART, columns)):
        for r in range(rows):
            out[r * columns + c] = _dot(a, r * depth, b, c * depth, depth) + bias[c]


@jit(parallel=True)
def multiply_few_transposed(a, b, bias, out):
    """out = a b' + bias, where all matrices are given as their numbers, row by row."""
    threads = serial_below(SERIAL, b.size)
    parallel_for((bias.size + PART - 1) // PART, _dot_part, (a, b, bias, out))
    set_num_threads(threads)
