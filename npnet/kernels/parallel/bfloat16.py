"""Numbers rounded to bfloat16, compiled: one pass over memory, where NumPy takes several."""

import numpy as np

from npnet.kernels import reference
from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.parallel.arrays import BLOCK, SERIAL, flat, is_for_numpy

__all__ = ["to_bfloat16"]


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
