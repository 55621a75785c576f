"""Machine code kept between runs, in a folder of our own, trusted only where nobody else can write.

Numba's own cache looks at one source file per function, reads whatever bytes it finds and raises where it
cannot write. This one keys on everything the code depends on, checks every file before it is read, and
falls back to compiling, with one warning that says why:

    ROOT/kernels/KEY/NAME-HASH.kernel      ROOT: NPNET_CACHE, NUMBA_CACHE_DIR/npnet, or npnet in the
                                                 user's folder for caches, the first that is set
                                           KEY:  the sources of all kernels, versions, processor
                                           HASH: the function, what it closes over, argument types

Files that end in .linked hold kernels that other kernels call (``linked.py``).

Kernels from one factory differ by a number in their names: Numba counts the functions that it compiles. Those
that two processes compiled may be loaded into a third, so each process counts from a number of its own.
"""

import hashlib
import itertools
import os
import pickle
import platform
import re
import secrets
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any
from uuid import uuid4

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core import config
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from npnet.kernels.machine.places import cache_folder
from npnet.kernels.vectors.registers import AMX, EMULATED

__all__ = [
    "CODE_OPTIONS",
    "DIGEST",
    "KEPT",
    "NAMES",
    "NUMBERS",
    "KernelCache",
    "describe",
    "folder",
    "identify",
]

KEPT = 4  # versions of the kernels whose folders are kept, the most recently used ones
DIGEST = hashlib.sha256().digest_size
CODE_OPTIONS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # of Numba
NUMBERS = (bool, int, float, complex, str, bytes, np.generic, type(None), type(...))
NAMES = (type, np.dtype, np.ufunc, types.Type, ModuleType, BuiltinFunctionType)

_problem: str | None = None  # the first one; later ones follow from it or wait for the next start


def _count_apart() -> None:
    """Count functions from a random number on: LLVM takes code of one name for the same code."""
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(60))


_count_apart()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_apart)


# --- the folder ------------------------------------------------------------------------------------------


@cache
def folder() -> Path | None:
    """Return the folder for the kernels of this version, or None where none can be trusted or made."""
    try:
        home = _root() / "kernels"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(home)
        place = home / _key()
        fresh = not place.exists()
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        _complain(f"cannot be used ({error})", "To keep them, set NPNET_CACHE to a folder you own.")
        return None
    with suppress(OSError):
        os.utime(place)
    if fresh:
        _prune(home, place)
    return place


def describe() -> dict[str, Any]:
    """Return the folder, the number and size of the kernels in it, and the first problem met, if any."""
    place = folder()
    kernels, linked = ([*place.glob(f"*{kind}")] if place else [] for kind in (".kernel", ".linked"))
    return {
        "cache_folder": str(place) if place else None,
        "cached_kernels": len(kernels),
        "cached_bytes": sum(file.stat().st_size for file in kernels + linked),
        "cache_problem": _problem,
    }


def _root() -> Path:
    numbas = os.environ.get("NUMBA_CACHE_DIR")
    return Path(numbas) / "npnet" if numbas and not os.environ.get("NPNET_CACHE") else cache_folder()


def _check_private(place: Path) -> None:
    """Raise OSError if another user could put machine code into the folder."""
    if not hasattr(os, "geteuid"):
        return
    status = place.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{place} belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & 0o022:
        raise PermissionError(f"{place} can be written by other users: chmod 700 it")


def _sources() -> Iterator[tuple[str, bytes]]:
    """Go through the sources of all kernels: path within the package, content."""
    folders = [("", files("npnet.kernels"))]
    while folders:
        path, folder_ = folders.pop()
        for entry in folder_.iterdir():
            if entry.is_dir():
                folders.append((f"{path}{entry.name}/", entry))
            elif entry.name.endswith(".py"):
                yield path + entry.name, entry.read_bytes()


def _key() -> str:
    """Hash what the machine code of every kernel depends on."""
    digest = hashlib.sha256()
    for name, content in sorted(_sources()):
        digest.update(name.encode() + b"\0" + content + b"\0")
    machine = cpu_target.target_context.codegen().magic_tuple(), AMX, EMULATED
    versions = numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag
    options = [getattr(config, option, None) for option in CODE_OPTIONS]
    digest.update(repr((machine, sys.platform, platform.machine(), versions, options)).encode())
    return digest.hexdigest()[:16]


def _prune(home: Path, current: Path) -> None:
    """Delete the kernels of all but this version and those used last; the clock may have been set back."""
    with suppress(OSError):
        versions = [place for place in home.iterdir() if re.fullmatch("[0-9a-f]{16}", place.name)]
        others = sorted(set(versions) - {current}, key=lambda place: place.stat().st_mtime)
        for place in others[: 1 - KEPT]:
            shutil.rmtree(place, ignore_errors=True)


def _complain(what: str, remedy: str) -> None:
    global _problem
    if _problem is None:
        _problem = what
        warnings.warn(
            f"The cache of compiled kernels {what}. Kernels are compiled anew, which takes seconds at this"
            f" start and changes no result. {remedy}",
            RuntimeWarning,
            stacklevel=2,
        )


# --- the files -------------------------------------------------------------------------------------------


class KernelCache(NullCache):
    """What Numba asks for machine code before it compiles, and hands machine code to afterwards."""

    suffix = ".kernel"

    def __init__(self, kernel: Any):
        self._kernel = kernel

    def pack(self, result: Any) -> bytes:
        """Return what ``unpack`` makes the compiled kernel from in another process."""
        return dumps(result._reduce())

    def unpack(self, content: bytes, target_context: Any) -> Any:
        """Return the compiled kernel that ``pack`` described."""
        return CompileResult._rebuild(target_context, *pickle.loads(content))

    @property
    def cache_path(self) -> str | None:
        """The folder, as Numba's reports show it."""
        return str(folder())

    def holds(self, signature: Any) -> bool:
        """Whether there is a file for these argument types."""
        path = self._path(signature)
        return path is not None and path.exists()

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the compiled kernel for these argument types, or None if it must be compiled."""
        path = self._path(signature)
        if path is None:
            return None
        try:
            content = path.read_bytes()
            rtsys.initialize(target_context)  # all that machine code needs of Numba; its compiler comes later
            if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
                raise ValueError("its checksum does not match")
            return self.unpack(content[DIGEST:], target_context)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever the file holds, the kernel can be compiled
            _complain(f"has a damaged file, {path} ({error})", "The file is replaced; nothing need be done.")
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled kernel; several processes may do so at once, each file appears in one step."""
        path = self._path(signature)
        if result.library.has_dynamic_globals:
            warnings.warn(
                f"kernel {self._kernel.__name__} is compiled at every start: its machine code holds an"
                " address of this process. It calls a ctypes function or numba.set_num_threads (call the one"
                " in npnet.kernels.machine.jit), or reads a large global array (pass it as an argument).",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        if path is None:
            return
        payload = self.pack(result)
        temporary = path.with_suffix(f".{uuid4().hex}")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
            temporary.replace(path)
        except OSError as error:
            _complain(f"cannot be written ({error})", "To keep them, set NPNET_CACHE to a folder you own.")
            with suppress(OSError):
                temporary.unlink()

    def _path(self, signature: Any) -> Path | None:
        """Where the machine code for these argument types is kept; None if it cannot be.

        Functions among the arguments have no name that the next process would know them by.
        """
        place, arguments = folder(), repr(signature)
        if place is None or any(isinstance(kind, types.Callable) for kind in _leaves(signature)):
            return None
        function = self._kernel.py_func
        identity = identify(self._kernel), _source_digest(function.__code__.co_filename), arguments
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
        return place / f"{function.__name__}-{digest}{self.suffix}"


def identify(value: Any) -> Any:
    """Return what the machine code made from a kernel, or from a value it closes over, depends on.

    Unlike a pickle, it is the same in every process.
    """
    if isinstance(value, NUMBERS + NAMES):
        return type(value).__name__, repr(value)
    if isinstance(value, tuple):
        return tuple(identify(item) for item in value)
    if isinstance(value, frozenset):
        return sorted(repr(identify(item)) for item in value)
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, identify(value.co_consts)
    if isinstance(value, FunctionType):
        cells = tuple(identify(cell.cell_contents) for cell in value.__closure__ or ())
        code, defaults = identify(value.__code__), identify(value.__defaults__)
        return value.__module__, value.__qualname__, code, defaults, cells
    if hasattr(value, "__wrapped__"):  # a kernel or an intrinsic
        return identify(value.__wrapped__)
    raise TypeError(
        f"a kernel closes over {value!r} ({type(value).__name__});"
        " close over numbers, strings, tuples, types and functions only."
    )


def _leaves(arguments: Any) -> Iterator[Any]:
    """Go through argument types, into tuples."""
    for kind in arguments:
        if isinstance(kind, types.BaseTuple):
            yield from _leaves(kind)
        else:
            yield kind


@cache
def _source_digest(name: str) -> str:
    """Hash a source file, for kernels defined outside this package."""
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError:
        return ""
