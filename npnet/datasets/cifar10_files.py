"""Read CIFAR-10 out of files that strangers made: an archive or a folder, binary or Python distribution.

Nothing is extracted, imported or executed, and every size is checked before memory is taken. Both
distributions hold the same six batches of 10,000 pictures:

=======  ==============================================================================================
binary   ``cifar-10-batches-bin/data_batch_1.bin``: for each picture 1 label byte and 3,072 pixel bytes
         (32x32 red, then green, then blue)
Python   ``cifar-10-batches-py/data_batch_1``: a pickled dict of ``data`` (10000, 3072) and ``labels``,
         the pixels in the same order
=======  ==============================================================================================

Source: the author's page, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npnet.datasets import archive, pickled
from npnet.datasets.errors import CorruptDatasetError

__all__ = [
    "ARCHIVES",
    "BATCHES",
    "BINARY",
    "MD5",
    "PIXELS",
    "PYTHON",
    "RECORDS",
    "Distribution",
    "fingerprint",
    "locate",
    "read",
    "shapes",
]

RECORDS = 10_000  # pictures in a batch
PIXELS = 3 * 32 * 32  # bytes of a picture
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")

ARCHIVES = {  # the published archives: (SHA-256, bytes)
    "cifar-10-binary.tar.gz": (
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
    ),
    "cifar-10-python.tar.gz": (
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        170_498_071,
    ),
}
MD5 = {  # of the published files in cifar-10-batches-py
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


def _decode_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    if len(content) != RECORDS * (1 + PIXELS):
        raise CorruptDatasetError(f"{len(content)} bytes, expected {RECORDS} records of {1 + PIXELS}")
    table = np.frombuffer(content, np.uint8).reshape(RECORDS, 1 + PIXELS)
    return table[:, 0], table[:, 1:]


def _decode_python(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    # A label takes one operation, a file name up to ten; what else there is takes some dozens.
    batch = pickled.load(content, most_operations=20 * RECORDS + 1000)
    if not isinstance(batch, dict):
        raise CorruptDatasetError(f"a pickled {type(batch).__name__}, expected a dict")
    match batch.get(b"data", batch.get("data")):
        case pickled.PickledArray(shape, "u1" | b"u1", fortran_order, bytes(pixels)) if not fortran_order:
            if shape != (RECORDS, PIXELS) or len(pixels) != RECORDS * PIXELS:
                raise CorruptDatasetError(f"'data' is not of the shape ({RECORDS}, {PIXELS})")
        case _:
            raise CorruptDatasetError("'data' is no array of uint8 in C order")
    labels = batch.get(b"labels", batch.get("labels"))
    if not (isinstance(labels, list) and len(labels) == RECORDS):
        raise CorruptDatasetError(f"'labels' is no list of {RECORDS} numbers")
    if not all(type(label) is int and 0 <= label <= 255 for label in labels):
        raise CorruptDatasetError("'labels' holds something else than the numbers 0 to 9")
    return np.array(labels, np.uint8), np.frombuffer(pixels, np.uint8).reshape(RECORDS, PIXELS)


@dataclass(frozen=True)
class Distribution:
    """One of the two forms: its names, how many bytes a picture takes at most, how a file is decoded."""

    folder: str
    suffix: str
    record_bytes: int
    decode: Callable[[bytes], tuple[np.ndarray, np.ndarray]]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the six files, in the order of `BATCHES`."""
        return tuple(batch + self.suffix for batch in BATCHES)


BINARY = Distribution("cifar-10-batches-bin", ".bin", 1 + PIXELS, _decode_binary)
# Python 3 writes bytes as text in a pickle of protocol 2, up to twice as long; the rest is for the file name.
PYTHON = Distribution("cifar-10-batches-py", "", 2 * PIXELS + 512, _decode_python)


def shapes() -> dict[str, tuple[int, ...]]:
    """Of the arrays that `read` gives, all of them uint8."""
    train, test = 5 * RECORDS, RECORDS
    return {
        "x_train": (train, 32, 32, 3),
        "y_train": (train, 1),
        "x_test": (test, 32, 32, 3),
        "y_test": (test, 1),
    }


def locate(path: Path) -> tuple[Path, Distribution | None]:
    """What a user's path means: an archive (and None), or the folder of the batches and its distribution.

    Raises
    ------
    FileNotFoundError
        There is nothing at the path, or a folder with neither batches nor an archive in it.
    """
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise FileNotFoundError(f"CIFAR-10: there is no file or folder {path}")
    for distribution in (BINARY, PYTHON):
        for folder in (path, path / distribution.folder):
            if any((folder / name).is_file() for name in distribution.files):
                return folder, distribution
    for name in ARCHIVES:
        if (path / name).is_file():
            return path / name, None
    raise FileNotFoundError(
        f"CIFAR-10: the folder {path} holds neither batches (data_batch_1.bin or data_batch_1, there or in "
        f"{BINARY.folder} or {PYTHON.folder}) nor an archive ({' or '.join(ARCHIVES)})"
    )


def fingerprint(path: Path) -> str:
    """A text that changes when the files a user's path means do: their names, sizes and times."""
    place, distribution = locate(path)
    files = [place / name for name in distribution.files] if distribution else [place]
    facts = [(file.resolve(), file.stat()) for file in files if file.exists()]
    return "; ".join(f"{file} {stat.st_size} {stat.st_mtime_ns}" for file, stat in facts)


def read(path: Path, *, official: bool = False) -> dict[str, np.ndarray]:
    """CIFAR-10 from an archive, a folder of its batches, or a folder that holds either.

    Parameters
    ----------
    path : Path
    official : bool
        Accept only the published files, by the SHA-256 of an archive or the MD5 of each pickled batch:
        for what lies in other programs' caches.

    Returns
    -------
    dict
        ``x_train`` (50000, 32, 32, 3), ``y_train`` (50000, 1), ``x_test`` (10000, 32, 32, 3),
        ``y_test`` (10000, 1), all uint8.

    Raises
    ------
    FileNotFoundError
        There is nothing at the path.
    CorruptDatasetError
        It is something else than CIFAR-10, or a damaged copy.
    """
    place, distribution = locate(path)
    images = np.empty((6 * RECORDS, 32, 32, 3), np.uint8)
    labels = np.empty((6 * RECORDS, 1), np.uint8)
    missing = list(BATCHES)
    try:
        if distribution is None:
            contents = _from_archive(place, official)
        else:
            contents = _from_folder(place, distribution, official)
        for name, form, content in contents:
            batch = name.removesuffix(form.suffix)
            if batch not in missing:
                raise CorruptDatasetError(f"{batch} comes twice")
            missing.remove(batch)
            rows = slice(BATCHES.index(batch) * RECORDS, (BATCHES.index(batch) + 1) * RECORDS)
            labels[rows, 0], images[rows] = _batch(name, form, content)
        if missing:
            raise CorruptDatasetError(f"{', '.join(missing)} missing")
    except CorruptDatasetError as error:
        raise CorruptDatasetError(f"CIFAR-10: {place} cannot be used: {error}") from error
    train = 5 * RECORDS
    return {
        "x_train": images[:train],
        "y_train": labels[:train],
        "x_test": images[train:],
        "y_test": labels[train:],
    }


def _from_folder(
    folder: Path, form: Distribution, official: bool
) -> Iterator[tuple[str, Distribution, bytes]]:
    limit = RECORDS * form.record_bytes
    for name in form.files:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                content = file.read(limit + 1)
            if len(content) > limit:
                raise CorruptDatasetError(f"{name} is larger than the {limit} bytes it may have")
            if official and hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5.get(name):
                raise CorruptDatasetError(f"{name} is not the published file (its MD5 is another)")
            yield name, form, content


def _from_archive(path: Path, official: bool) -> Iterator[tuple[str, Distribution, bytes]]:
    known = {f"{form.folder}/{name}": (name, form) for form in (BINARY, PYTHON) for name in form.files}
    limits = {member: RECORDS * form.record_bytes for member, (_, form) in known.items()}
    with path.open("rb") as file:
        if official:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest not in {sha256 for sha256, _ in ARCHIVES.values()}:
                raise CorruptDatasetError("it is not a published archive (its SHA-256 is another)")
            file.seek(0)
        for member, content in archive.members(file, limits):
            yield *known[member], content


def _batch(name: str, form: Distribution, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and images (n, 32, 32, 3) of one file."""
    try:
        labels, planes = form.decode(content)
    except CorruptDatasetError as error:
        raise CorruptDatasetError(f"{name}: {error}") from error
    wrong = np.flatnonzero(labels > 9)
    if wrong.size:
        raise CorruptDatasetError(f"{name}: picture {wrong[0]} has label {labels[wrong[0]]}, expected 0 to 9")
    return labels, planes.reshape(RECORDS, 3, 32, 32).transpose(0, 2, 3, 1)
