"""How npnet meets Numba: one decorator for every compiled kernel."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numba

# What LLVM may do with floating-point arithmetic. Never "nnan" or "ninf": with them relu(NaN) is 0 and isnan lies.
FASTMATH = {"contract", "reassoc", "arcp", "nsz"}


def compiled(function: Callable | None = None, *, parallel: bool = False) -> Any:
    """Compile a kernel at its first call, once per set of argument types.

    ``@compiled`` runs on the thread that calls it, ``@compiled(parallel=True)`` turns ``numba.prange`` into
    a loop over all threads. Kernels release the GIL and divide as NumPy divides (1/0 is infinite).
    """
    if function is None:
        return partial(compiled, parallel=parallel)
    return numba.njit(function, parallel=parallel, fastmath=FASTMATH, nogil=True, error_model="numpy")
