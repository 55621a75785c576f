"""Files that are whole or not there."""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TypeAlias

from npnet.internal import processes
from npnet.internal.locking import is_still, try_to_lock

__all__ = [
    "FORMATS",
    "MOVES_OPEN_FILES",
    "Buffer",
    "from_first",
    "owner_of",
    "refuse_other_formats",
    "sync_folder",
    "unfinished",
    "write_atomically",
]

Buffer: TypeAlias = bytes | memoryview  # a piece of a file
MOVES_OPEN_FILES = os.name != "nt"  # Windows renames and deletes closed files only


FORMATS = {
    ".h5": "Keras", ".hdf5": "Keras", ".keras": "Keras", ".ckpt": "TensorFlow", ".pb": "TensorFlow",
    ".tflite": "TensorFlow", ".pt": "PyTorch", ".pth": "PyTorch", ".onnx": "ONNX", ".npy": "NumPy",
    ".npz": "NumPy", ".safetensors": "safetensors", ".pkl": "Python's pickle", ".pickle": "Python's pickle",
    ".joblib": "joblib",
}  # fmt: skip
"""Endings by which people and programs know the files of others."""


def owner_of(path: str | Path) -> str | None:
    """Return whose ending a file's name has, or None."""
    return FORMATS.get(Path(path).suffix.lower())


def refuse_other_formats(path: str | Path, kind: str = "safetensors") -> None:
    """Raise a ValueError, with what to do, if a file of ``kind`` would get the ending of another format."""
    owner, ending = owner_of(path), Path(path).suffix
    if owner in (None, kind):
        return
    calls = {"ONNX": " For an ONNX file call model.export.", "safetensors": " To save it call model.save."}
    raise ValueError(
        f"{path}: names that end in {ending} are those of {owner} files, and npnet writes a file of {kind}."
        f" Name it {Path(path).stem}.{kind.lower()}.{calls.get(owner, '')}"
    )


def write_atomically(path: Path, *content: Buffer) -> None:
    """Write pieces of content to ``path`` so that at any moment the old file or the new one is there, whole.

    Written beside the target, flushed to the disk, renamed over it, and the folder flushed. A process that
    is killed meanwhile leaves one unfinished file, which the next to write ``path`` removes. Where ``path``
    is a symbolic link, what it points to is written. A file that was there keeps its mode.

    Raises
    ------
    OSError
        If it cannot be written (disk full, no permission ...) or ``path`` is there and no regular file: a
        folder, a pipe, a device. What was there is untouched then.
    """
    target = Path(os.path.realpath(path))
    try:
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"There is no folder {target.parent}; make it first", path)
        before = target.stat() if target.exists() else None
        if target.is_dir():
            raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
        if before and not stat.S_ISREG(before.st_mode):
            raise OSError(f"{path} is a pipe or a device; give the name of a file.")
        _remove_abandoned(target)
        _replace(target, content, before)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # nobody knows the unfinished file by its name
            del error.filename2
        raise


def _replace(target: Path, content: Iterable[Buffer], before: os.stat_result | None) -> None:
    """Put a new file with the mode of the one from ``before`` in its place."""
    temporary, file = _begin(target)
    try:
        with file:
            if before and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
            if MOVES_OPEN_FILES:
                temporary.replace(target)
        if not MOVES_OPEN_FILES:
            temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# An unfinished file is locked by whoever writes it; one that is not was abandoned.


def unfinished(path: Path, random: str) -> str:
    """Return the name of a file that is to become ``path``, whose own name may be as long as names can be."""
    return f".npnet-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}.{random}.part"


def _begin(path: Path) -> tuple[Path, IO[bytes]]:
    """Return a new unfinished file, locked, and its name."""
    while True:
        temporary = path.with_name(unfinished(path, secrets.token_hex(4)))
        file = temporary.open("xb")
        try:
            if try_to_lock(file) and is_still(file, temporary):
                return temporary, file
        except OSError:  # without locks nobody will take it for abandoned
            return temporary, file
        file.close()  # between the two lines somebody has; take another name


def _remove_abandoned(path: Path) -> None:
    for left in path.parent.glob(unfinished(path, "*")):
        with contextlib.suppress(OSError):
            with left.open("r+b") as file:
                abandoned = try_to_lock(file)
                if abandoned and MOVES_OPEN_FILES:
                    left.unlink()
            if abandoned and not MOVES_OPEN_FILES:
                left.unlink()


@contextlib.contextmanager
def from_first(path: Path) -> Iterator[Path]:
    """Give a file that the first process of a training reads for all, so that all read the same.

    The others get a temporary copy, and need not see ``path``. All must call it.
    """
    group = processes.group()
    content = b"" if group.size == 1 else group.broadcast_bytes(path.read_bytes() if group.first else b"")
    if group.first:
        yield path
        return
    import tempfile  # not with npnet: a process alone does not need it

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(content)
        yield copy
