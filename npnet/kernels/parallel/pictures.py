"""Compiled kernels of what comes before a network: pixels moved, and numbers standardised."""

from functools import cache

import numpy as np

from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.vectors.memory import lanes_of, load, load_as, store

__all__ = ["move_pixels", "standardize"]


def move_pixels(x, rows, columns, ways, fill_value):
    """y[n,i,j] = x[n, rows[ways[0,n],i], columns[ways[1,n],j]], ``fill_value`` where an index is -1."""
    x, rows, columns, ways = (
        np.require(array, requirements=("C", "W")) for array in (x, rows, columns, ways)
    )
    y = np.empty_like(x)
    lines = *x.shape[:2], x.shape[2] * x.shape[3]
    _moving(x.shape[3])(x.reshape(lines), rows, columns, ways, x.dtype.type(fill_value), y.reshape(lines))
    return y


def standardize(x, mean, deviation):
    """y = (x - mean) / deviation, column by column, in the dtype of ``mean``."""
    x, mean, deviation = (np.require(array, requirements=("C", "W")) for array in (x, mean, deviation))
    y = np.empty(x.shape, mean.dtype)
    _standardize(x, mean, deviation, y)
    return y


@cache
def _moving(channels):
    """The kernel of ``move_pixels``, for x and y (N, H, W channels): the rows of a picture in one piece."""

    @jit
    def picture(n, x, rows, columns, ways, fill, y):
        width = columns.shape[1]
        sources, across = rows[ways[0, n]], columns[ways[1, n]]
        for i in range(sources.size):
            out = y[n, i]
            if sources[i] < 0:
                out[:] = fill
                continue
            source = x[n, sources[i]]
            for j in range(width):
                at, place = np.uint64(j * channels), np.uint64(max(across[j], 0) * channels)
                for c in range(channels):  # unsigned: no index is tried for counting from the end
                    out[at + np.uint64(c)] = source[place + np.uint64(c)]
            for j in range(width):
                if across[j] < 0:
                    out[j * channels : (j + 1) * channels] = fill

    @jit(parallel=True)
    def move(x, rows, columns, ways, fill, y):
        parallel_for(len(y), picture, (x, rows, columns, ways, fill, y))

    return move


@jit(parallel=True)
def _standardize(x, mean, deviation, y):
    """y = (x - mean) / deviation, column by column, x of any real dtype."""
    parallel_for(len(x), _standardize_row, (x, mean, deviation, y))


@jit
def _standardize_row(n, x, mean, deviation, y):
    columns = x.shape[1]
    for j in range(0, columns, lanes_of(y)):
        left = columns - j
        centered = load_as(y, x, n * columns + j, left) - load(mean, j, left)
        store(y, n * columns + j, left, centered / load(deviation, j, left))
