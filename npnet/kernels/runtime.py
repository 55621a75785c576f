"""How npnet meets Numba: one decorator for every compiled kernel, and what runs where.

Machine code is kept between runs (see ``cache.py``), threads are started and counted in ``threads.py``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.registry import CPUDispatcher, cpu_target

from npnet.kernels import cache, cpus, threads

# What LLVM may do with floating-point arithmetic. Never "nnan" or "ninf": with them relu(NaN) is 0 and
# isnan lies.
FASTMATH = {"contract", "reassoc", "arcp", "nsz"}


class Kernel(CPUDispatcher):
    """A function that Numba compiles at its first call, or finds compiled in npnet's cache."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._cache = cache.KernelCache(self)

    def compile(self, signature: Any) -> Any:
        """Return the machine code for one set of argument types."""
        threads.start()  # the code is linked to what starts its threads
        return super().compile(signature)


class ParallelKernel(Kernel):
    """A kernel with loops over threads, to be called from Python and not from other kernels."""

    def __call__(self, *arguments: Any) -> Any:
        """Run on as many threads as ``set_threads`` says."""
        return threads.run(super().__call__, arguments)

    def alone(self, *arguments: Any) -> Any:
        """Run on the calling thread, with the same result: for work too small to wake the others."""
        return threads.run(super().__call__, arguments, threads=1)


def compiled(function: Callable | None = None, *, parallel: bool = False) -> Any:
    """Compile a kernel at its first call, once per set of argument types, and keep the machine code.

    ``@compiled`` runs on the thread that calls it, ``@compiled(parallel=True)`` turns ``numba.prange`` into
    a loop over threads. Kernels release the GIL and divide as NumPy divides (1/0 is infinite). A kernel
    made inside a function may close over numbers, strings, tuples, types and functions. Its machine code
    must not hold addresses of this process, so it calls no ctypes function and not ``set_num_threads``.
    """
    if function is None:
        return partial(compiled, parallel=parallel)
    options = {"nopython": True, "boundscheck": None, "nogil": True, "error_model": "numpy"}
    make = ParallelKernel if parallel else Kernel
    return make(function, targetoptions={**options, "parallel": parallel, "fastmath": FASTMATH})


def describe() -> dict[str, Any]:
    """What the kernels run on: versions, processor, threads with their layer, and the cache."""
    codegen = cpu_target.target_context.codegen()
    features = codegen.magic_tuple()[2].split(",")
    wide = {512: "+avx512f", 256: "+avx"}
    layer = threads.threading_layer()
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "cpu": codegen._get_host_cpu_name(),
        "vector_bits": next((bits for bits, feature in wide.items() if feature in features), 128),
        "threads": threads.get_threads(),
        "cpus_allowed": cpus.allowed_cpus(),
        "cpu_quota": cpus.cpu_quota(),
        "threading_layer": layer.name,
        "threading_layer_reason": layer.reason,
        **cache.describe(),
    }
