"""Ctrl-C between two steps instead of inside one."""

import signal
import threading
from collections.abc import Iterator
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
    ended. A second Ctrl-C ends it at once. Where the program handles
    the signal itself, or outside the main thread, nothing changes.
    """
    interrupt = Interrupt()
    own = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not own:
        yield interrupt
        return

    def hold(signum: int, frame: FrameType | None) -> None:
        if interrupt.pending:
            raise KeyboardInterrupt
        interrupt.pending = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield interrupt
        interrupt.check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
