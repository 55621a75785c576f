"""Squares of samples and of weights, split for the matrix unit: what ``fused/matrix_unit.py`` multiplies.

``layouts.py`` says how matrices lie, ``amx.py`` what a square is when it has been split, into how many parts.
Samples are cut into stripes of SIDE rows; a stripe and a panel have a square in common. All squares here are
SIDE x SIDE. What stands on the right of a product is multiplied by a ``factor`` first, unless that is None.
"""

from functools import cache

from npnet.kernels.machine.jit import jit
from npnet.kernels.products.amx import (
    BFLOAT16,
    EXACT_LEFT,
    FLOAT32,
    HALF,
    PIECES,
    SIDE,
    split_pairs,
    split_rows,
    split_size,
    store_split,
    transpose_square,
)
from npnet.kernels.vectors.memory import lanes_of, load

__all__ = [
    "AT_ONCE", "SQUARE", "STRIPES", "split_gradients", "split_samples", "split_samples_transposed",
    "split_weights", "split_weights_piece",
]  # fmt: skip

SQUARE = SIDE * SIDE  # numbers in a square
# (squares of weights, stripes of samples) that are used at a time: their parts, 17 or 25 KB, fit the L1 cache
AT_ONCE = {FLOAT32: (4, 4), EXACT_LEFT: (4, 4), BFLOAT16: (8, 8)}
STRIPES = 16  # used at a time: the parts of 16 stripes by 4 squares, 0.4 MB, fit the L2 cache


@cache
def split_samples(precision):
    """The kernel that splits squares of samples, the left operands of products."""
    split_square, size = split_rows(precision.left), split_size(precision.left)
    chunk, _ = AT_ONCE[precision]

    @jit(refcount=False)
    def work(x, q, squares, first, stripes, n, split):
        """Split some stripes of x from ``first`` on, of each the squares in ``squares`` panels from q on.

        Square i of stripe s goes to place s chunk + i.
        """
        for s in range(stripes):
            for i in range(squares):
                at = ((q + i) * x.shape[1] + (first + s) * SIDE) * SIDE
                rows = n - (first + s) * SIDE
                split_square(x, at, SIDE, rows, SIDE, split, (s * chunk + i) * size, size)

    return work


@cache
def split_samples_transposed(parts):
    """The kernel that splits the same squares, transposed."""
    split_square, size = split_rows(parts), split_size(parts)

    @jit(refcount=False)
    def work(x, q, squares, first, stripes, n, split, transposed):
        """Split as ``split_samples`` does; square i of stripe s goes to place i STRIPES + s.

        ``transposed`` is memory for one of them.
        """
        for i in range(squares):
            for s in range(stripes):
                transpose_square(x, ((q + i) * x.shape[1] + (first + s) * SIDE) * SIDE, SIDE, transposed)
                rows = min(n - (first + s) * SIDE, SIDE)
                split_square(transposed, 0, SIDE, SIDE, rows, split, (i * STRIPES + s) * size, size)

    return work


@cache
def split_gradients(parts):
    """The kernel that splits dz."""
    split_square, size = split_pairs(parts), split_size(parts)

    @jit(refcount=False)
    def work(dz, left, panels, n, split, factor):
        """Split all stripes of dz, panel by panel, for ``panels`` panels from ``left`` on."""
        stripes = -(-n // SIDE)
        for p in range(panels):
            for s in range(stripes):
                at = ((left + p) * dz.shape[1] + s * SIDE) * SIDE
                to = (p * stripes + s) * size
                split_square(dz, at, SIDE, n - s * SIDE, SIDE, split, to, size, factor)

    return work


@cache
def split_weights(parts):
    """The kernel that splits weights."""
    split_square, size = split_pairs(parts), split_size(parts)

    @jit(refcount=False)
    def work(weight, start, squares, split, to, factor):
        """Split some squares of weights below each other."""
        for i in range(squares):
            square = start + i * weight.shape[2] * SQUARE
            split_square(weight, square, SIDE, SIDE, SIDE, split, to + i * size, size, factor)

    return work


@cache
def split_weights_piece(parts):
    """The kernel that splits a piece of a square of weights: a job to do beside a product."""
    size = split_size(parts)

    @jit(inline=True, refcount=False)
    def work(i, piece, weight, start, squares, split, to, factor):
        """Split a piece of square i as ``split_weights`` does."""
        if i < squares:
            for row in range(piece * 16 // PIECES, (piece + 1) * 16 // PIECES):
                for half in range(2):
                    at = start + i * weight.shape[2] * SQUARE + row * SIDE + half * 16
                    low = load(weight, at, lanes_of(weight))
                    high = load(weight, at + 16 * SIDE, lanes_of(weight))
                    if factor is not None:
                        low, high = low * factor, high * factor
                    store_split(split, to + i * size + half * HALF + row * 16, low, high, parts)

    return work
