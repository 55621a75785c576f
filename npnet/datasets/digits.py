"""What MNIST and Fashion-MNIST share: 70,000 grey pictures of 28x28 pixels in ten classes, in idx files."""

from collections.abc import Mapping
from pathlib import Path

from npnet.datasets import idx, npz
from npnet.datasets.published import Arrays, File

__all__ = ["CLASSES", "FILES", "SHAPES", "files", "read_idx", "read_npz"]

SHAPES: Mapping[str, tuple[int, ...]] = {
    "x_train": (60_000, 28, 28),
    "y_train": (60_000,),
    "x_test": (10_000, 28, 28),
    "y_test": (10_000,),
}
CLASSES = {"y_train": 10, "y_test": 10}
FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


def files(*facts: tuple[int, str]) -> tuple[File, ...]:
    """The four files, of these sizes and MD5, in the order of `FILES`."""
    return tuple(File(name, size, md5=md5) for name, (size, md5) in zip(FILES.values(), facts, strict=True))


def read_idx(paths: dict[str, Path]) -> Arrays:
    """The arrays of the four files."""
    return {name: idx.read(paths[file], SHAPES[name]) for name, file in FILES.items()}


def read_npz(paths: dict[str, Path]) -> Arrays:
    """The arrays of Keras's one file."""
    (path,) = paths.values()
    return npz.read(path, {name: (shape, "u") for name, shape in SHAPES.items()})
