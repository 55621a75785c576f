"""What this machine is: the lines every benchmark begins with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from npnet.kernels.machine.cpus import usable_cpus
from npnet.runs.environment import processor

PACKAGES = ("numpy", "numba", "llvmlite", "jax", "torch", "keras", "tensorflow-cpu", "scikit-learn")


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _caches():
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        found.append(f"L{level}{kind[0].lower() if kind != 'Unified' else ''} {size}")
    return ", ".join(found) or "unknown"


def describe(threads):
    """Return the lines every benchmark begins with."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    width = "AVX-512" if features.get("avx512f") else "AVX2" if features.get("avx2") else "no AVX2"
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return "\n".join(
        [
            f"machine   {processor()}, {platform.machine()}, {width}; {platform.system()}",
            f"cores     {usable_cpus()} of {os.cpu_count()}; {threads} threads for everyone",
            f"caches    {_caches()} (of core 0)",
            f"versions  Python {platform.python_version()}, {packages}",
        ]
    )
