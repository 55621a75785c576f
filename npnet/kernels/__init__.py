"""Two sets of kernels with one interface: ``reference`` to read, ``parallel`` to run."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from npnet.kernels import reference

MODULES = {"numpy": "reference", "numba": "parallel"}


def load(name: str | None = None) -> ModuleType:
    """Return the kernel set called ``name``; by default "numba" where Numba is installed, else "numpy".

    Numba is imported here and not before, so that ``import npnet`` stays quick.
    """
    if name is None:
        name = "numba" if find_spec("numba") else "numpy"
    if name not in MODULES:
        raise ValueError(f'kernels must be "numba" or "numpy", got {name!r}.')
    return import_module(f"{__name__}.{MODULES[name]}")


class UsesKernels:
    """An object that computes with one of the sets; it can be copied and pickled, as a module cannot."""

    kernels: ModuleType = reference

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"kernels": self.kernels.__name__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, kernels=import_module(state["kernels"]))
