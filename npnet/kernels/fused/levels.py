"""Levels: whole numbers times a common factor, as pixels are, which need one part on the matrix unit.

A pixel is one of 256 levels: a byte k, or k / 255 rounded to a float, or 2 k / 255 - 1. As the whole number
k, or 2 k - 255, a bfloat16 holds it exactly, and the factor moves to the other operand of each product:

    y  = x W  = k (factor W)            dW = x' dy = k' (factor dy)

Whether floats are on such levels is found out by looking at all of them, batch by batch: nobody has to say
so, and no array is trusted to stay as it was.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import from_dtype

from npnet.kernels.machine.jit import jit, serial_below, set_num_threads
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.vectors.arithmetic import difference, largest
from npnet.kernels.vectors.memory import fill, lanes_of, load_as
from npnet.kernels.vectors.views import array_at

__all__ = ["Levels", "are_on_levels", "levels_of"]

MOST = 256  # a bfloat16 holds every whole number up to here
PIXEL = 255.0
SERIAL = 1 << 17  # numbers below which waking the other threads costs more than they save
# Of a level: k / 255 in float32 is off by half a unit in its last place, its product with 255 by another.
TOLERANCE = 2.0**-22
# Added to a float32 below 2^22 and taken away again, it leaves the nearest whole number.
SHIFT = 1.5 * 2.0**23


class Levels(NamedTuple):
    """x scale + offset are whole numbers, which times ``factor`` are the samples a network is given."""

    factor: float
    scale: float
    offset: float


def levels_of(dtype, scale, offset):
    """The levels of samples in this dtype, of which a network is given ``scale`` times plus ``offset``.

    Floats that are given as they are may be pixels divided by 255. None where a whole number would not stay
    one.
    """
    if dtype.kind == "f" and (scale, offset) == (1, 0):
        return Levels(1 / PIXEL, PIXEL, 0.0)
    for parts in (1, 2):
        shift = offset / scale * parts if scale else np.inf
        if abs(shift) <= MOST and abs(shift - round(shift)) <= 1e-9:
            return Levels(scale / parts, float(parts), float(round(shift)))
    return None


def are_on_levels(x, index, levels):
    """Whether each of the samples x[index] (N, D) is on levels: an array of booleans.

    ``x`` is C-contiguous; ``index`` holds the numbers of rows.
    """
    if x.dtype.itemsize == 1:
        ends = (0, 1) if x.dtype.kind == "b" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        largest_level = max(abs(end * levels.scale + levels.offset) for end in ends)
        return np.full(index.size, largest_level <= MOST)
    answers = np.empty(index.size, np.bool_)
    work = index.size * x.shape[1]
    kernel = _kernel(x.dtype).below(SERIAL, work)
    kernel(x.ctypes.data, x.shape[1], index, levels.scale, levels.offset, np.empty(0, np.float32), answers)
    return answers


@cache
def _kernel(dtype):
    kind = from_dtype(dtype)

    @jit(refcount=False)
    def look_at(n, address, columns, index, scale, offset, like, answers):
        x = array_at(address, kind, (0, columns))
        highest = fill(like, 0.0)
        for j in range(0, columns, lanes_of(like)):
            value = load_as(like, x, index[n] * columns + j, columns - j) * scale + offset
            level = difference(value + SHIFT, SHIFT)
            is_one = np.abs(difference(value, level)) <= np.abs(level) * TOLERANCE
            highest = np.maximum(highest, np.where(is_one, np.abs(level), np.inf))
        answers[n] = largest(highest) <= MOST

    @jit(parallel=True)
    def kernel(address, columns, index, scale, offset, like, answers):
        threads = serial_below(SERIAL, index.size * columns)
        parallel_for(index.size, look_at, (address, columns, index, scale, offset, like, answers))
        set_num_threads(threads)

    return kernel
