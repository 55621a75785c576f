"""The processes that train one model together, on MPI: what they send each other, and how they end together.

A program that nobody distributes is one process, ``Processes()``, and MPI is not even imported. Everything is
sent point to point, so whoever waits knows for whom, can be interrupted by Ctrl-C, and says so after a while.
"""

import atexit
import io
import json
import os
import platform
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TextIO

import numpy as np

__all__ = [
    "OtherMPIError", "OutOfStepError", "Prefixed", "Processes", "announced", "announced_rank", "group",
    "join", "say", "tell", "train_together", "world",
]  # fmt: skip

PATIENCE = 120.0  # seconds after which a process that waits says for whom
EAGER = 0.03  # seconds for which it asks without a pause: MPI moves long messages only while it is asked
PAUSE = 5e-5  # seconds between two questions from then on
LEAVING, FAILING, REPORTED = 1, 2, 3  # tags of endings: at the program's end, of a fault, once it is printed
TAGS = 30_000  # MPI guarantees tags up to 32,767
MOST_TEXT = 300  # characters of an error that a message repeats
GRACE = 0.5  # seconds in which processes that fail alike are expected to do so, and messages to arrive

# Who starts processes, and the variables in which it says how many there are and which one this is: Open MPI;
# MPICH and its relatives, and Slurm on their behalf; Slurm.
STARTERS = (
    ("mpiexec", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)


class OtherMPIError(RuntimeError):
    """mpiexec and mpi4py belong to different MPIs: each process would train alone."""


class OutOfStepError(RuntimeError):
    """The processes do not do the same: a message is not the one that is waited for, or will never come."""

    def __init__(self, what: str):
        super().__init__(
            f"The processes do not do the same: {what}. All must call fit and train_on_batch, with the same"
            " arguments, and callbacks must come to the same decisions."
        )


def pause(seconds: float) -> None:
    """Let other processes have the CPU, which may be those that are waited for."""
    if seconds or not hasattr(os, "sched_yield"):
        time.sleep(seconds)
    else:
        os.sched_yield()


class Processes:
    """The processes of one training.

    Parameters
    ----------
    communicator
        Of mpi4py; None for a process alone.

    Attributes
    ----------
    rank, size
        The number of this process, from 0, and how many there are.
    others
        The numbers of the other processes. Each begins with its successor, so that they do not all send to
        one at a time.
    hosts
        The name of each process's machine.
    pids
        The number that its system knows each process by.
    resume
        What to do after a failure or a stop, for the message about it.
    """

    def __init__(self, communicator: Any = None):
        self.communicator = communicator
        if communicator is not None:
            from mpi4py import MPI

            self.mpi, self.endings = MPI, communicator.Dup()
        self.exchanging = False
        self.rank: int = 0 if communicator is None else communicator.rank
        self.size: int = 1 if communicator is None else communicator.size
        self.others = [(self.rank + distance) % self.size for distance in range(1, self.size)]
        self.resume = ""
        self.sent = 0  # how many exchanges there have been
        self.hosts = [text.decode() for text in self.gather_bytes(platform.node().encode())]
        self.pids = self.gather_values(os.getpid())
        if self.size > 1:
            self._random = np.random.default_rng(self.broadcast(secrets.randbits(64)))

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """Return "rank 1 of 4 on node7"."""
        return self.names[self.rank]

    @property
    def names(self) -> list[str]:
        """Return the names of all of them."""
        return [f"rank {rank} of {self.size} on {host}" for rank, host in enumerate(self.hosts)]

    @property
    def machines(self) -> list[str]:
        """Return "2 on node7 (PID 311, 312)" for each machine: who was killed is named by its PID."""
        pids: dict[str, list[int]] = {}
        for host, pid in zip(self.hosts, self.pids, strict=True):
            pids.setdefault(host, []).append(pid)
        return [f"{len(those)} on {host} (PID {', '.join(map(str, those))})" for host, those in pids.items()]

    def random_seed(self) -> int:
        """Return a random number, the same on all processes if each asks as often."""
        return secrets.randbits(32) if self.size == 1 else int(self._random.integers(2**32))

    # --- sending --------------------------------------------------------------------------------------------

    def exchange(self, outgoing: Sequence[np.ndarray], incoming: Sequence[np.ndarray]) -> None:
        """Send ``outgoing[q]`` to process q and receive from it ``incoming[q]``; all contiguous."""
        if incoming[self.rank] is not outgoing[self.rank]:
            incoming[self.rank][...] = outgoing[self.rank]
        if self.size == 1:
            return
        tag, self.sent, self.exchanging = self.sent % TAGS, self.sent + 1, True
        send = self.communicator.Isend
        under_way = [
            (other, send(outgoing[other], other, tag)) for other in self.others if outgoing[other].size
        ]
        missing = [other for other in self.others if incoming[other].size]
        began = told = looked = time.monotonic()
        gone: set[int] = set()
        while True:
            arrived = {other: self._receive(other, tag, incoming[other]) for other in missing}
            missing = [other for other, request in arrived.items() if request is None]
            under_way += [(other, request) for other, request in arrived.items() if request is not None]
            under_way = [(other, request) for other, request in under_way if not request.Test()]
            if not (missing or under_way):
                self.exchanging = False
                return
            now = time.monotonic()
            pause(PAUSE if now - began > EAGER else 0)
            if now - looked > GRACE:
                late, looked = {*missing, *(other for other, _ in under_way)}, now
                if gone & late:
                    rank = min(gone & late)
                    raise OutOfStepError(f"rank {rank} on {self.hosts[rank]} has ended, others wait for it")
                gone = {other for other in late if self.endings.Iprobe(other, LEAVING)}
                if now - told > PATIENCE:
                    told = now
                    self._say_who_is_late(late, now - began)

    def _receive(self, other: int, tag: int, array: np.ndarray) -> Any:
        """Begin to receive a message if it has come; return MPI's request, None if it has not.

        Its size is looked at first: MPI itself may crash where a message is longer than its place.
        """
        status = self.mpi.Status()
        message = self.communicator.Improbe(other, tag, status)
        if message is None:
            return None
        size = status.Get_count(self.mpi.BYTE)
        if size != array.nbytes:
            where = f"rank {other} on {self.hosts[other]} sends {size} bytes where {self.name}"
            raise OutOfStepError(f"{where} expects {array.nbytes}")
        return message.Irecv(array)

    def _say_who_is_late(self, late: set[int], seconds: float) -> None:
        """Print who is waited for, in the lowest of the processes that wait."""
        if all(rank in late for rank in range(self.rank)):
            named = ", ".join(f"rank {rank} on {self.hosts[rank]}" for rank in sorted(late))
            say(f"npnet: {self.name} has been waiting for {seconds:.0f} s, for {named}.")

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Return the arrays of all processes, each of this one's shape and dtype, along a new first axis."""
        flat = np.ascontiguousarray(array).reshape(-1)
        all_of_them = np.empty((self.size, flat.size), flat.dtype)
        self.exchange([flat] * self.size, list(all_of_them))
        return all_of_them.reshape(self.size, *np.shape(array))

    def gather_parts(self, part: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """Return the parts of all processes one after the other; process q has ``rows[q]`` rows of it."""
        whole = np.empty((sum(rows), *part.shape[1:]), part.dtype)
        part = np.ascontiguousarray(part)
        self.exchange([part] * self.size, np.split(whole, np.cumsum(rows)[:-1]))
        return whole

    def gather_bytes(self, text: bytes) -> list[bytes]:
        """Return what each process has."""
        sizes = self.gather(np.array(len(text)))
        incoming = [np.empty(size, np.uint8) for size in sizes]
        self.exchange([np.frombuffer(text, np.uint8)] * self.size, incoming)
        return [array.tobytes() for array in incoming]

    def gather_values(self, value: Any) -> list[Any]:
        """Return what each process has, of what JSON can hold."""
        return [json.loads(text) for text in self.gather_bytes(json.dumps(value, default=str).encode())]

    def broadcast(self, value: Any) -> Any:
        """Return what the first process has, of what JSON can hold."""
        return self.gather_values(value if self.first else None)[0]

    def broadcast_bytes(self, text: bytes) -> bytes:
        """Return what the first process has."""
        return self.gather_bytes(text if self.first else b"")[0]

    def largest(self, number: int) -> int:
        """Return the largest of the processes' numbers."""
        return number if self.size == 1 else int(self.gather(np.array(number)).max())

    # --- ending ---------------------------------------------------------------------------------------------

    def end(self, code: int, report: Callable[[], None]) -> NoReturn:
        """End all processes with this exit code.

        Where all of them end, as this one does, the first reports it; otherwise the lowest of those that fail
        at about the same time, perhaps because one of them did.
        """
        failing = self._tell_others(FAILING)
        # While something is under way, MPI's own end would wait for it.
        all_are_here = None if self.exchanging else self.endings.Ibarrier()
        together = lower_fails = False
        deadline = time.monotonic() + GRACE
        while not together and time.monotonic() < deadline:
            lower_fails = lower_fails or self._has_told(FAILING)
            together = all_are_here is not None and bool(all_are_here.Test())
            pause(PAUSE)
        if together:
            for other in self.others:
                self.endings.Recv(np.empty(0), other, FAILING)
            self.mpi.Request.Waitall(failing)
            if self.first:
                report()
            raise SystemExit(code)
        if not lower_fails:
            report()
            self._tell_others(REPORTED)
        while lower_fails and time.monotonic() < deadline + 10 * GRACE and not self._has_told(REPORTED):
            pause(PAUSE)
        self.abort(code)  # all that fail do it at once: MPI then ends with this code
        raise SystemExit(code)

    def _tell_others(self, tag: int) -> list[Any]:
        """Send every other process an empty message of an ending; return what MPI has under way."""
        return [self.endings.Isend(np.empty(0), other, tag) for other in self.others]

    def _has_told(self, tag: int) -> bool:
        """Whether a process with a lower number has sent one."""
        return any(self.endings.Iprobe(rank, tag) for rank in range(self.rank))

    def stop(self, message: str, code: int) -> NoReturn:
        """Print why this process ends, and end all of them with this exit code."""
        self.end(code, lambda: say(message))

    def leave(self) -> None:
        """Tell the others that this process has ended, so that none waits for it for ever, and wait for them.

        MPI's own end would wait, too, but say nothing.
        """
        waiting = self._tell_others(LEAVING)
        waiting += [self.endings.Irecv(np.empty(0), other, LEAVING) for other in self.others]
        while not self.mpi.Request.Testall(waiting):
            pause(PAUSE)

    def abort(self, code: int) -> None:
        """End the other processes, which do not know that they should."""
        sys.stdout.flush()
        self.communicator.Abort(code)

    def failure(self, reason: str) -> str:
        """Return the message about what happened in this process and ends all."""
        return f"npnet: {self.name}: {reason.rstrip('.')}. The other processes are stopped. {self.resume}"


_world: Processes | None = None  # those that mpiexec started, once asked for
_group: Processes | None = None  # those that train together; None for each alone


@cache
def _alone() -> Processes:
    return Processes()


def world() -> Processes:
    """Return the processes that were started together, as far as this one has joined them."""
    return _world or _alone()


def group() -> Processes:
    """Return the processes that train together: this one alone unless a distribution is set."""
    return _group or _alone()


def train_together(together: bool) -> None:
    """Let ``group`` return all processes of the world, or this one alone."""
    global _group
    _group = _world if together else None


def _announcement() -> tuple[str, int, int]:
    """Return who started this process, how many it says there are, and which one this is."""
    for starter, size, rank in STARTERS:
        if os.environ.get(size, "").isdigit():
            return starter, int(os.environ[size]), int(os.environ.get(rank, "0"))
    return "", 1, 0


def announced() -> int:
    """Return how many processes whoever started this one says there are."""
    return _announcement()[1]


def announced_rank() -> int:
    """Return which of them this one is, by the same source."""
    return _announcement()[2]


def join() -> Processes:
    """Find the other processes that mpiexec started; from now on one that fails ends all.

    Raises
    ------
    ImportError
        Without mpi4py, or an MPI that it can load.
    OtherMPIError
        If mpiexec belongs to another MPI than mpi4py's: each process would train alone.
    """
    global _world
    if _world is None and announced() == 1:
        return _alone()
    if _world is None:
        with _waiting_for_all():
            communicator = _communicator()
        _world = Processes(communicator)
        sys.excepthook = _end_all
        atexit.register(_world.leave)  # before MPI's own end, which waits for the others
    return _world


# While MPI waits for all to join, Python does not run: this program, beside it, says so.
WATCH = """
import sys, threading
message, patience = sys.argv[1], float(sys.argv[2])
joining = threading.Thread(target=sys.stdin.read, daemon=True)
joining.start()
seconds = 0
while joining.join(patience) or joining.is_alive():
    seconds += patience
    print(message.format(seconds=round(seconds)), file=sys.stderr, flush=True)
"""


@contextmanager
def _waiting_for_all() -> Iterator[None]:
    """Wait in this block until all processes join: say so after a while, and let signals end this one."""
    import subprocess

    _, size, rank = _announcement()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    message = (
        f"npnet: rank {rank} of {size} on {platform.node()} has been waiting for {{seconds}} s, for all to"
        " join: each must call npnet.distribution.set_distribution. Has one of them ended?"
    )
    watch = None
    if rank < 2:  # the first, and another one if it is the first that does not come
        command = [sys.executable, "-ISc", WATCH, message, str(PATIENCE)]
        watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        if watch is not None:
            watch.kill()
            watch.communicate()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _communicator() -> Any:
    starter, size, _ = _announcement()
    lacks = f"{starter} started {size} processes, but without mpi4py each would train alone:"
    try:
        import mpi4py

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True  # so that the library can be named first
        from mpi4py import MPI
    except ImportError:
        raise ImportError(f"{lacks} pip install 'npnet[mpi]'") from None
    except RuntimeError as error:  # no libmpi
        raise ImportError(f"{lacks} it finds no MPI. {str(error).splitlines()[0]}") from None
    library = " ".join(MPI.Get_library_version().split(",")[0].split("\n")[0].replace("Version:", "").split())
    remedy = f"Use the mpiexec of that MPI{_beside_python()}."
    if starter == "srun":
        remedy = "Tell srun the --mpi=... that it goes with: srun --mpi=list."
    mixed = (
        f"{starter} started {size} processes, but it belongs to another MPI than mpi4py, which uses"
        f" {library}: each would train alone. {remedy}"
    )
    if "OMPI_COMM_WORLD_SIZE" in os.environ and not library.startswith("Open MPI"):
        raise OtherMPIError(mixed)
    if not MPI.Is_initialized():
        MPI.Init_thread(MPI.THREAD_SERIALIZED)
    if MPI.COMM_WORLD.size != size:
        raise OtherMPIError(mixed)
    return MPI.COMM_WORLD.Dup()


def _beside_python() -> str:
    path = Path(sys.executable).with_name("mpiexec")
    return f", {path}" if path.exists() else ""


def _end_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an exception that nobody caught, and end all processes, which would wait for this one."""
    group = _world
    if group is None:  # it was the search for the others that failed
        sys.__excepthook__(kind, error, trace)
        return

    def report() -> None:
        sys.__excepthook__(kind, error, trace)
        first_line = str(error).strip().partition("\n")[0][:MOST_TEXT]
        say(group.failure(f"{kind.__name__}: {first_line}" if first_line else kind.__name__))

    group.end(130 if issubclass(kind, KeyboardInterrupt) else 1, report)


class Prefixed(io.TextIOBase):
    """A stream whose lines begin with the number of this process, each written in one piece."""

    def __init__(self, stream: TextIO):
        self.stream, self.line = stream, ""

    def write(self, text: str) -> int:
        """Write the lines that are whole."""
        *whole, self.line = (self.line + text).split("\n")
        self.stream.write("".join(f"[{announced_rank()}] {line}\n" for line in whole))
        return len(text)

    def flush(self) -> None:
        """Write what is there."""
        self.stream.flush()


def tell(message: object) -> None:
    """Print a line, in the first of the processes that train together."""
    if group().first:
        print(message)


def say(message: str) -> None:
    """Print a line on standard error in one piece, so that lines of several processes do not mix."""
    sys.stderr.write(message.rstrip() + "\n")
    sys.stderr.flush()
