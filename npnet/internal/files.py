"""Files that are whole or not there."""

import contextlib
import glob
import os
import secrets
from pathlib import Path
from typing import IO

from npnet.internal.locking import is_still, try_to_lock

MOVES_OPEN_FILES = os.name != "nt"  # Windows renames and deletes closed files only


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that at any moment the old file or the new one is there, whole.

    Written beside the target, flushed to the disk, renamed over it, and the folder flushed. A process that
    is killed meanwhile leaves one unfinished file, which the next to write ``path`` removes.

    Raises
    ------
    OSError
        If it cannot be written (disk full, no permission ...). The old file is untouched then.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
    _remove_abandoned(path)
    try:
        temporary, file = _begin(path)
    except OSError as error:
        error.filename = str(path)  # nobody knows the unfinished file by its name
        raise
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if MOVES_OPEN_FILES:
                temporary.replace(path)
        if not MOVES_OPEN_FILES:
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# An unfinished file, .NAME.RANDOM.part, is locked by whoever writes it; one that is not was abandoned.


def _begin(path: Path) -> tuple[Path, IO[bytes]]:
    """Return a new unfinished file, locked, and its name."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        file = temporary.open("xb")
        try:
            if try_to_lock(file) and is_still(file, temporary):
                return temporary, file
        except OSError:  # without locks nobody will take it for abandoned
            return temporary, file
        file.close()  # between the two lines somebody has; take another name


def _remove_abandoned(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            with left.open("r+b") as file:
                abandoned = try_to_lock(file)
                if abandoned and MOVES_OPEN_FILES:
                    left.unlink()
            if abandoned and not MOVES_OPEN_FILES:
                left.unlink()
