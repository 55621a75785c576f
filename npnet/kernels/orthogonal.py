"""The orthogonal part of a matrix from few large products."""

import numpy as np

from npnet.kernels.product import multiply
from npnet.kernels.reference import NEWTON_SCHULZ


def orthogonalize(matrix, steps):
    """U V' of matrix = U S V', nearly.

    Each step multiplies x by p = a + b x'x + c (x'x)^2 and so x'x by p twice: all is done on the small square
    x'x, and x itself multiplied once, by the product of all p.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return np.ascontiguousarray(orthogonalize(np.ascontiguousarray(matrix.T), steps).T)
    a, b, c = NEWTON_SCHULZ
    x = np.require(matrix / (np.linalg.norm(matrix) + 1e-7), matrix.dtype, ("C", "W"))
    square, product = multiply(x.T, x), None
    diagonal = np.arange(len(square))
    for step in range(steps):
        p = b * square + c * multiply(square, square)
        p[diagonal, diagonal] += a
        product = p if product is None else multiply(product, p)
        if step + 1 < steps:
            square = multiply(multiply(square, p), p)
    return multiply(x, product)
