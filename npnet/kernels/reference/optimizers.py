"""The optimizer's step: an update by a rule of single elements, and Muon's orthogonal direction."""

import numpy as np

__all__ = ["NEWTON_SCHULZ", "orthogonalize", "update"]


def update(rule, weight, grad, slots, hyperparameters):
    """weight, *slots <- rule(weight, grad, *slots, *hyperparameters), in place.

    ``rule`` is an optimizer's function of ``rules``, ``slots`` its memory: arrays of the weight's shape.
    """
    for array, value in zip((weight, *slots), rule(weight, grad, *slots, *hyperparameters), strict=True):
        array[...] = value


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's: they raise small singular values fastest


def orthogonalize(matrices, steps):
    """U V' (D, M) of each matrix = U S V', nearly: the singular values end between 0.7 and 1.2, not at 1.

    One step is x <- a x + b (x x') x + c (x x')^2 x. It keeps U and V and turns each singular value s into
    a s + b s^3 + c s^5, which drives all of them towards 1 if none is above it to begin with.
    """
    return [_orthogonalized(matrix, steps) for matrix in matrices]


def _orthogonalized(matrix, steps):
    a, b, c = NEWTON_SCHULZ
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(steps):
        square = x.T @ x
        x = a * x + x @ (b * square + c * square @ square)
    return x
