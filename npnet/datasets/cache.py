"""Arrays kept on disk between runs: uncompressed .npy files, mapped into memory in milliseconds.

A folder of the cache holds one ``NAME.npy`` for each array and, written last, a ``manifest.json`` with a
checksum of each. Every file is replaced in one step: a run that is killed leaves the old one or the new.
"""

import json
import math
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from npnet.datasets.errors import CorruptDatasetError
from npnet.internal.files import write_atomically
from npnet.internal.locking import locked

__all__ = ["load", "save"]

_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 1 << 16


def save(place: Path, arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """Keep uint8 `arrays` in the folder `place`, with the `origin` that `load` must ask for.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full; nothing is left half-written.
    """
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / "lock"):
        for name, array in arrays.items():
            write_atomically(place / f"{name}.npy", _header(array.shape), array.data)
        manifest = {"origin": origin, "checksums": {name: _checksum(array) for name, array in arrays.items()}}
        write_atomically(place / _MANIFEST, json.dumps(manifest, indent=1).encode())


def load(place: Path, shapes: Mapping[str, tuple[int, ...]], origin: str) -> dict[str, np.ndarray] | None:
    """The arrays kept in the folder `place`; None if there are none of this `origin`.

    They are mapped copy-on-write: the caller may change them, the files stay as they are.

    Raises
    ------
    CorruptDatasetError
        A file is missing, or has another size, shape or checksum than was written.
    """
    try:
        with (place / _MANIFEST).open("rb") as file:
            manifest = json.loads(file.read(_LARGEST_MANIFEST))
        if manifest["origin"] != origin:
            return None
        checksums = {name: manifest["checksums"][name] for name in shapes}
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptDatasetError(f"{place / _MANIFEST} is damaged") from error
    arrays = {}
    for name, shape in shapes.items():
        arrays[name] = _map(place / f"{name}.npy", shape)
        if _checksum(arrays[name]) != checksums[name]:
            raise CorruptDatasetError(f"{place / name}.npy is damaged: its checksum differs")
    return arrays


def _header(shape: tuple[int, ...]) -> bytes:
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    # The header is compared, not parsed: what a damaged one asks for is never allocated.
    header = _header(shape)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(header)) != header or size != len(header) + math.prod(shape):
                raise CorruptDatasetError(f"{path} is damaged: it is no .npy file of uint8 {shape}")
            return np.asarray(np.memmap(file, np.uint8, mode="c", offset=len(header), shape=shape))
    except FileNotFoundError as error:
        raise CorruptDatasetError(f"{path} is missing") from error


def _checksum(array: np.ndarray) -> int:
    """The sum of the bytes, taken eight at a time, modulo 2^64.

    It sees every flipped bit and every lost block at the speed of memory. It is no protection against
    forgery: whoever can write into the cache needs none.
    """
    flat = array.reshape(-1)
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    return (int(words.sum()) + int(flat[words.size * 8 :].sum())) % 2**64
