"""Read arrays out of an .npz file that a stranger made: sizes are checked first, pickles never read."""

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from npnet.datasets.errors import CorruptDatasetError

__all__ = ["read"]

_HEADER = 10_000  # characters of a header that are looked at, at most


def read(path: Path, wanted: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Parameters
    ----------
    wanted : mapping
        name -> (shape, kind of dtype as NumPy names it: "u", "i", "f").

    Raises
    ------
    CorruptDatasetError
        An array is missing or of another shape or dtype, or the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read(archive, name, *expected) for name, expected in wanted.items()}
    except CorruptDatasetError as error:
        raise CorruptDatasetError(f"{path.name}: {error}") from error
    except OSError:
        raise
    except Exception as error:  # a damaged zip ends in anything: BadZipFile, KeyError, struct.error ...
        raise CorruptDatasetError(f"{path.name} is damaged or no .npz file ({error})") from error


def _read(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    try:
        with archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise CorruptDatasetError(f"{name} is of version {version} of .npy, expected 1.0 or 2.0")
            reader = np.lib.format.read_array_header_1_0
            if version == (2, 0):
                reader = np.lib.format.read_array_header_2_0
            found, fortran_order, dtype = reader(file, max_header_size=_HEADER)
            if found != shape or dtype.kind != kind or fortran_order:
                raise CorruptDatasetError(
                    f"{name} is an array {found} of {dtype}{' in Fortran order' if fortran_order else ''},"
                    f" expected {shape} of kind {kind!r}"
                )
            size = math.prod(shape) * dtype.itemsize
            content = file.read(size)
            if len(content) < size or file.read(1):  # at its end zip compares its checksum
                raise CorruptDatasetError(f"{name} does not have the {size} bytes its header says")
            return np.frombuffer(content, dtype).reshape(shape).copy()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CorruptDatasetError(f"{name} is damaged ({error})") from error
