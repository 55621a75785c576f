"""W, v <- RMSprop(W, x' dy, v) for 32 samples, 3072 inputs and 512 units, in seven versions.

    g = x' dy;   v <- rho v + (1 - rho) g^2;   W <- W - rate g / sqrt(v + epsilon)

Every version takes (x, dy, weight, mean_square) in the layout that its ``layouts`` prepare.
"""

import numpy as np
from numba import njit, prange

from benchmarks.variants.phase import alone
from npnet.kernels import parallel, rules
from npnet.kernels.fused.vector_unit import update_tasks
from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.products import layouts
from npnet.kernels.products.blocked import aligned_empty
from npnet.kernels.products.layouts import SPARE_ROWS
from npnet.kernels.products.tiles import ROWS, Columns, Rows, Sums, multiply_tile, width_of
from npnet.kernels.vectors.memory import lanes_of, load, store

FLOAT = np.float32
RATE, RHO, EPSILON = FLOAT(1e-6), FLOAT(0.9), FLOAT(1e-7)
RULE = (1e-6, 0.9, 1e-7)


@njit
def _step(weight, mean_square, i, j, g):
    v = RHO * mean_square[i, j] + (FLOAT(1) - RHO) * g * g
    mean_square[i, j] = v
    weight[i, j] -= RATE * g / np.sqrt(v + EPSILON)


@njit
def loops(x, dy, weight, mean_square):
    """The formulas as they stand, one weight after the other."""
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            g = FLOAT(0)
            for n in range(x.shape[0]):
                g += x[n, i] * dy[n, j]
            _step(weight, mean_square, i, j, g)


@njit(fastmath={"contract", "reassoc"})
def order(x, dy, weight, mean_square):
    """One row of the gradient at a time, units innermost: the compiler computes eight at a time."""
    gradient = np.empty(weight.shape[1], FLOAT)
    for i in range(weight.shape[0]):
        gradient[:] = 0
        for n in range(x.shape[0]):
            for j in range(weight.shape[1]):
                gradient[j] += x[n, i] * dy[n, j]
        for j in range(weight.shape[1]):
            _step(weight, mean_square, i, j, gradient[j])


@njit(parallel=True, fastmath={"contract", "reassoc"})
def cores(x, dy, weight, mean_square):
    """Blocks of 64 rows on all cores."""
    for block in prange(weight.shape[0] // 64):
        gradient = np.empty(weight.shape[1], FLOAT)
        for i in range(block * 64, block * 64 + 64):
            gradient[:] = 0
            for n in range(x.shape[0]):
                for j in range(weight.shape[1]):
                    gradient[j] += x[n, i] * dy[n, j]
            for j in range(weight.shape[1]):
                _step(weight, mean_square, i, j, gradient[j])


@njit(parallel=True, fastmath={"contract", "reassoc", "arcp", "nsz"})
def reciprocal_root(x, dy, weight, mean_square):
    """An estimate of 1 / sqrt, refined once, in place of a root and a division."""
    for block in prange(weight.shape[0] // 64):
        gradient = np.empty(weight.shape[1], FLOAT)
        for i in range(block * 64, block * 64 + 64):
            gradient[:] = 0
            for n in range(x.shape[0]):
                for j in range(weight.shape[1]):
                    gradient[j] += x[n, i] * dy[n, j]
            for j in range(weight.shape[1]):
                g = gradient[j]
                v = RHO * mean_square[i, j] + (FLOAT(1) - RHO) * g * g
                mean_square[i, j] = v
                weight[i, j] -= RATE * g / np.sqrt(v + EPSILON)


def tiles(x, dy, weight, mean_square):
    """The product made of register tiles; the gradient, 6 MB, is written and read again by the update."""
    gradient, _ = parallel.dense_backward_parameters(x, dy)
    parallel.update(rules.rmsprop, weight, gradient, [mean_square], RULE)


@jit
def _columns_in_the_tile(p, x, dy, weight, mean_square):
    w, units, inputs = width_of(weight), weight.shape[1], weight.shape[0]
    square = aligned_empty(w * w, weight)
    for i in range(0, inputs, w):
        for r in range(0, w, ROWS):
            a, b = Rows(x, i + r, 1, inputs, 0), Columns(dy, p * w, units, 0)
            multiply_tile(a, b, x.shape[0], x.shape[0], Sums(square, r * w, w), w, False)
        for r in range(w):
            for j in range(0, w, lanes_of(weight)):
                at = (i + r) * units + p * w + j
                after = rules.rmsprop(
                    load(weight, at, lanes_of(weight)), load(square, r * w + j, lanes_of(weight)),
                    load(mean_square, at, lanes_of(weight)), RATE, RHO, EPSILON,
                )  # fmt: skip
                store(weight, at, lanes_of(weight), after[0])
                store(mean_square, at, lanes_of(weight), after[1])


@jit(parallel=True)
def in_the_tile(x, dy, weight, mean_square):
    """Each square of the gradient is used from the nearest cache, never stored; its rows lie 2 KiB apart."""
    parallel_for(weight.shape[1] // width_of(weight), _columns_in_the_tile, (x, dy, weight, mean_square))


_NO_BIAS = np.zeros((2, 0), FLOAT)


def fused_kernel(x, dy, weight, mean_square):
    """What runs: everything in panels, each square of W followed by its v, called to the cache in time."""
    n = x.shape[1] - SPARE_ROWS
    alone(update_tasks(rules.rmsprop, 1))((x, dy, n, weight, (3072, 512), _NO_BIAS, 1.0), RULE)


def as_rows(x, dy, weight, mean_square):
    """Arrays as NumPy has them."""
    return x, dy, weight.copy(), mean_square.copy()


def as_squares(x, dy, weight, mean_square):
    """The layouts of ``npnet.kernels.products.layouts``; the mean squares are in the weights' array."""
    x_panels, dy_panels = layouts.panels(*x.shape, FLOAT), layouts.panels(*dy.shape, FLOAT)
    squares = layouts.squares(*weight.shape, 1, FLOAT)
    layouts.to_panels(x, x_panels)
    layouts.to_panels(dy, dy_panels)
    layouts.to_squares(weight, squares, 0)
    layouts.to_squares(mean_square, squares, 1)
    return x_panels, dy_panels, squares, mean_square


VERSIONS = [
    (loops, as_rows),
    (order, as_rows),
    (cores, as_rows),
    (reciprocal_root, as_rows),
    (tiles, as_rows),
    (in_the_tile, as_rows),
    (fused_kernel, as_squares),
]


def problem():
    """Return (x, dy, weight, mean_square) and the operations of the product."""
    rng = np.random.default_rng(0)
    x = rng.random((32, 3072), FLOAT)
    dy = rng.standard_normal((32, 512)).astype(FLOAT) / 100
    weight = rng.standard_normal((3072, 512)).astype(FLOAT) / 32
    return (x, dy, weight, np.full_like(weight, 1e-4)), 2 * x.size * 512


def expected(x, dy, weight, mean_square):
    """NumPy's answer."""
    return rules.rmsprop(weight, x.T @ dy, mean_square, RATE, RHO, EPSILON)[0]


def result(x, dy, weight, mean_square):
    """Read a version's answer out of its layout."""
    if weight.ndim == 2:
        return weight
    rows = np.empty((3072, 512), FLOAT)
    layouts.from_squares(weight, 0, rows)
    return rows
