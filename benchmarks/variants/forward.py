"""y = max(x W + b, 0) for 32 samples, 3072 inputs and 512 units, in eight versions.

Every version takes (x, weight, bias) in the layout that its ``layouts`` prepare, and writes y.
"""

import numpy as np
from numba import njit, prange

from benchmarks.variants.phase import alone
from npnet.kernels import rules
from npnet.kernels.fused.vector_unit import forward_tasks
from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.products import layouts
from npnet.kernels.products.layouts import SPARE_ROWS
from npnet.kernels.products.tiles import ROWS, Columns, Rows, Sums, multiply_tile, width, width_of
from npnet.kernels.vectors.memory import lanes_of, load, store

FLOAT = np.float32


@njit
def loops(x, weight, bias, y):
    """The formula as it stands. Each step of the innermost loop jumps one row of W, 2 KiB, further."""
    for n in range(x.shape[0]):
        for j in range(weight.shape[1]):
            total = bias[j]
            for i in range(x.shape[1]):
                total += x[n, i] * weight[i, j]
            y[n, j] = max(total, FLOAT(0))


@njit(fastmath={"contract", "reassoc"})
def order(x, weight, bias, y):
    """Units innermost: memory is read in order, and the compiler computes eight units at a time."""
    for n in range(x.shape[0]):
        y[n] = bias
        for i in range(x.shape[1]):
            for j in range(weight.shape[1]):
                y[n, j] += x[n, i] * weight[i, j]
        y[n] = np.maximum(y[n], FLOAT(0))


@njit(parallel=True, fastmath={"contract", "reassoc"})
def cores(x, weight, bias, y):
    """Samples on all cores. W comes from the far cache once for each sample."""
    for n in prange(x.shape[0]):
        y[n] = bias
        for i in range(x.shape[1]):
            for j in range(weight.shape[1]):
                y[n, j] += x[n, i] * weight[i, j]
        y[n] = np.maximum(y[n], FLOAT(0))


@njit(parallel=True, fastmath={"contract", "reassoc"})
def blocks(x, weight, bias, y):
    """Blocks of 64 units on all cores, 64 inputs at a time: a block of W is read once for all samples."""
    for block in prange(weight.shape[1] // 64):
        left = block * 64
        sums = np.zeros((x.shape[0], 64), FLOAT)
        for top in range(0, x.shape[1], 64):
            for n in range(x.shape[0]):
                row = sums[n]
                for i in range(top, top + 64):
                    weights = weight[i, left : left + 64]
                    for j in range(64):
                        row[j] += x[n, i] * weights[j]
        for n in range(x.shape[0]):
            for j in range(64):
                y[n, left + j] = max(sums[n, j] + bias[left + j], FLOAT(0))


@jit
def _relu_of_sums(bias, y, at, column):
    for r in range(ROWS):
        for j in range(0, width_of(y), lanes_of(y)):
            place = at + r * y.shape[1] + j
            numbers = load(y, place, lanes_of(y)) + load(bias, column + j, lanes_of(y))
            store(y, place, lanes_of(y), np.maximum(numbers, 0.0))


@jit
def _tile_column(p, x, weight, bias, y):
    (depth, units), w = weight.shape, width_of(y)
    column = p * w
    for n in range(0, x.shape[0], ROWS):
        at = n * units + column
        a, b = Rows(x, n * depth, depth, 1, 0), Columns(weight, column, units, 0)
        multiply_tile(a, b, depth, depth, Sums(y, at, units), w, False)
        _relu_of_sums(bias, y, at, column)


@jit(parallel=True)
def tile(x, weight, bias, y):
    """Explicit vector instructions: the sums of 8 samples x 32 units stay in registers for all inputs."""
    parallel_for(weight.shape[1] // width_of(y), _tile_column, (x, weight, bias, y))


@jit
def _panel(p, x, weight, bias, y):
    depth, w, units = weight.shape[1], weight.shape[2], bias.size
    for n in range(0, x.shape[0], ROWS):
        at = n * units + p * w
        a, b = Rows(x, n * depth, depth, 1, 0), Columns(weight, p * depth * w, w, 0)
        multiply_tile(a, b, depth, depth, Sums(y, at, units), w, False)
        _relu_of_sums(bias, y, at, p * w)


@jit(parallel=True)
def panels(x, weight, bias, y):
    """W in panels of 32 columns: the tile reads one line after the other and not one every 2 KiB."""
    parallel_for(len(weight), _panel, (x, weight, bias, y))


@jit
def _panel_in_blocks(p, x, weight, bias, y):
    depth, w, units = weight.shape[1], weight.shape[2], bias.size
    for k in range(0, depth, 256):
        for n in range(0, x.shape[0], ROWS):
            at = n * units + p * w
            a, b = Rows(x, n * depth + k, depth, 1, 0), Columns(weight, (p * depth + k) * w, w, 0)
            multiply_tile(a, b, 256, 256, Sums(y, at, units), w, k > 0)
            if k + 256 == depth:
                _relu_of_sums(bias, y, at, p * w)


@jit(parallel=True)
def deep_blocks(x, weight, bias, y):
    """256 inputs at a time: these 32 KiB of a panel are still in the nearest cache for the next 8 samples."""
    parallel_for(len(weight), _panel_in_blocks, (x, weight, bias, y))


def fused_kernel(x, weight, bias, y):
    """What runs: x in panels too, what comes next called to the cache, tasks taken as threads get free."""
    alone(forward_tasks(rules.relu, False))((x, weight, (3072, 512), bias, x.shape[1] - SPARE_ROWS, y, y), ())


def as_rows(x, weight, bias):
    """Arrays as NumPy has them."""
    return x, weight, bias, np.empty((len(x), bias.size), FLOAT)


def as_panels(x, weight, bias):
    """W in panels."""
    depth, units = weight.shape
    w = width(FLOAT)
    split = weight.reshape(depth, units // w, w).transpose(1, 0, 2)
    memory = layouts.aligned_zeros(split.shape, FLOAT)
    memory[:] = split
    return x, memory, bias, np.empty((len(x), units), FLOAT)


def as_squares(x, weight, bias):
    """The layouts of ``npnet.kernels.products.layouts``."""
    x_panels, squares = layouts.panels(*x.shape, FLOAT), layouts.squares(*weight.shape, 1, FLOAT)
    layouts.to_panels(x, x_panels)
    layouts.to_squares(weight, squares, 0)
    return x_panels, squares, bias[None], layouts.panels(len(x), bias.size, FLOAT)


VERSIONS = [
    (loops, as_rows),
    (order, as_rows),
    (cores, as_rows),
    (blocks, as_rows),
    (tile, as_rows),
    (panels, as_panels),
    (deep_blocks, as_panels),
    (fused_kernel, as_squares),
]


def problem():
    """Return (x, weight, bias) and the operations of one pass."""
    rng = np.random.default_rng(0)
    x = rng.random((32, 3072), FLOAT)
    weight = rng.standard_normal((3072, 512)).astype(FLOAT) / 32
    bias = rng.standard_normal(512).astype(FLOAT)
    return (x, weight, bias), 2 * x.size * 512


def expected(x, weight, bias):
    """NumPy's answer."""
    return np.maximum(x @ weight + bias, 0)


def result(x, weight, bias, y):
    """Read a version's answer out of its layout."""
    return layouts.from_panels(y, 32, 512) if y.ndim == 3 else y
