"""What the compiled kernels run on, for reports."""

import math
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.registry import cpu_target

from npnet.kernels.machine import cache, cpus, threads
from npnet.kernels.vectors.registers import AMX, REGISTER_BYTES

__all__ = ["describe"]


def describe() -> dict[str, Any]:
    """Return versions, processor, threads with their layer, and the cache; threads are started by it."""
    layer, quota = threads.threading_layer(), cpus.cpu_quota()
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "cpu": cpu_target.target_context.codegen()._get_host_cpu_name(),
        "vector_bits": 8 * REGISTER_BYTES,
        "matrix_unit": AMX,
        "threads": threads.get_threads(),
        "cpus_allowed": cpus.allowed_cpus(),
        "cpu_quota": None if math.isinf(quota) else quota,
        "threading_layer": layer.name,
        "threading_layer_reason": layer.reason,
        **cache.describe(),
    }
