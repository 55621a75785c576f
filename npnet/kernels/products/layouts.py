"""The layouts of fused kernels: matrices in panels, weights in squares.

``panels[p, r, j]`` is row r, column p * W + j of a matrix, with W the columns of a register tile. Activations
(N, D) and what flows back (N, M) have this layout. Weights (D, M) do too, cut into squares of W x W, each
followed by its slots. The tile reads them in each of their roles without copying:

    y  = x W      A = x: rows of a panel         B = W: one panel
    dW = x' dy    A = x: columns of a panel      B = dy: one panel
    dx' = W dy'   A = W: rows of a panel         B = dy', turned over one square at a time

Rows and columns are filled up to whole panels. Weights are zero there and stay so; what the other arrays hold
there is never used.
"""

import numpy as np

from npnet.kernels.products.tiles import width

__all__ = [
    "SPARE_ROWS",
    "aligned_zeros",
    "from_panels",
    "from_squares",
    "panel_rows",
    "panels",
    "squares",
    "to_panels",
    "to_squares",
]

SPARE_ROWS = 8


def aligned_zeros(shape, dtype):
    """An array of zeros on a cache line's boundary."""
    size = int(np.prod(shape))
    memory = np.zeros(size + 64, dtype)
    start = -(memory.ctypes.data // memory.itemsize) % (64 // memory.itemsize)
    return memory[start : start + size].reshape(shape)


def panel_rows(rows, dtype):
    """How many rows a panel has for so many rows of a matrix.

    The rows to spare keep the panels of a large power of two of rows from competing for the same cache sets.
    """
    w = width(dtype)
    return -(-rows // w) * w + SPARE_ROWS


def panels(rows, columns, dtype):
    """An array of zeros for a matrix of this shape."""
    w = width(dtype)
    return aligned_zeros((-(-columns // w), panel_rows(rows, dtype), w), dtype)


def to_panels(matrix, out):
    """Write a matrix (R, C) into panels."""
    (rows, columns), w = matrix.shape, out.shape[2]
    whole = columns // w * w
    split = matrix[:, :whole].reshape(rows, whole // w, w)
    out[: whole // w, :rows] = split.transpose(1, 0, 2)
    if whole < columns:
        out[-1, :rows, : columns - whole] = matrix[:, whole:]


def from_panels(array, rows, columns):
    """Read a matrix (rows, columns) out of panels, as an array of its own."""
    filled = array[:, :rows].transpose(1, 0, 2).reshape(rows, -1)
    return filled[:, :columns].copy()


def squares(rows, columns, slots, dtype):
    """An array of zeros for a weight matrix and its slots: [panel, square, weight or slot, row, column].

    Each square of W x W weights is followed by its slots, so that an update walks through memory in order.
    """
    w = width(dtype)
    return aligned_zeros((-(-columns // w), -(-rows // w), 1 + slots, w, w), dtype)


def to_squares(matrix, out, plane):
    """Write a matrix into one plane of squares: 0 for the weights, 1 and up for the slots."""
    for rows, in_squares in _views(matrix, out, plane):
        in_squares[...] = rows


def from_squares(array, plane, out):
    """Read a matrix out of one plane of squares."""
    for rows, in_squares in _views(out, array, plane):
        rows[...] = in_squares


def _views(matrix, squares, plane):
    """Views of the same numbers in a matrix and in one plane of its squares, which together are all."""
    w = squares.shape[-1]
    (down, rest_down), (across, rest_across) = (divmod(size, w) for size in matrix.shape)
    # All whole squares at once: NumPy goes through them row by row of the matrix where it writes there.
    whole = matrix[: down * w, : across * w].reshape(down, w, across, w)
    yield whole, squares[:across, :down, plane].transpose(1, 2, 0, 3)
    if rest_across:
        right = matrix[: down * w, across * w :].reshape(down, w, rest_across)
        yield right, squares[across, :down, plane, :, :rest_across]
    if rest_down:
        for p, panel in enumerate(squares):
            columns = matrix[down * w :, p * w : (p + 1) * w]
            yield columns, panel[down, plane, :rest_down, : columns.shape[1]]
