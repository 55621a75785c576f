"""A helper: a second process that compiles kernels at the same time, into the cache of both.

Numba compiles on one CPU. This process takes the kernels from the front of a list and the helper takes them
from the back. Each claims one by making a file. What the helper has compiled is loaded from the cache: the
same machine code, whoever compiled it. Nothing is lost where a helper fails, ends early or cannot be started:
what is not in the cache in the end is compiled here.
"""

import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from npnet.kernels.machine import announce, cache
from npnet.kernels.machine.cpus import usable_cpus

__all__ = ["Job", "can_help", "compile_all", "expect", "help_out"]

PATIENCE = 120  # seconds for which the helper may go on when nothing else is left to do
# What the helper runs: the same npnet as here, wherever it was found. It ends with this process, whose end of
# the pipe closes, and not at Ctrl-C, which a terminal sends to both.
PROGRAM = """
import pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = pickle.load(sys.stdin.buffer)
from npnet.kernels.machine.helper import help_out
help_out()
"""


class Job(NamedTuple):
    """A kernel to compile.

    Attributes
    ----------
    make
        Returns the kernel; a function of a module, or a partial of one, so that another process can call it.
    arguments
        The types of its arguments.
    """

    make: Callable[[], Any]
    arguments: tuple[Any, ...]

    def compile(self) -> None:
        """Compile the kernel, or load it from the cache."""
        self.make().compile(self.arguments)


_expected: list[Job] = []


def expect(jobs: Sequence[Job]) -> None:
    """Let a helper that is started for other kernels compile these as well, which will be needed later."""
    _expected[:] = jobs


def compile_all(jobs: Sequence[Job]) -> None:
    """Compile kernels, or load them from the cache; where two or more are missing, with a helper."""
    missing = [job for job in jobs if not job.make().is_cached(job.arguments)]
    if len(missing) > 1 and can_help():
        missing += [job for job in _expected if not job.make().is_cached(job.arguments)]
        _expected.clear()
        with announce.waiting(), _helper(missing) as helper:
            if helper is not None:
                _share(missing, *helper)
    for job in _in_turn(jobs):
        job.compile()


def _in_turn(jobs: Sequence[Job]) -> Sequence[Job]:
    """Return the jobs so that each process of MPI begins with another one.

    What the other processes have compiled meanwhile is in the cache, and is loaded.
    """
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return jobs
    first = mpi.COMM_WORLD.rank * len(jobs) // mpi.COMM_WORLD.size
    return [*jobs[first:], *jobs[:first]]


def _share(jobs: list[Job], claims: str, process: subprocess.Popen) -> None:
    """Compile what the helper does not, and wait for what it does."""
    theirs = 0
    for number, job in enumerate(jobs):
        if _claim(claims, number):
            job.compile()
        else:
            theirs += 1
    if theirs:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)


def can_help() -> bool:
    """Whether a helper can be started, has a CPU of its own, and can hand over what it compiles.

    Where several processes do the same already, those of MPI or of a pool, the CPUs have work.
    """
    place = cache.folder()
    return (
        usable_cpus() > 1
        and place is not None
        and os.access(place, os.W_OK)
        and "mpi4py.MPI" not in sys.modules
        and multiprocessing.parent_process() is None
        and Path(sys.executable or "").name.lower().startswith("python")  # else a program has Python inside
    )


def _claim(claims: str, number: int) -> bool:
    """Take a job, unless the other process has."""
    try:
        Path(claims, str(number)).touch(exist_ok=False)
    except OSError:
        return False
    return True


@contextmanager
def _helper(jobs: list[Job]) -> Iterator[tuple[str, subprocess.Popen] | None]:
    """Have a helper during the block; give the folder of claims and the process, or None if it cannot be."""
    with ExitStack() as stack:
        try:
            claims = stack.enter_context(tempfile.TemporaryDirectory(prefix="npnet-"))
            orders = pickle.dumps(sys.path) + pickle.dumps((claims, cache.folder(), jobs))
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows would open one
                )
            )
        except OSError:  # no room for a folder, or for a process: this one compiles everything
            yield None
            return
        assert process.stdin is not None
        try:
            with suppress(OSError):  # it has ended already
                process.stdin.write(orders)
                process.stdin.flush()
            yield claims, process
        finally:
            process.kill()
            with suppress(OSError):  # what could not be written is tried once more
                process.stdin.close()


def help_out() -> None:
    """Be the helper: compile what the process at the other end of the pipe asks for, from the last on."""
    claims, folder, jobs = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_other, daemon=True).start()
    if cache.folder() == folder:  # else options of Numba were set in the other process only
        for number, job in reversed([*enumerate(jobs)]):
            if _claim(claims, number):
                job.compile()
    os._exit(0)  # at once: the other process waits, and LLVM takes a second to tidy up


def _end_with_the_other() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
