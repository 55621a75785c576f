"""One process at a time."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_to_lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
        The file cannot be made.
    """
    waiting = False
    while True:
        with path.open("ab") as file:
            try:
                _try_to_lock(file)
            except (BlockingIOError, PermissionError):
                if not waiting:
                    on_wait()
                    waiting = True
                time.sleep(0.1)
                continue
            # The holder before us removed its file; whoever opened that one holds nothing that others see.
            if not _is_still(file, path):
                continue
            try:
                yield
            finally:
                with contextlib.suppress(PermissionError):  # Windows keeps what is open; it is empty
                    path.unlink()
            return


def _is_still(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
