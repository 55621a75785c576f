"""Two sets of kernels with one interface: ``reference`` to read, ``parallel`` to run."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

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
