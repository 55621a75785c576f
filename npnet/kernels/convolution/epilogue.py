"""What is done with the sums of a convolution while they are at hand: bias, an activation's rule, pooling.

A kernel that multiplies is compiled once; what writes its results is compiled for each rule and called by its
address, once for a panel of filters of each task.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types
from numba.np.unsafe.ndarray import to_fixed_tuple

from npnet.kernels import rules
from npnet.kernels.machine.jit import jit
from npnet.kernels.vectors.memory import load, store

__all__ = ["PLAIN", "Epilogue", "address", "applied", "flat", "types_of"]


class Epilogue(NamedTuple):
    """What a convolution applies to x * W + b before it writes it.

    Attributes
    ----------
    rule
        A function of ``kernels.rules``: y = rule(x * W + b, *constants); with ``reads`` it is the derivative
        of an activation, y = rule(x * W + b, beside, *constants).
    constants
        Further arguments of the rule.
    beside
        An array of the output's shape. It is read with ``reads``; otherwise x * W + b is written there. None:
        neither.
    reads
        Whether ``beside`` is the rule's second argument.
    taken
        int32, of the shape of y: y has the largest number of each window of 2 x 2, and ``taken`` says under
        which of its taps that was. None: no pooling.
    """

    rule: Callable[..., Any] = rules.linear
    constants: tuple[float, ...] = ()
    beside: np.ndarray | None = None
    reads: bool = False
    taken: np.ndarray | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """What ``applied`` compiles for."""
        writes = self.beside is not None and not self.reads
        return self.rule, len(self.constants), self.reads, writes


PLAIN = Epilogue()
NO_TAPS = np.empty(0, np.int32)


@cache
def applied(rule, count, reads, writes):
    """The kernel (numbers, beside, at, left, constants) -> what is written of a register of x * W + b."""

    @jit(inline=True)
    def apply(numbers, beside, at, left, constants):
        if writes:
            store(beside, at, left, numbers)
        if reads:
            return rule(numbers, load(beside, at, left), *to_fixed_tuple(constants, count))
        return rule(numbers, *to_fixed_tuple(constants, count))

    return apply


@cache
def address(operation, *arguments):
    """Where the machine code of an operation lies, for arguments of these types."""
    return operation.address(arguments)


@cache
def types_of(dtype):
    """The types of arrays of numbers and of taps, in a row, as they come before the other arguments."""
    return types.Array(from_dtype(dtype), 1, "C"), types.Array(types.int32, 1, "C")


def flat(epilogue, y):
    """y, what is beside it, the taps and the constants, as the operations take them."""
    nothing = y.reshape(-1)
    return (
        nothing,
        nothing if epilogue.beside is None else epilogue.beside.reshape(-1),
        NO_TAPS if epilogue.taken is None else epilogue.taken.reshape(-1),
        np.array(epilogue.constants, np.float64),
    )
