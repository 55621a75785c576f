"""Fetch a file once and keep it."""

import os
from pathlib import Path

from npnet.internal import checks
from npnet.kernels.machine.places import cache_folder

__all__ = ["get_file"]


def get_file(
    fname: str | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
) -> str:
    """Return the path of a file, which is fetched from ``origin`` unless it is there.

    A broken connection goes on where it ended where a hash is given, else from the beginning; only a whole
    file takes its name. A file that is there and has another hash than the one given is fetched again.

    Parameters
    ----------
    fname
        Its name in the cache; by default that in ``origin``.
    origin
        Its address: https, or http on this machine itself.
    untar, extract
        Unpack the archive, .zip or .tar (.gz, .bz2, .xz), and return the folder, ``fname`` + "_extracted".
        Members that would land elsewhere, and links that lead elsewhere, are refused.
    md5_hash
        An older name of ``file_hash`` for MD5.
    file_hash
        SHA-256 or MD5 of the file, in hexadecimal.
    cache_subdir
        A folder in the cache.
    hash_algorithm
        "sha256", "md5" or "auto", by the hash's length.
    archive_format
        "zip", "tar" or "auto", by what is in the file.
    cache_dir
        The cache; by default npnet's (``NPNET_CACHE``, or the system's folder for caches).
    force_download
        Fetch it even if it is there.

    Raises
    ------
    ValueError
        An argument does not fit.
    OSError
        The file cannot be had, or not be written; the text says what was tried.
    """
    from urllib.parse import unquote, urlsplit

    from npnet.datasets import download

    if origin is None:
        raise ValueError('get_file needs origin, the address of the file: origin="https://...".')
    name = checks.text("fname", unquote(urlsplit(origin).path).rpartition("/")[2] if fname is None else fname)
    folder = (cache_folder() if cache_dir is None else Path(cache_dir).expanduser()) / cache_subdir
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"fname must name a file below {folder}, got {name!r}.")
    if force_download:
        path.unlink(missing_ok=True)
    digest = file_hash if file_hash is not None else md5_hash
    known = _checksum(digest, hash_algorithm)
    download.fetch([origin], path, sha256=known.get("sha256"), md5=known.get("md5"))
    if not (untar or extract):
        return str(path)
    unpacked = folder / f"{name}_extracted"
    if force_download or not unpacked.exists() or unpacked.stat().st_mtime < path.stat().st_mtime:
        _unpack(path, unpacked, "tar" if untar and archive_format == "auto" else archive_format)
    return str(unpacked)


def _checksum(digest: str | None, algorithm: str) -> dict[str, str]:
    """Return {"sha256": digest} or {"md5": digest}; nothing where there is none."""
    lengths = {"md5": 32, "sha256": 64}
    if algorithm not in ("auto", *lengths):
        raise ValueError(f'hash_algorithm must be "auto", "sha256" or "md5", got {algorithm!r}.')
    if digest is None:
        return {}
    known = [
        name for name, length in lengths.items() if algorithm in ("auto", name) and len(digest) == length
    ]
    if not known:
        raise ValueError(f"file_hash must be a SHA-256 (64 digits) or an MD5 (32 digits), got {digest!r}.")
    return {known[0]: digest}


def _unpack(archive: Path, folder: Path, kind: str) -> None:
    """Unpack an archive into a folder, whole or not at all."""
    import shutil
    import tarfile
    import tempfile
    import zipfile

    if kind not in ("auto", "zip", "tar"):
        raise ValueError(f'archive_format must be "auto", "zip" or "tar", got {kind!r}.')
    if kind == "auto":
        kind = "zip" if zipfile.is_zipfile(archive) else "tar"
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        if kind == "zip":
            with zipfile.ZipFile(archive) as file:
                file.extractall(place)
        else:
            with tarfile.open(archive) as file:
                file.extractall(place, filter="data")
        shutil.rmtree(folder, ignore_errors=True)
        place.chmod(0o755)
        place.replace(folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
