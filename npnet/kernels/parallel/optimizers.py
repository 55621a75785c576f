"""The optimizer's step, compiled: an update by a rule of single elements, and Muon's orthogonal direction."""

from functools import cache

import numpy as np

from npnet.kernels import reference
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for_flushing
from npnet.kernels.parallel.arrays import BLOCK, SERIAL, flat, is_for_numpy, is_rule
from npnet.kernels.products.blocked import multiply
from npnet.kernels.reference.optimizers import NEWTON_SCHULZ
from npnet.kernels.vectors.memory import lanes_of, load, load_each, store_each

__all__ = ["orthogonalize", "update", "update_part"]


def update(rule, weight, grad, slots, hyperparameters):
    """weight, *slots <- rule(weight, grad, *slots, *hyperparameters), in place.

    A weight whose mean square is infinite becomes NaN where NumPy keeps it: g / sqrt(v) is compiled to a
    product with a reciprocal root, three times as fast, and that of infinity comes out as NaN.
    """
    if (
        is_for_numpy(rule.__name__, weight)
        or not is_rule(rule)
        or not all(array.flags.c_contiguous for array in (weight, *slots))
    ):
        reference.update(rule, weight, grad, slots, hyperparameters)
        return
    update_part(
        rule, weight.reshape(-1), flat(grad), [slot.reshape(-1) for slot in slots], 1.0, hyperparameters
    )


def update_part(rule, weight, grad, slots, decay, hyperparameters):
    """weight, *slots <- rule(decay weight, grad, *slots, *hyperparameters), in place, of some of the weights.

    Compiled for any number of them: who has which part, and how large a one, changes no bits.
    """
    run = _update_kernel(rule).below(SERIAL, weight.size)
    run(weight, grad, tuple(slots), float(decay), tuple(map(float, hyperparameters)))


@cache
def _update_kernel(rule):
    @jit(refcount=False)
    def block_of(block, weight, grad, slots, decay, hyperparameters):
        for i in range(block * BLOCK, min(weight.size, (block + 1) * BLOCK), lanes_of(weight)):
            left = weight.size - i
            before = (load(weight, i, left) * decay, load(grad, i, left), *load_each(slots, i, left))
            store_each((weight, *slots), i, left, rule(*before, *hyperparameters))

    @jit(parallel=True)
    def kernel(weight, grad, slots, decay, hyperparameters):
        threads = serial_below(SERIAL, weight.size)
        blocks = -(-weight.size // BLOCK)
        parallel_for_flushing(blocks, block_of, (weight, grad, slots, decay, hyperparameters))
        set_num_threads(threads)

    return kernel


def orthogonalize(matrices, steps):
    """U V' of each matrix = U S V', nearly."""
    return [_orthogonalized(matrix, steps) for matrix in matrices]


def _orthogonalized(matrix, steps):
    """U V' of one.

    Each step multiplies x by p = a + b x'x + c (x'x)^2 and so x'x by p twice: all is done on the small square
    x'x, and x itself multiplied once, by the product of all p.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return np.ascontiguousarray(_orthogonalized(np.ascontiguousarray(matrix.T), steps).T)
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
