"""Ctrl-C and other signals after a kernel has been compiled, instead of while LLVM compiles it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["held_back"]


@contextmanager
def held_back() -> Iterator[None]:
    """Let handlers of SIGINT and SIGTERM run at the end of the block.

    LLVM hands over machine code by calling Python. An exception that a handler raised there would go no
    further: the signal would be lost, and so would the machine code.
    """
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    arrived: list[tuple[int, FrameType | None]] = []
    for signum, handler in handlers.items():
        if callable(handler):
            signal.signal(signum, lambda *arguments: arrived.append(arguments))
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            if callable(handler):
                signal.signal(signum, handler)
        for signum, frame in arrived:
            handlers[signum](signum, frame)
