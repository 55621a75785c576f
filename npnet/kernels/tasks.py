"""Tasks that the threads of one parallel loop share out, phase after phase.

Threads take the tasks of a phase from a counter, so that none waits for one that was delayed. Before a phase
that needs another one's results they wait until all its tasks are done. Every task that is waited for has
been taken by a thread that is running: waiting ends with any number of threads, even if they run in turns.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from npnet.kernels.runtime import compiled

LINE = 8  # int64 numbers in a cache line: counters on lines of their own do not disturb each other


@compiled
def new_counters(phases):
    """Counters of tasks taken and done. Written out: in a parallel kernel np.zeros is a loop over threads."""
    counters = np.empty(phases * 2 * LINE, np.int64)
    for i in range(counters.size):
        counters[i] = 0
    return counters


def _place(context, builder, signature, arguments, offset):
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    position = builder.add(builder.mul(arguments[1], ir.IntType(64)(2 * LINE)), ir.IntType(64)(offset))
    return builder.gep(data, [position])


@intrinsic
def take(typing_context, counters, phase):
    """Return the number of the phase's next task, to each who asks another one."""

    def emit(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments, 0)
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "monotonic")

    return types.intp(counters, types.intp), emit


@intrinsic
def done(typing_context, counters, phase):
    """Say that one task of the phase is done."""

    def emit(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments, LINE)
        builder.atomic_rmw("add", place, ir.IntType(64)(1), "release")
        return context.get_dummy_value()

    return types.void(counters, types.intp), emit


@intrinsic
def _count_of_done(typing_context, counters, phase):
    def emit(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments, LINE)
        return builder.load_atomic(place, "acquire", 8)

    return types.intp(counters, types.intp), emit


@compiled
def wait(counters, phase, tasks):
    """Return when all ``tasks`` of the phase are done."""
    while _count_of_done(counters, phase) < tasks:
        pass
