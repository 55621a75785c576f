"""What npnet finds here: versions, processor, threads, caches, packages; and what could be better."""

import re
import warnings
from importlib import metadata
from typing import Any

from npnet.kernels import why_no_numba
from npnet.kernels.machine.places import cache_folder
from npnet.runs import environment

__all__ = ["EXTRA", "describe", "hints", "requirements", "version"]

EXTRA = re.compile(r"([\w.-]+)[^;]*(?:; extra == ['\"](\w+)['\"])?")


def describe() -> dict[str, Any]:
    """Return all of it; the kernels' threads are started.

    Returns
    -------
    dict
        Everything of a run's env.json but the dataset, the kernels' "cache_folder", "cached_kernels",
        "cached_bytes" and "cache_problem", "data_folder", "packages" (name -> version or None),
        "extras" (name -> packages that are missing), and "hints" (sentences).
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = environment.describe("numpy" if why_no_numba() else None, "")
        del found["dataset_sha256"]
        if found["kernels"] == "numba":
            from npnet.kernels.machine import description

            found |= {key: value for key, value in description.describe().items() if key.startswith("cache")}
    required, extras = requirements()
    found |= {
        "data_folder": str(cache_folder()),
        "packages": {name: version(name) for name in required},
        "extras": {extra: [n for n in names if version(n) is None] for extra, names in extras.items()},
        "hints": [*(str(warning.message) for warning in caught)],
    }
    found["hints"] += hints(found)
    return found


def hints(found: dict[str, Any]) -> list[str]:
    """Return what could be better and how, beyond what warnings say."""
    if found["kernels"] != "numba":
        reason = f"Numba cannot be imported ({why_no_numba()})"
        return [f"{reason}: NumPy's kernels are used, many times slower. pip install numba"]
    result = []
    if not found["cached_kernels"] and found["cache_folder"]:
        result.append("No kernels are compiled yet; the first training does it, or now: npnet warmup")
    if found["vector_bits"] < 256:
        result.append(
            f"Kernels are compiled for vectors of {found['vector_bits']} bits only. If the processor has"
            " wider ones, unset NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."
        )
    if found["cpu_quota"] and found["cpu_quota"] < found["cpus_allowed"]:
        result.append(f"This container may use {found['cpu_quota']:g} of {found['cpus_allowed']} CPUs.")
    return result


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the packages npnet needs, and those of each extra, as its installed metadata list them."""
    required: list[str] = []
    extras: dict[str, list[str]] = {}
    try:
        lines = metadata.requires("npnet") or []
    except metadata.PackageNotFoundError:  # run from its sources
        lines = []
    for line in lines:
        match = EXTRA.match(line)
        if match and match[1] != "npnet":
            (extras.setdefault(match[2], []) if match[2] else required).append(match[1])
    return required, extras


def version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
