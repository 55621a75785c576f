"""How many threads the kernels use, which of Numba's threading layers runs them, and what a fork leaves.

Importing this module starts nothing and does not import Numba; threads start with the first kernel.

    omp        OpenMP, part of Numba's package on Linux and Windows. A parallel loop starts in 2 us.
    tbb        as quick; used where the loader finds the TBB library (conda; not pip on Linux).
    workqueue  always there; a parallel loop starts in 0.1 ms, and one Python thread may run it at a time.
"""

import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from npnet.kernels.machine.cpus import usable_cpus

__all__ = [
    "OVERSUBSCRIPTION",
    "SPINS",
    "Team",
    "ThreadingLayer",
    "get_threads",
    "one_blas_thread",
    "run",
    "set_threads",
    "start",
    "threading_layer",
]

OVERSUBSCRIPTION = 4  # threads per core that OpenMP may be asked for; more is taken for a slip
# Turns an idle OpenMP thread waits in before it sleeps: 0.3 ms, the Python between two kernels and more. With
# less, Linux may keep waking both of two threads on one CPU: when either waits, the other runs, and nothing
# shows that the second CPU is needed.
SPINS = "20000"


class ThreadingLayer(NamedTuple):
    """A threading layer of Numba, and why it is the one in use."""

    name: str
    reason: str


class Team(NamedTuple):
    """The threads of this process, once started."""

    layer: ThreadingLayer
    most: int
    get_count: Callable[[], int]  # how many threads Numba would use for the calling Python thread
    set_count: Callable[[int], None]
    takes_turns: bool


_team: Team | None = None
_chosen: int | None = None
_forked = False  # in a child of a process whose OpenMP threads had started
_starting = threading.Lock()
_blas = threading.Lock()
_one_thread = ExitStack()  # how NumPy's BLAS gets its threads back, while blocks keep them
_blocks = 0
_turn = threading.Lock()


# --- how many --------------------------------------------------------------------------------------------


def set_threads(threads: int) -> None:
    """Use this many threads in every kernel of this process from now on.

    Results do not depend on it, bit for bit, and it may change in the middle of training. Numba's own
    ``set_num_threads``, which is a matter of one Python thread, is left as it is.

    Parameters
    ----------
    threads
        From 1 to 4 per core under OpenMP, otherwise to NUMBA_NUM_THREADS (by default one per core).

    Raises
    ------
    TypeError
        Not an integer.
    ValueError
        Out of range.
    """
    global _chosen
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"threads must be an integer, got {threads!r} ({type(threads).__name__}).")
    most = _team.most if _team else _most_of_openmp()
    if not 1 <= threads <= most:
        raise ValueError(
            f"threads must be from 1 to {most}, got {threads}. For more, set the environment variable"
            " NUMBA_NUM_THREADS before Python starts."
        )
    _chosen = int(threads)


def get_threads() -> int:
    """Return how many threads a kernel uses.

    Unless ``set_threads`` was called, the smallest of: the CPUs this process may run on, the CPU quota of
    its container rounded up, and the environment variable NUMBA_NUM_THREADS.
    """
    return 1 if _forked else _chosen or _default()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's products take one thread inside the block, in the whole process.

    BLAS wakes its other threads for products that are too small to share. Where another program has their
    core, each product waits for it: a step of a small network took ten times as long. And how many threads
    share a product decides bits.
    """
    global _blocks
    with _blas:
        if _blocks == 0:
            _one_thread.enter_context(_blas_libraries().limit(limits=1))
        _blocks += 1
    try:
        yield
    finally:
        with _blas:
            _blocks -= 1
            if _blocks == 0:
                _one_thread.close()


@cache
def _blas_libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@cache
def _default() -> int:
    return min(usable_cpus(), _numba_num_threads() or sys.maxsize)


def _numba_num_threads() -> int:
    asked = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(asked) if asked.isdigit() else 0


def _most_of_openmp() -> int:
    return max(OVERSUBSCRIPTION * (os.cpu_count() or 1), _numba_num_threads())


def run(kernel: Callable, arguments: tuple) -> Any:
    """Call a parallel kernel so that it uses ``get_threads()`` threads."""
    team = _team or start()
    if _forked:
        _warn_of_fork()
    if not team.takes_turns:
        return _run(team, kernel, arguments)
    with _turn:
        return _run(team, kernel, arguments)


def _run(team: Team, kernel: Callable, arguments: tuple) -> Any:
    wanted, before = get_threads(), team.get_count()
    if wanted == before:
        return kernel(*arguments)
    team.set_count(wanted)
    try:
        return kernel(*arguments)
    finally:
        team.set_count(before)


# --- who runs them ---------------------------------------------------------------------------------------


def threading_layer() -> ThreadingLayer:
    """Return the threading layer in use and why, starting the threads if they have not been."""
    return start().layer


def start() -> Team:
    """Start Numba's threads, once per process."""
    global _team, _chosen
    with _starting:
        if _team is None:
            _team = _start()
            if get_threads() > _team.most:
                _warn(
                    f"{get_threads()} threads were asked for; the {_team.layer.name} threading layer has"
                    f" {_team.most}, which are used. For more, set NUMBA_NUM_THREADS before Python starts."
                )
                _chosen = _team.most
    return _team


def _start() -> Team:
    config: Any = import_module("numba.core.config")
    parallel: Any = import_module("numba.np.ufunc.parallel")
    with _short_spinning():
        parallel._launch_threads()
    name, most = parallel.threading_layer(), config.NUMBA_NUM_THREADS
    if config.THREADING_LAYER == "default":
        reason = f"the first of {', '.join(config.THREADING_LAYER_PRIORITY)} that could be loaded"
    else:
        reason = f"NUMBA_THREADING_LAYER is {config.THREADING_LAYER}"
    if name == "omp":
        most = max(most, _most_of_openmp())
        _link_to_openmp()
    if name == "workqueue":
        _warn(
            f"Numba's threading layer is workqueue ({reason}): each kernel takes 0.1 ms longer, and Python"
            " threads that train at once take turns. Install OpenMP or TBB, or unset NUMBA_THREADING_LAYER."
        )
    layer = ThreadingLayer(name, reason)
    return Team(layer, most, parallel._get_num_threads, parallel._set_num_threads, name == "workqueue")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


@contextmanager
def _short_spinning() -> Iterator[None]:
    """Let OpenMP, which reads its settings when it is loaded, put idle threads to sleep early.

    By default they spin for milliseconds on a CPU that NumPy's threads or another process may need: a loop
    of 30 us then takes 7 ms.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


# --- after a fork ----------------------------------------------------------------------------------------

# Threads do not survive a fork, and Numba's OpenMP layer ends a child that starts a loop. Kernels are
# therefore linked to a function of ours that passes loops on to OpenMP, or, in such a child, runs them.

_passes_on: Any = None  # the pointer to OpenMP in that function
_engine: Any = None  # keeps its machine code in memory


def _link_to_openmp() -> None:
    """Put in place of Numba's parallel_for(task, arguments, counts, ...) the function

    if openmp: openmp(task, arguments, counts, ...)     one thread calls task for each part of the loop
    else:      task(arguments, counts, ...)             a task can do all parts by itself
    """
    global _passes_on, _engine
    import llvmlite.binding as llvm
    from llvmlite import ir

    omppool: Any = import_module("numba.np.ufunc.omppool")
    pointer, size = ir.IntType(8).as_pointer(), ir.IntType(64)
    loop_type = ir.FunctionType(ir.VoidType(), [pointer] * 5 + [size] * 3)
    task_type = ir.FunctionType(ir.VoidType(), [pointer] * 4)
    null = ir.Constant(loop_type.as_pointer(), None)
    module = ir.Module()
    variable = ir.GlobalVariable(module, loop_type.as_pointer(), "npnet_openmp")
    variable.initializer = null
    function = ir.Function(module, loop_type, "npnet_parallel_for")
    builder = ir.IRBuilder(function.append_basic_block())
    openmp = builder.load(variable)
    with builder.if_else(builder.icmp_unsigned("!=", openmp, null)) as (threads, alone):
        with threads:
            builder.call(openmp, function.args)
        with alone:
            task, *arguments = function.args[:5]
            builder.call(builder.bitcast(task, task_type.as_pointer()), arguments)
    builder.ret_void()

    target = llvm.Target.from_default_triple().create_target_machine()
    _engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), target)
    _engine.finalize_object()
    _passes_on = ctypes.c_void_p.from_address(_engine.get_global_value_address("npnet_openmp"))
    _passes_on.value = None if _forked else omppool.parallel_for
    llvm.add_symbol("numba_parallel_for", _engine.get_function_address("npnet_parallel_for"))


def _after_fork() -> None:
    global _forked, _starting, _turn
    _starting, _turn = threading.Lock(), threading.Lock()
    numba = sys.modules.get("numba.np.ufunc.parallel")
    if getattr(numba, "_threading_layer", None) == "omp":
        _forked = True
        if _passes_on is not None:
            _passes_on.value = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def _warn_of_fork() -> None:
    _warn(
        "This process was forked from one whose OpenMP threads had started; its kernels run on one thread,"
        ' with the same results. For all threads use multiprocessing.get_context("spawn").'
    )
