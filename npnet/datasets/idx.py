"""Read idx files, the form MNIST was published in: a header of sizes, then one byte a number."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from npnet.datasets.errors import CorruptDatasetError

__all__ = ["read"]


def read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array of this shape that an idx file holds, packed by gzip or not.

    The header is compared with the one that the shape asks for: what another one says is never allocated.

    Raises
    ------
    CorruptDatasetError
        It holds something else, or is damaged or cut off.
    """
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    size = math.prod(shape)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            if (found := file.read(len(header))) != header:
                raise CorruptDatasetError(
                    f"{path.name} is no idx file of bytes {shape}: it begins with {found!r}, not {header!r}"
                )
            content = file.read(size)
            rest = file.read(1)  # at the end gzip compares its checksum
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptDatasetError(f"{path.name} is damaged or cut off ({error})") from error
    if len(content) < size or rest:
        raise CorruptDatasetError(f"{path.name} is {'longer' if rest else 'shorter'} than its header says")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()
