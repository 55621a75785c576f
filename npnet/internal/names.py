"""What to say of a name that a public module does not have."""

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from npnet.internal.config import nearest
from npnet.internal.missing import instead

__all__ = ["explain_missing", "public"]


def explain_missing(package: str) -> None:
    """Let a package and its public modules answer a name they lack with a sentence: where or what it is."""
    root = sys.modules[package]
    modules = [root, *(value for name in public(root) if isinstance(value := vars(root)[name], ModuleType))]
    homes: dict[str, str] = {}
    for module in modules:
        for name in public(module):
            homes.setdefault(name, f"{module.__name__}.{name}")
    for module in modules:
        own: Callable[[str], Any] | None = vars(module).get("__getattr__")  # of modules imported when needed
        vars(module)["__getattr__"] = _answer(module, homes, own)


def public(module: ModuleType) -> list[str]:
    """Return the names a module offers: ``__all__``, or what was defined in it."""
    defined = [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and getattr(value, "__module__", None) == module.__name__
    ]
    return list(getattr(module, "__all__", defined))


def _answer(
    module: ModuleType, homes: dict[str, str], own: Callable[[str], Any] | None
) -> Callable[[str], Any]:
    def look(name: str) -> Any:
        if own is not None and name in public(module):
            return own(name)
        return _refuse(module, homes, name)

    return look


def _refuse(module: ModuleType, homes: dict[str, str], name: str) -> NoReturn:
    whole = f"{module.__name__}.{name}"
    if name.startswith("_"):  # asked by machinery, which wants no advice
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
    if hasattr(module, "__path__") and importlib.util.find_spec(whole):
        raise AttributeError(f"{whole} is a module of its own: import {whole}")
    if reason := instead(module.__name__.rpartition(".")[2], name):
        raise AttributeError(f"{module.__name__} has no {name}: {reason}.")
    if name in homes:
        raise AttributeError(f"{module.__name__} has no {name}; it is {homes[name]}.")
    raise AttributeError(f"{module.__name__} has no {name}.{nearest(name, public(module))}")
