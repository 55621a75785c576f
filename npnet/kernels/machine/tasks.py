"""Tasks that the threads of one parallel loop share out, phase after phase.

The tasks of a phase are numbered. Each thread begins with a stretch of its own, the same one in every phase,
so that it finds in its cache what it wrote before; then it helps the others, so that none waits for one that
was delayed. Before a phase that needs another one's results they wait until all its tasks are done. Every
task that is waited for has been taken by a thread that is running: waiting ends with any number of threads,
even if they run in turns.

A ``team`` is (counters, this thread's number, how many threads there are).
"""

import os

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnet.kernels.machine.jit import jit

__all__ = [
    "LINE", "done", "even_parts", "new_counters", "shrinking_part", "shrinking_parts", "stretch", "take",
    "wait",
]  # fmt: skip

SPINS = 60_000  # reads of a counter before a waiting thread sleeps: some 50 microseconds
SLEEP = 20  # microseconds
LINE = 8  # int64 numbers in a cache line: counters on lines of their own do not disturb each other


@jit
def new_counters(phases, threads):
    """Counters of tasks taken and done."""
    return np.zeros(phases * (threads + 1) * LINE, np.int64)


@jit
def take(team, phase, tasks):
    """Return the number of a task of the phase that nobody has taken; ``tasks`` if there is none left."""
    counters, thread, threads = team
    for i in range(threads):
        owner = (thread + i) % threads
        first, end = stretch(owner, threads, tasks)
        task = first + _add(counters, (phase * (threads + 1) + owner) * LINE)
        if task < end:
            return task
    return tasks


@jit
def done(team, phase):
    """Say that one task of the phase is done."""
    counters, _, threads = team
    _add(counters, (phase * (threads + 1) + threads) * LINE)


@jit
def wait(team, phase, tasks):
    """Return when all ``tasks`` of the phase are done.

    A thread that has spun for long sleeps between two reads: the one it waits for may need this one's core.
    """
    counters, _, threads = team
    spins = 0
    while _read(counters, (phase * (threads + 1) + threads) * LINE) < tasks:
        spins += 1
        if spins > SPINS:
            _sleep()


@jit
def even_parts(n, most, threads):
    """Return into how many parts to cut n things, of at most ``most``, so that each thread gets as many."""
    return min(n, threads * -(-n // (threads * most)))


@jit
def stretch(i, parts, n):
    """Return where part i of n things begins and ends: parts are neighbours, as equal as can be."""
    return i * n // parts, (i + 1) * n // parts


@jit
def shrinking_parts(n, most, threads):
    """Return into how many parts to cut n things, for guided scheduling.

    Each part is half of what its thread has left, and at most ``most``. The last parts are small, so that no
    thread waits long for another, however different their speeds are.
    """
    left, parts = -(-n // threads), 0
    while left > 0:
        left -= min(most, -(-left // 2))
        parts += 1
    return parts * threads


@jit
def shrinking_part(i, parts, n, most, threads):
    """Return where part i of the ``shrinking_parts`` of n things begins and ends."""
    own = parts // threads
    begin, last = stretch(i // own, threads, n)
    for _ in range(i % own):
        begin += min(most, -(-(last - begin) // 2))
    return begin, begin + min(most, -(-(last - begin) // 2))


def _place(context, builder, signature, arguments):
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.gep(data, [arguments[1]])


@intrinsic
def _sleep(typing_context):
    """Sleep for SLEEP microseconds; on Windows, whose C library has no usleep, return at once."""

    def emit(context, builder, signature, arguments):
        if os.name != "nt":
            kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
            usleep = cgutils.get_or_insert_function(builder.module, kind, "usleep")
            builder.call(usleep, [ir.IntType(32)(SLEEP)])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def _add(typing_context, counters, position):
    """Add one to a counter and return what it was; who reads it then also sees what was written before."""

    def emit(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments)
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "release")

    return types.intp(counters, types.intp), emit


@intrinsic
def _read(typing_context, counters, position):
    def emit(context, builder, signature, arguments):
        return builder.load_atomic(_place(context, builder, signature, arguments), "acquire", 8)

    return types.intp(counters, types.intp), emit
