"""Where npnet keeps what it need not make twice: compiled kernels, data sets."""

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Return ``NPNET_CACHE``, else the folder ``npnet`` where the system wants caches to be.

    That is in ``XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS, and the local data
    of the user's applications on Windows.

    Raises
    ------
    OSError
        If it is not set and there is no home folder.
    """
    if chosen := os.environ.get("NPNET_CACHE"):
        return Path(chosen).expanduser()
    try:
        place = platformdirs.user_cache_path("npnet", appauthor=False)
    except RuntimeError:  # newer versions of platformdirs; older ones return "~/.cache/npnet"
        place = Path("npnet")
    if not place.is_absolute():
        raise OSError("there is no home folder to keep data in; set NPNET_CACHE to a folder")
    return place
