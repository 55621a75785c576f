"""Batch normalisation, compiled: statistics of columns, and what becomes of each number by them.

Sums over a column are taken block by block of rows, small enough to stay in the L1 cache, and then over the
blocks: memory is read in order, all threads have work however few columns there are, and a sum of blocks is
more exact than one running sum. The blocks follow from the shape alone.

A fused step needs what ``batch_norm_forward`` computes with the activation behind it, and remembers less:
``normalize`` keeps nothing of z, which ``normalize_back`` computes again from x. Its batch may be cut into
shards, so sums (``sums``, ``sums_back``) and what becomes of them are apart.
"""

from functools import cache

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from npnet.kernels import reference, rules
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.parallel.arrays import SERIAL, is_for_numpy, plain
from npnet.kernels.vectors.memory import fill, lanes_of, load, store

__all__ = [
    "batch_norm_backward_input",
    "batch_norm_backward_parameters",
    "batch_norm_forward",
    "mean_of",
    "normalize",
    "normalize_back",
    "sums",
    "sums_back",
]

IN_L1 = 16 * 1024  # bytes of a block


def batch_norm_forward(x, gamma, beta, epsilon):
    """y = gamma z + beta, z = (x - mean) / sqrt(variance + epsilon); returns y, z, mean, variance."""
    if is_for_numpy("batch_norm_forward", x):
        return reference.batch_norm_forward(x, gamma, beta, epsilon)
    x, y, normalized = plain(x), np.empty_like(x, order="C"), np.empty_like(x, order="C")
    (total, squares), n = sums(x), x.dtype.type(len(x))
    mean, variance = mean_of(total, n), squares / n
    statistics = mean, _factor(variance, epsilon), plain(gamma), plain(beta)
    _normalizer(rules.linear, 0, "z")(x, statistics, np.empty(0), y, normalized, _rows(x))
    return y, normalized, mean, variance


def batch_norm_backward_parameters(dy, normalized):
    """dgamma = column sums of dy z,  dbeta = column sums of dy."""
    if is_for_numpy("batch_norm_backward_parameters", dy):
        return reference.batch_norm_backward_parameters(dy, normalized)
    return tuple(_column_sums(plain(dy), plain(normalized), *_identity(dy)))


def batch_norm_backward_input(dy, normalized, gamma, variance, epsilon, means=None):
    """dx = gamma / s (dy - mean(dy) - z mean(dy z)),  s = sqrt(variance + epsilon)."""
    if is_for_numpy("batch_norm_backward_input", dy):
        return reference.batch_norm_backward_input(dy, normalized, gamma, variance, epsilon, means)
    if means is None:
        dgamma, dbeta = batch_norm_backward_parameters(dy, normalized)
        means = dbeta / dy.dtype.type(len(dy)), dgamma / dy.dtype.type(len(dy))
    dx = np.empty_like(dy, order="C")
    statistics = *_identity(dy), gamma * _factor(variance, epsilon), *map(plain, means)
    _backward(plain(dy), plain(normalized), statistics, dx, _rows(dy))
    return dx


def sums(x):
    """Return the sum of each column and that of the squared distances from its mean, (2, C)."""
    rows, columns = _rows(x), x.shape[1]
    blocks, totals = np.empty((2, -(-len(x) // rows), columns), x.dtype), np.empty((2, columns), x.dtype)
    _sums_kernel(x, rows, blocks, *totals)
    return totals


def mean_of(total, n):
    """Return total / n, rounded as compiled loops round the mean of a column: they multiply by 1 / n."""
    return total * (1 / n)


def normalize(x, mean, variance, gamma, beta, epsilon, rule, constants, y, before=None):
    """y = rule(u, *constants) with u = gamma z + beta, z = (x - mean) / sqrt(variance + epsilon).

    ``y`` is written, and u into ``before`` if that is an array.
    """
    statistics = mean, _factor(variance, epsilon), gamma, beta
    kernel = _normalizer(rule, len(constants), None if before is None else "u")
    kernel(x, statistics, np.array(constants, np.float64), y, y if before is None else before, _rows(x))


def sums_back(du, x, mean, variance, epsilon):
    """Return the column sums of du z and of du, (2, C): dgamma and dbeta. As ``normalize`` computes z."""
    return _column_sums(du, x, mean, _factor(variance, epsilon))


def normalize_back(du, x, means, gamma, mean, variance, epsilon, dx):
    """Write dx = gamma / s (du - mean(du) - z mean(du z)); ``means`` has those of du z and of du."""
    factor = _factor(variance, epsilon)
    mean_duz, mean_du = means
    _backward(du, x, (mean, factor, gamma * factor, mean_du, mean_duz), dx, _rows(du))


def _factor(variance, epsilon):
    return 1 / np.sqrt(variance + variance.dtype.type(epsilon))


def _identity(array):
    """Mean 0 and factor 1, for numbers that are normalised already."""
    return np.zeros(array.shape[1], array.dtype), np.ones(array.shape[1], array.dtype)


def _rows(x):
    """Rows of a block."""
    return max(1, IN_L1 // max(1, x.shape[1] * x.itemsize))


def _column_sums(dy, x, mean, factor):
    """Sums of dy (x - mean) factor and of dy over each column, (2, C)."""
    rows, columns = _rows(x), x.shape[1]
    blocks, totals = np.empty((2, -(-len(x) // rows), columns), x.dtype), np.empty((2, columns), x.dtype)
    _column_sums_kernel(dy, x, mean, factor, rows, blocks, *totals)
    return totals


# --- statistics ---------------------------------------------------------------------------------------------


@jit(parallel=True)
def _sums_kernel(x, rows, sums, total, squares):
    threads = serial_below(SERIAL, x.size)
    parallel_for(sums.shape[1], _statistics_of_block, (x, rows, sums))
    parallel_for(-(-x.shape[1] // lanes_of(x)), _join_statistics, (x, rows, sums, total, squares))
    set_num_threads(threads)


@jit
def _statistics_of_block(block, x, rows, sums):
    """The mean of some rows of each column, and the sum of squared distances from it."""
    columns, blocks = x.shape[1], sums.shape[1]
    first, last = block * rows, min(len(x), (block + 1) * rows)
    for c in range(0, columns, lanes_of(x)):
        left = columns - c
        even, odd = fill(x, 0.0), fill(x, 0.0)  # two sums: an addition waits for the last one of its sum
        for n in range(first, last - 1, 2):
            even = even + load(x, n * columns + c, left)
            odd = odd + load(x, (n + 1) * columns + c, left)
        if (last - first) % 2:
            even = even + load(x, (last - 1) * columns + c, left)
        center = (even + odd) / (last - first)
        even, odd = fill(x, 0.0), fill(x, 0.0)
        for n in range(first, last - 1, 2):
            one = load(x, n * columns + c, left) - center
            other = load(x, (n + 1) * columns + c, left) - center
            even, odd = even + one * one, odd + other * other
        if (last - first) % 2:
            one = load(x, (last - 1) * columns + c, left) - center
            even = even + one * one
        store(sums, block * columns + c, left, center)
        store(sums, (blocks + block) * columns + c, left, even + odd)


@jit
def _join_statistics(chunk, x, rows, sums, total, squares):
    """Sums over all rows: the squares of each block, and of the distance of its mean from theirs.

    sum (x - mean)^2 = sum over blocks of  sum (x - center)^2 + rows (center - mean)^2   (Chan et al. 1979)
    """
    columns, blocks = x.shape[1], sums.shape[1]
    c = chunk * lanes_of(x)
    left = columns - c
    whole = fill(x, 0.0)
    for block in range(blocks):
        some = min(len(x) - block * rows, rows)
        whole = whole + load(sums, block * columns + c, left) * some
    center = whole / len(x)
    around = fill(x, 0.0)
    for block in range(blocks):
        some = min(len(x) - block * rows, rows)
        distance = load(sums, block * columns + c, left) - center
        around = around + (load(sums, (blocks + block) * columns + c, left) + distance * distance * some)
    store(total, c, left, whole)
    store(squares, c, left, around)


# --- forward ------------------------------------------------------------------------------------------------


@cache
def _normalizer(rule, count, keeps):
    """The kernel for y = rule(gamma z + beta), which keeps "z", the rule's argument "u", or nothing."""

    @jit
    def normalize_block(block, x, statistics, constants, y, kept, rows):
        mean, factor, gamma, beta = statistics
        columns = x.shape[1]
        numbers = to_fixed_tuple(constants, count)
        for n in range(block * rows, min(len(x), (block + 1) * rows)):
            for c in range(0, columns, lanes_of(x)):
                left, at = columns - c, n * columns + c
                z = (load(x, at, left) - load(mean, c, left)) * load(factor, c, left)
                u = load(gamma, c, left) * z + load(beta, c, left)
                if keeps == "z":
                    store(kept, at, left, z)
                elif keeps == "u":
                    store(kept, at, left, u)
                store(y, at, left, rule(u, *numbers))

    @jit(parallel=True)
    def kernel(x, statistics, constants, y, kept, rows):
        threads = serial_below(SERIAL, x.size)
        parallel_for(-(-len(x) // rows), normalize_block, (x, statistics, constants, y, kept, rows))
        set_num_threads(threads)

    return kernel


# --- backward -----------------------------------------------------------------------------------------------


@jit(parallel=True)
def _column_sums_kernel(dy, x, mean, factor, rows, sums, dgamma, dbeta):
    threads = serial_below(SERIAL, x.size)
    parallel_for(sums.shape[1], _sums_of_block, (dy, x, mean, factor, rows, sums))
    parallel_for(-(-x.shape[1] // lanes_of(x)), _join_sums, (sums, dgamma, dbeta))
    set_num_threads(threads)


@jit
def _sums_of_block(block, dy, x, mean, factor, rows, sums):
    """Sums of dy z, with z = (x - mean) factor, and of dy over some rows of each column."""
    columns, blocks = x.shape[1], sums.shape[1]
    for c in range(0, columns, lanes_of(x)):
        left = columns - c
        center, scale = load(mean, c, left), load(factor, c, left)
        along, whole = fill(x, 0.0), fill(x, 0.0)
        for n in range(block * rows, min(len(x), (block + 1) * rows)):
            gradient = load(dy, n * columns + c, left)
            along = along + gradient * ((load(x, n * columns + c, left) - center) * scale)
            whole = whole + gradient
        store(sums, block * columns + c, left, along)
        store(sums, (blocks + block) * columns + c, left, whole)


@jit
def _join_sums(chunk, sums, dgamma, dbeta):
    """The sums over all blocks, for a register of columns."""
    _, blocks, columns = sums.shape
    c = chunk * lanes_of(sums)
    left = columns - c
    first, second = fill(sums, 0.0), fill(sums, 0.0)
    for block in range(blocks):
        first = first + load(sums, block * columns + c, left)
        second = second + load(sums, (blocks + block) * columns + c, left)
    store(dgamma, c, left, first)
    store(dbeta, c, left, second)


@jit(parallel=True)
def _backward(dy, x, statistics, dx, rows):
    threads = serial_below(SERIAL, x.size)
    parallel_for(-(-len(x) // rows), _backward_block, (dy, x, statistics, dx, rows))
    set_num_threads(threads)


@jit
def _backward_block(block, dy, x, statistics, dx, rows):
    mean, factor, scale, mean_dy, mean_dyz = statistics
    columns = x.shape[1]
    for n in range(block * rows, min(len(x), (block + 1) * rows)):
        for c in range(0, columns, lanes_of(x)):
            left, at = columns - c, n * columns + c
            z = (load(x, at, left) - load(mean, c, left)) * load(factor, c, left)
            rest = load(dy, at, left) - load(mean_dy, c, left) - z * load(mean_dyz, c, left)
            store(dx, at, left, load(scale, c, left) * rest)
