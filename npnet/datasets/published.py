"""Data sets as their authors published them: found on this machine or fetched, checked, read, kept.

A data set comes in one or more forms, each a few files of known content. Where somebody else's program left
the files, their checksums decide whether they are the published ones; a path that the user names is believed,
and read with the same care.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from npnet.datasets import cache
from npnet.datasets.errors import CorruptDatasetError, DatasetUnavailableError, DownloadError
from npnet.kernels.machine.places import cache_folder

__all__ = ["KERAS", "Arrays", "File", "Form", "Published", "load"]

Arrays = dict[str, np.ndarray]
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


@dataclass(frozen=True)
class File:
    """A file of a data set.

    Parameters
    ----------
    name : str
    size : int, optional
        In bytes.
    sha256, md5 : str, optional
        In hexadecimal, as published.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Form:
    """A data set as some files.

    Parameters
    ----------
    files : tuple of File
    read : callable
        Makes the arrays of the files' paths, given by name.
    servers : tuple of str
        Addresses that these names follow; none for what only lies in other programs' caches.
    keras, torchvision : tuple of str
        Where they lie below Keras's cache and below torchvision's usual ./data.
    """

    files: tuple[File, ...]
    read: Callable[[dict[str, Path]], Arrays]
    servers: tuple[str, ...] = ()
    keras: tuple[str, ...] = ()
    torchvision: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A data set.

    Parameters
    ----------
    name, title : str
        "mnist", "MNIST".
    forms : tuple of Form
        The one to fetch first.
    shapes : mapping
        Shapes of the arrays.
    classes : mapping
        Of each array of labels, how many there are: labels are 0 to that number - 1.
    kept : bool
        Whether the arrays, all uint8, are kept in npnet's cache and mapped from there.
    """

    name: str
    title: str
    forms: tuple[Form, ...]
    shapes: Mapping[str, tuple[int, ...]]
    classes: Mapping[str, int] = field(default_factory=dict)
    kept: bool = True


def load(dataset: Published, path: str | os.PathLike[str] | None = None) -> Arrays:
    """The arrays of a data set.

    Parameters
    ----------
    path : path-like, optional
        A file, or a folder with the files of one of its forms: read, and nothing else looked at.

    Raises
    ------
    FileNotFoundError
        There is nothing at the given path.
    CorruptDatasetError
        What is at the given path is not the data set, or damaged.
    DatasetUnavailableError
        No path was given, and it could neither be found nor fetched.
    """
    name = None if path is None else os.fspath(path)
    if name is not None and not (name == dataset.forms[0].files[0].name and not Path(name).exists()):
        return _given(dataset, Path(name).expanduser())
    if dataset.kept and (arrays := _cached(dataset)):
        return arrays
    tried: list[str] = []
    for owner, folder, form in _folders(dataset):
        files = {file.name: folder / file.name for file in form.files}
        if not all(path.is_file() for path in files.values()):
            tried += [f"{owner}: not there"] if f"{owner}: not there" not in tried else []
            continue
        try:
            for file in form.files:
                _require_published(files[file.name], file)
            return _keep(dataset, _read(dataset, form, files))
        except (OSError, CorruptDatasetError) as error:
            tried.append(str(error))
    for form in dataset.forms:
        if form.servers:
            try:
                return _keep(dataset, _read(dataset, form, _fetch(dataset, form)))
            except DownloadError as error:
                tried += error.reasons
            except OSError as error:
                tried.append(f"{form.servers[0]}: not fetched, because it cannot be kept: {error}")
    names = " or ".join(", ".join(file.name for file in form.files) for form in dataset.forms)
    raise DatasetUnavailableError(
        f"{dataset.title} could not be had. Tried: {'; '.join(tried)}. Two ways out: if you have a copy"
        f" ({names}), name its file or folder, npnet.datasets.{dataset.name}.load_data(path=...) or npnet"
        f" train {dataset.name} --data; if another server has it, set NPNET_MIRROR=https://..., below which"
        f" {dataset.name}/{dataset.forms[0].files[0].name} is looked for (its checksum must be right)."
    )


def _given(dataset: Published, path: Path) -> Arrays:
    """What the user points at, and nothing else."""
    if not path.exists():
        raise FileNotFoundError(f"{dataset.title}: there is no file or folder {path}")
    for form in dataset.forms:
        if path.is_file() and len(form.files) == 1 and _ending(path.name) == _ending(form.files[0].name):
            return _read(dataset, form, {form.files[0].name: path})
        below = {name.rpartition("/")[2] for name in (*form.keras, *form.torchvision)}
        for folder in (path, *(path / name for name in sorted(below - {""}))):
            found = {file.name: _in(folder, file.name) for file in form.files}
            if all(found.values()):
                return _read(dataset, form, {name: place for name, place in found.items() if place})
    wanted = " or ".join(", ".join(file.name for file in form.files) for form in dataset.forms)
    raise FileNotFoundError(
        f"{dataset.title}: {path} is none of its files and holds none. Expected {wanted}."
    )


def _ending(name: str) -> str:
    return "".join(Path(name).suffixes[-2:]) if name.endswith(".gz") else Path(name).suffix


def _in(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, unpacked if need be."""
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate
    return None


def _folders(dataset: Published) -> list[tuple[str, Path, Form]]:
    """Where npnet, Keras and torchvision leave the files: owner, folder, form."""
    keras = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "datasets"  # noqa: PTH111
    found = []
    for form in dataset.forms:
        if form.servers:
            found.append(("npnet's cache", cache_folder() / dataset.name, form))
        found += [(f"Keras's cache {keras}", keras / name, form) for name in form.keras]
        found += [("torchvision's ./data", Path("data") / name, form) for name in form.torchvision]
    return found


def _require_published(path: Path, file: File) -> None:
    """Refuse a file that is not the published one."""
    from npnet.datasets.download import Content

    difference = Content(file.size, file.sha256, file.md5).difference(path)
    if difference:
        raise CorruptDatasetError(f"{path} is not the published file (its {difference} is another)")


def _fetch(dataset: Published, form: Form) -> dict[str, Path]:
    """The files of a form, from a mirror of the user's or from where they were published."""
    from npnet.datasets import download

    mirror = os.environ.get("NPNET_MIRROR")
    servers = (f"{mirror.rstrip('/')}/{dataset.name}/",) if mirror else form.servers
    files = {}
    for file in form.files:
        files[file.name] = cache_folder() / dataset.name / file.name
        download.fetch(
            [server + file.name for server in servers],
            files[file.name],
            sha256=file.sha256,
            md5=file.md5,
            size=file.size,
        )
    return files


def _read(dataset: Published, form: Form, files: dict[str, Path]) -> Arrays:
    """The arrays of files, of the right shapes, with labels in their range."""
    try:
        arrays = form.read(files)
        for name, shape in dataset.shapes.items():
            if arrays[name].shape != shape:
                raise CorruptDatasetError(f"{name} has the shape {arrays[name].shape}, expected {shape}")
        for name, classes in dataset.classes.items():
            if arrays[name].max() >= classes:
                raise CorruptDatasetError(f"{name} holds {arrays[name].max()}, expected 0 to {classes - 1}")
    except CorruptDatasetError as error:
        place = next(iter(files.values()))
        raise CorruptDatasetError(f"{dataset.title}: {place} cannot be used: {error}") from error
    return {name: arrays[name] for name in dataset.shapes}


# --- npnet's own cache -------------------------------------------------------------------------------------


def _cached(dataset: Published) -> Arrays | None:
    try:
        return cache.load(cache_folder() / dataset.name / "published", dataset.shapes, "published")
    except CorruptDatasetError as error:
        _say(f"{error}; making it again")
    except OSError:  # why nothing can be kept is said when keeping fails
        pass
    return None


def _keep(dataset: Published, arrays: Arrays) -> Arrays:
    if not dataset.kept:
        return arrays
    try:
        place = cache_folder() / dataset.name / "published"
        cache.save(place, arrays, "published")
        return cache.load(place, dataset.shapes, "published") or arrays
    except OSError as error:
        _say(f"{dataset.title} is not kept, so the next start reads it anew: {error}")
        return arrays


def _say(text: str) -> None:
    print(f"npnet: {text}", file=sys.stderr, flush=True)
