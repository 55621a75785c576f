"""Two sets of kernels with one interface: ``reference`` to read, ``parallel`` to run."""

import warnings
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from npnet.kernels import reference

MODULES = {"numpy": "reference", "numba": "parallel"}


@cache
def why_no_numba() -> str | None:
    """Return why Numba cannot be imported, or None: it is there.

    Numba is imported here and not before, so that ``import npnet`` stays quick.
    """
    try:
        import_module("numba")
    except Exception as error:  # it is not there, or does not fit NumPy, LLVM or the system
        return str(error) or type(error).__name__
    return None


@cache
def _chosen_by_default() -> str:
    if (reason := why_no_numba()) is None:
        return "numba"
    warnings.warn(
        f"Numba cannot be imported ({reason}): NumPy's kernels are used, which are many times slower. Install"
        " it with pip install numba.",
        stacklevel=4,
    )
    return "numpy"


def load(name: str | None = None) -> ModuleType:
    """Return the kernel set called ``name``; by default "numba" where Numba can be imported, else "numpy".

    Raises
    ------
    ValueError
        If there is no such set.
    ImportError
        If it is "numba" and Numba cannot be imported.
    """
    if name is None:
        name = _chosen_by_default()
    if name not in MODULES:
        raise ValueError(f'kernels must be "numba" or "numpy", got {name!r}.')
    if name == "numba" and (reason := why_no_numba()):
        raise ImportError(
            f"Numba's kernels need Numba, which cannot be imported ({reason}). Install it with pip install"
            ' numba, or use kernels="numpy".'
        )
    return import_module(f"{__name__}.{MODULES[name]}")


def name_of(kernels: ModuleType) -> str:
    """Return "numba" or "numpy"."""
    return next(name for name, module in MODULES.items() if kernels.__name__ == f"{__name__}.{module}")


class UsesKernels:
    """An object that computes with one of the sets; it can be copied and pickled, as a module cannot.

    What was pickled where Numba was there computes with NumPy's kernels where it is not.
    """

    kernels: ModuleType = reference

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"kernels": name_of(self.kernels)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, kernels=load(state["kernels"] if state["kernels"] == "numpy" else None))
