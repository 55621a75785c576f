"""Ctrl-C between two steps instead of inside one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether Ctrl-C was pressed since the block began."""

    pending = False

    def check(self) -> None:
        """Raise the KeyboardInterrupt that was held back."""
        if self.pending:
            raise KeyboardInterrupt


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
            raise KeyboardInterrupt
        interrupt.pending = True

    with _handling(hold):
        yield interrupt
        interrupt.check()


@contextmanager
def immediate() -> Iterator[None]:
    """Let Ctrl-C end the block at once, ``deferred`` blocks inside it too: for work with nothing to save."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(leave):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give Ctrl-C to ``handler`` inside the block, unless the program or another block handles it."""
    own = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not own:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
