"""Ctrl-C, and SIGTERM where it is asked for, between two steps instead of inside one.

Where several processes train together they stop after the same step, whichever heard of it first.
"""

import _signal  # type: ignore[import-not-found]  # what ``signal`` is made of: see _handling
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from npnet.internal import processes

__all__ = ["Interrupt", "Terminated", "deferred", "immediate", "terminable"]

# Signals that are free have these handlers, which no ``_handling`` installs: its outermost block decides.
_free: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
    signal.SIGINT: signal.default_int_handler
}


class Terminated(KeyboardInterrupt):
    """SIGTERM where ``terminable`` makes it mean what Ctrl-C does."""


class Interrupt:
    """Whether Ctrl-C was pressed since the block began."""

    pending = 0  # the signal's number

    def check(self, before: Callable[[], None] | None = None) -> None:
        """Raise the KeyboardInterrupt that was held back, here or in another process of the training.

        Parameters
        ----------
        before
            What all processes do first, if there is one.
        """
        pending = processes.group().largest(self.pending)
        if pending:
            if before is not None:
                before()
            _leave(pending)


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Hold Ctrl-C back inside the block, so that weights and optimizer are those of a whole step.

    The block calls ``check()`` where it may end; a Ctrl-C after its last ``check()`` is raised when it has
    ended. A second Ctrl-C ends it at once. Where the program handles the signal itself, or outside the main
    thread, nothing changes.
    """
    interrupt = Interrupt()

    def hold(signum: int, frame: FrameType | None) -> None:
        if interrupt.pending:
            _leave(signum)
        interrupt.pending = signum

    with _handling(hold):
        yield interrupt
        interrupt.check()


@contextmanager
def immediate() -> Iterator[None]:
    """Let Ctrl-C end the block at once, ``deferred`` blocks inside it too: for work with nothing to save."""
    with _handling(_leave):
        yield


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM do inside the block what Ctrl-C does, unless the program handles it itself."""
    own = _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not own:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    _free[signal.SIGTERM] = _terminate
    try:
        yield
    finally:
        del _free[signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give Ctrl-C to ``handler`` inside the block, unless the program or another block handles it."""
    # Not by ``signal`` itself, which looks each handler up among enumerations: that takes ten times as long.
    own = {}
    if _in_main_thread():
        own = {signum: free for signum, free in _free.items() if _signal.getsignal(signum) is free}
    for signum in own:
        _signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, free in own.items():
            _signal.signal(signum, free)


def _leave(signum: int, frame: FrameType | None = None) -> None:
    raise Terminated if signum == signal.SIGTERM else KeyboardInterrupt


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
