"""One process at a time."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

__all__ = ["is_still", "locked", "try_to_lock"]

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_to_lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed, or the process dies; return False if another has it locked.

    Raises
    ------
    OSError
        This file system has no locks.
    """
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_still(file: IO[bytes], path: Path) -> bool:
    """Tell whether an open file is the one that stands at ``path``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _nothing() -> None:
    pass


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], object] = _nothing) -> Iterator[None]:
    """Hold the lock `path`, a file that is there only as long as somebody holds it.

    The operating system gives up the lock of a process that dies, so none is ever stale.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    on_wait : callable
        Called once if another process holds the lock.

    Raises
    ------
    OSError
        The file cannot be made or locked.
    """
    waiting = False
    while True:
        with path.open("ab") as file:
            if not try_to_lock(file):
                if not waiting:
                    on_wait()
                    waiting = True
                time.sleep(0.1)
                continue
            # The holder before us removed its file; whoever opened that one holds nothing that others see.
            if not is_still(file, path):
                continue
            try:
                yield
            finally:
                # Windows keeps what is open, which is empty; and somebody may have moved the folder away.
                with contextlib.suppress(PermissionError, FileNotFoundError):
                    path.unlink()
            return
