"""What is done with the sums of a convolution while they are at hand: scale, bias, a rule, pooling.

A kernel that multiplies is compiled once; what writes its results is compiled for each rule and called by its
address, once for a panel of filters of each task.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import from_dtype, types
from numba.np.unsafe.ndarray import to_fixed_tuple

from npnet.kernels import rules
from npnet.kernels.machine.jit import jit
from npnet.kernels.vectors.memory import load, store

__all__ = ["PLAIN", "Epilogue", "applied", "flat", "outputs_of", "type_of"]


class Epilogue(NamedTuple):
    """What a convolution applies to its sums before it writes them: y = rule(scale x * W + b).

    Attributes
    ----------
    rule
        A function of ``kernels.rules``: y = rule(u, *constants) with u = scale x * W + b; with ``reads`` it
        is the derivative of an activation, y = rule(u, beside, *constants).
    constants
        Further arguments of the rule.
    beside
        An array of the output's shape. It is read with ``reads``; otherwise u is written there. None:
        neither.
    reads
        Whether ``beside`` is the rule's second argument.
    scale
        A number for each filter. None: 1.
    pool
        "sums": y is the rule of the largest sum x * W under each window of 2 x 2; "results": y is the largest
        result of the rule. None: no pooling.
    taken
        int32, of the shape of y: under which of its window's taps the largest was. None: not written.
    """

    rule: Callable[..., Any] = rules.linear
    constants: tuple[float, ...] = ()
    beside: np.ndarray | None = None
    reads: bool = False
    scale: np.ndarray | None = None
    pool: Literal["sums", "results"] | None = None
    taken: np.ndarray | None = None

    @property
    def kind(self) -> "Kind":
        """What the operation that writes the results is compiled for."""
        writes = self.beside is not None and not self.reads
        numbers, taken = len(self.constants), self.taken is not None
        return Kind(self.rule, numbers, self.reads, writes, self.scale is not None, self.pool, taken)


class Kind(NamedTuple):
    """Which epilogue, without its arrays and numbers: what it reads beside, writes beside, scales, and takes.

    ``constants`` is how many the rule has; ``takes`` whether ``taken`` is written.
    """

    rule: Callable[..., Any]
    constants: int
    reads: bool
    writes: bool
    scales: bool
    pool: str | None
    takes: bool


PLAIN = Epilogue()
NO_TAPS = np.empty(0, np.int32)


@cache
def applied(rule, count, reads, writes, scales):
    """The kernel (sums, affine, beside, at, left, constants) -> what is written of a register of sums.

    ``affine`` are the registers of scale and bias.
    """

    @jit(inline=True)
    def apply(sums, affine, beside, at, left, constants):
        scale, bias = affine
        numbers = sums * scale + bias if scales else sums + bias
        if writes:
            store(beside, at, left, numbers)
        if reads:
            return rule(numbers, load(beside, at, left), *to_fixed_tuple(constants, count))
        return rule(numbers, *to_fixed_tuple(constants, count))

    return apply


@cache
def type_of(dtype):
    """The type of numbers in a row."""
    return types.Array(from_dtype(dtype), 1, "C")


@cache
def outputs_of(dtype):
    """The type of what ``flat`` returns."""
    numbers, taps, constants = map(type_of, (dtype, np.dtype(np.int32), np.dtype(np.float64)))
    return types.Tuple((numbers, numbers, taps, numbers, constants))


def flat(epilogue, y):
    """y, what is beside it, the taps, the scales and the constants, as the operations take them."""
    nothing = y.reshape(-1)
    return (
        nothing,
        nothing if epilogue.beside is None else epilogue.beside.reshape(-1),
        NO_TAPS if epilogue.taken is None else epilogue.taken.reshape(-1),
        nothing if epilogue.scale is None else epilogue.scale,
        np.array(epilogue.constants, np.float64),
    )
