"""Small helpers under Keras's names.

What needs files, pictures or a network is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from npnet.utils import backend
from npnet.utils.backend import clear_session
from npnet.utils.labels import to_categorical
from npnet.utils.plot_model import plot_model
from npnet.utils.py_dataset import PyDataset, Sequence
from npnet.utils.seeds import new_seed, set_random_seed

if TYPE_CHECKING:
    from npnet.utils.fetching import get_file
    from npnet.utils.pictures import image_dataset_from_directory, img_to_array, load_img

__all__ = [
    "PyDataset",
    "Sequence",
    "backend",
    "clear_session",
    "get_file",
    "image_dataset_from_directory",
    "img_to_array",
    "load_img",
    "new_seed",
    "plot_model",
    "set_random_seed",
    "to_categorical",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "fetching" if name == "get_file" else "pictures"
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
