"""Small helpers under Keras's names."""

from npnet.utils.get_file import get_file
from npnet.utils.labels import to_categorical
from npnet.utils.py_dataset import PyDataset, Sequence
from npnet.utils.seeds import new_seed, set_random_seed

__all__ = ["PyDataset", "Sequence", "get_file", "new_seed", "set_random_seed", "to_categorical"]
