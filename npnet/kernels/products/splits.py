"""Blocks of panels and squares, split for the matrix unit: what ``matrix_unit.py`` multiplies.

``layouts.py`` says how matrices lie, ``amx.py`` what a block is when it has been split.
"""

from npnet.kernels.machine.jit import jit
from npnet.kernels.products.amx import (
    BLOCK,
    PIECES,
    SPLIT,
    TILE,
    split_pairs,
    split_rows,
    store_split,
    turn_block,
)
from npnet.kernels.vectors.memory import lanes_of, load

SQUARE = BLOCK * BLOCK
SQUARES = 4  # of weights, used at a time: the parts of four, 25 KB, fit the L1 cache
HEIGHT = 16  # blocks of samples, used at a time: the parts of 16 by 4, 0.4 MB, fit the L2 cache


@jit(refcount=False)
def split_samples(x, q, squares, first, blocks, n, split):
    """Split ``blocks`` blocks of samples from the first on, each of some panels of x from q on."""
    for b in range(blocks):
        for i in range(squares):
            at = ((q + i) * x.shape[1] + (first + b) * BLOCK) * BLOCK
            rows = n - (first + b) * BLOCK
            split_rows(x, at, BLOCK, rows, BLOCK, split, (b * SQUARES + i) * SPLIT, SPLIT)


@jit(refcount=False)
def split_samples_turned(x, q, squares, first, blocks, n, split, turned):
    """Split some panels of x from q on turned over, each HEIGHT blocks of samples apart."""
    for i in range(squares):
        for b in range(blocks):
            turn_block(x, ((q + i) * x.shape[1] + (first + b) * BLOCK) * BLOCK, BLOCK, turned)
            rows = min(n - (first + b) * BLOCK, BLOCK)
            split_rows(turned, 0, BLOCK, BLOCK, rows, split, (i * HEIGHT + b) * SPLIT, SPLIT)


@jit(refcount=False)
def split_deltas(dz, left, panels, n, split):
    """Split all blocks of some panels of what flows back, panel by panel."""
    blocks = -(-n // BLOCK)
    for p in range(panels):
        for b in range(blocks):
            at = ((left + p) * dz.shape[1] + b * BLOCK) * BLOCK
            split_pairs(dz, at, BLOCK, n - b * BLOCK, BLOCK, split, (p * blocks + b) * SPLIT, SPLIT)


@jit(inline=True, refcount=False)
def split_part(i, piece, weight, here, squares, split, at):
    """A part of ``split_weights``, of square i: a job to do beside a product."""
    if i < squares:
        for row in range(piece * 16 // PIECES, (piece + 1) * 16 // PIECES):
            for half in range(2):
                start = here + i * weight.shape[2] * SQUARE + row * BLOCK + half * 16
                low = load(weight, start, lanes_of(weight))
                high = load(weight, start + 16 * BLOCK, lanes_of(weight))
                store_split(split, at + i * SPLIT + half * TILE + row * 16, low, high)


@jit(refcount=False)
def split_weights(weight, here, squares, split, at):
    """Split some squares of weights below each other."""
    for i in range(squares):
        start = here + i * weight.shape[2] * SQUARE
        split_pairs(weight, start, BLOCK, BLOCK, BLOCK, split, at + i * SPLIT, SPLIT)
