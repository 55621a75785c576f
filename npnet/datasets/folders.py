"""A folder of pictures, one sub-folder a class: which files there are, and what they are labelled."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from npnet.internal import checks

__all__ = ["ENDINGS", "Pictures", "find"]

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Pictures:
    """Files with their labels.

    Parameters
    ----------
    files : list of Path
        Class by class, in alphabetical order.
    labels : int array (N,)
        Indices into `class_names`.
    class_names : tuple of str
    """

    files: list[Path]
    labels: np.ndarray
    class_names: tuple[str, ...]

    def some(self, index: np.ndarray) -> "Pictures":
        """Some of the files."""
        return Pictures([self.files[i] for i in index], self.labels[index], self.class_names)


def find(folder: str | os.PathLike[str], class_names: Sequence[str] | None = None) -> Pictures:
    """The pictures of a folder whose sub-folders are classes, named in alphabetical order.

    Sub-folders of a class belong to it. Hidden files and folders are left out; other files that are no
    pictures by their names are left out, too, and counted in a warning. A link that leads nowhere is a
    picture that cannot be read.

    Parameters
    ----------
    class_names : sequence of str, optional
        The names of all sub-folders, in the order of the labels.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    OSError
        One of its folders cannot be read.
    ValueError
        It has no sub-folders, others than `class_names`, or one of them holds no picture.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder {place}.")
    found = sorted(entry.name for entry in place.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not found:
        raise ValueError(f"{place} has no sub-folders. Give each class of pictures a sub-folder of its name.")
    names = tuple(found if class_names is None else class_names)
    if sorted(names) != found:
        raise ValueError(
            f"class_names must be the sub-folders of {place}, {', '.join(found)}, got {', '.join(names)}."
        )
    files: list[Path] = []
    labels: list[int] = []
    others = [
        entry for entry in place.iterdir() if not entry.is_dir() and entry.name[0] != "."
    ]  # which class are they of?
    for label, name in enumerate(names):
        below = sorted(_files_below(place / name))
        pictures = [path for path in below if path.suffix.lower() in ENDINGS]
        if not pictures:
            raise ValueError(
                f"{place / name} holds no picture ({', '.join(ENDINGS)}). Remove it, or fill it."
            )
        others += [path for path in below if path.suffix.lower() not in ENDINGS]
        files += pictures
        labels += [label] * len(pictures)
    if others:
        listed = ", ".join(str(path.relative_to(place)) for path in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        checks.warn(f"{place} holds files that are no pictures of a class and are left out: {listed}{more}.")
    return Pictures(files, np.array(labels, np.int64), names)


def _refuse(error: OSError) -> NoReturn:
    raise error


def _files_below(folder: Path) -> Iterator[Path]:
    """Go through the files of a folder and its sub-folders, linked ones too, but not through hidden ones."""
    seen = {folder.resolve()}
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        # A link to a folder above it would lead here again and again.
        folders[:] = [
            name for name in folders if name[0] != "." and (Path(place) / name).resolve() not in seen
        ]
        seen.update((Path(place) / name).resolve() for name in folders)
        yield from (Path(place) / name for name in files if name[0] != ".")
