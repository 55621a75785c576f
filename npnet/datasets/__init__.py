"""Datasets: `mnist`, `fashion_mnist`, `cifar10`, `cifar100`, `california_housing` (found or fetched), and
`shapes` and `spiral` (drawn on the spot).

Each has ``load_data()``, which returns ``(x_train, y_train), (x_test, y_test)``. They are imported when they
are first used: reading archives takes modules that training does not need.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from npnet.datasets.errors import CorruptDatasetError, DatasetUnavailableError

if TYPE_CHECKING:
    from npnet.datasets import california_housing, cifar10, cifar100, fashion_mnist, mnist, shapes, spiral

__all__ = [
    "CorruptDatasetError",
    "DatasetUnavailableError",
    "california_housing",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "mnist",
    "shapes",
    "spiral",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
