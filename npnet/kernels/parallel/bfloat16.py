"""Numbers rounded to bfloat16, and products of such numbers.

Compiled, rounding takes one pass over memory, where NumPy takes several. A matrix unit needs none: what it
multiplies is rounded on the way into its registers.
"""

import numpy as np

from npnet.kernels import reference
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.parallel.arrays import BLOCK, SERIAL, flat, is_for_numpy, plain
from npnet.kernels.products import blocked

__all__ = ["multiply_bfloat16", "to_bfloat16"]


def multiply_bfloat16(a, b):
    """C = A B of operands that are rounded, summed in float32."""
    a, b = _laid_out(a), _laid_out(b)
    if blocked.suits_bfloat16(len(a), b.shape[1], len(b), a.dtype):
        return blocked.multiply_bfloat16(a, b)
    return blocked.multiply(_rounded(a), _rounded(b))


def _laid_out(matrix):
    """The matrix, copied unless it or its transpose lies in order."""
    return plain(matrix.T).T if matrix.T.flags.c_contiguous else plain(matrix)


def _rounded(matrix):
    """The matrix in bfloat16, laid out as it is."""
    return to_bfloat16(matrix) if matrix.flags.c_contiguous else to_bfloat16(matrix.T).T


def to_bfloat16(x):
    """y = x rounded to the nearest bfloat16."""
    if is_for_numpy("to_bfloat16", x) or x.dtype != np.float32:
        return reference.to_bfloat16(x)
    y = np.empty(x.shape, np.float32)
    _round.below(SERIAL, y.size)(flat(x).view(np.uint32), y.reshape(-1).view(np.uint32))
    return y


@jit(parallel=True)
def _round(bits, out):
    threads = serial_below(SERIAL, out.size)
    parallel_for(-(-out.size // BLOCK), _round_block, (bits, out))
    set_num_threads(threads)


@jit(refcount=False)
def _round_block(block, bits, out):
    first = block * BLOCK
    for i in range(min(out.size - first, BLOCK)):
        place = np.uint64(first + i)  # unsigned: no index is tried for counting from the end
        number = bits[place]
        nearest = number + np.uint32(0x7FFF) + ((number >> np.uint32(16)) & np.uint32(1))
        is_nan = number & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000)
        out[place] = (number | np.uint32(0x00400000) if is_nan else nearest) & np.uint32(0xFFFF0000)
