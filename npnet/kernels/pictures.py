"""Compiled kernels of what comes before a network: pixels moved, and numbers standardised."""

from functools import cache

import numpy as np
from numba import prange

from npnet.kernels.runtime import compiled
from npnet.kernels.vectors import lanes_of, load, load_as, store


def move_pixels(x, rows, columns, fill_value):
    """y[n,i,j] = x[n, rows[n,i], columns[n,j]], ``fill_value`` where an index is -1."""
    x, rows, columns = (np.require(array, requirements=("C", "W")) for array in (x, rows, columns))
    y = np.empty_like(x)
    lines = *x.shape[:2], x.shape[2] * x.shape[3]
    _moving(x.shape[3])(x.reshape(lines), rows, columns, x.dtype.type(fill_value), y.reshape(lines))
    return y


def standardize(x, mean, deviation):
    """y = (x - mean) / deviation, column by column, in the dtype of ``mean``."""
    x, mean, deviation = (np.require(array, requirements=("C", "W")) for array in (x, mean, deviation))
    y = np.empty(x.shape, mean.dtype)
    _standardize(x, mean, deviation, y)
    return y


@cache
def _moving(channels):
    """The kernel y[n,i,j] = x[n, rows[n,i], columns[n,j]], or fill where an index is -1.

    x and y are (N, H, W channels), the rows of a picture in one piece.
    """

    @compiled(parallel=True)
    def move(x, rows, columns, fill, y):
        width = columns.shape[1]
        for n in prange(y.shape[0]):
            places = np.empty(width, np.uint64)  # unsigned: no index is tried for counting from the end
            for j in range(width):
                places[j] = max(columns[n, j], 0) * channels
            for i in range(rows.shape[1]):
                out = y[n, i]
                if rows[n, i] < 0:
                    out[:] = fill
                    continue
                source, k = x[n, rows[n, i]], np.uint64(0)
                for j in range(width):
                    for c in range(channels):
                        out[k + np.uint64(c)] = source[places[j] + np.uint64(c)]
                    k += np.uint64(channels)
                for j in range(width):
                    if columns[n, j] < 0:
                        out[j * channels : (j + 1) * channels] = fill

    return move


@compiled(parallel=True)
def _standardize(x, mean, deviation, y):
    """y = (x - mean) / deviation, column by column, x of any real dtype."""
    columns = x.shape[1]
    for n in prange(x.shape[0]):
        for j in range(0, columns, lanes_of(y)):
            left = columns - j
            centered = load_as(y, x, n * columns + j, left) - load(mean, j, left)
            store(y, n * columns + j, left, centered / load(deviation, j, left))
