"""What a run ran on, for its env.json."""

import os
import platform
from typing import Any

import numpy as np

import npnet
from npnet.kernels import load, name_of

__all__ = ["describe", "processor"]


def describe(kernels: str | None, dataset_sha256: str) -> dict[str, Any]:
    """Return versions, processor, threads and kernels, and what the data were.

    Parameters
    ----------
    kernels
        The set a model is compiled with: "numba", "numpy", or None for the default.
    """
    compiled = name_of(load(kernels)) == "numba"
    machine: dict[str, Any] = dict.fromkeys(
        ("numba", "llvmlite", "vector_bits", "threads", "threading_layer", "threading_layer_reason")
    )
    if compiled:
        from npnet.kernels.machine import description as measured

        machine |= {key: value for key, value in measured.describe().items() if not key.startswith("cache")}
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "npnet": npnet.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        **machine,
        "cpu": processor(),
        "cpus": os.cpu_count(),
        "kernels": "numba" if compiled else "numpy",
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "dataset_sha256": dataset_sha256,
    }


def processor() -> str:
    """Return the processor's name as the system knows it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 (read as far as the line)
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
