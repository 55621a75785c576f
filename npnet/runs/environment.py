"""What a run ran on, for its env.json."""

import contextlib
import os
import platform
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import npnet
from npnet.kernels import load, name_of

__all__ = ["describe", "processor"]


def occasion() -> dict[str, Any]:
    """Return when, where and how this process was started, and from which commit of the user's repository."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": platform.node() or None,
        "command": _command(),
        "commit": commit(Path.cwd()),
    }


def _command() -> str | None:
    program = Path(sys.argv[0]).name
    begun = {"": [], "-c": [], "__main__.py": ["python", "-m", "npnet"]}.get(program, [program])
    return shlex.join([*begun, *sys.argv[1:]]) or None


def commit(folder: Path) -> str | None:
    """Return the commit that is checked out where a folder lies, read from the files of Git, or None."""
    with contextlib.suppress(OSError, ValueError):
        for parent in (folder, *folder.parents):
            if (git := parent / ".git").is_dir():
                head = (git / "HEAD").read_text(encoding="utf-8").strip()
                name = head.removeprefix("ref: ")
                if name == head:
                    return head
                if (git / name).is_file():
                    return (git / name).read_text(encoding="utf-8").strip()
                packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
                return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    return None


def describe(kernels: str | None, dataset_sha256: str) -> dict[str, Any]:
    """Return versions, processor, threads and kernels, and what the data were.

    Parameters
    ----------
    kernels
        The set a model computes with, "numba" or "numpy"; None for the default of large ones.
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
