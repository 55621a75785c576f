"""Small helpers under Keras's names."""

from npnet.utils import backend
from npnet.utils.backend import clear_session
from npnet.utils.helpers import new_seed, set_random_seed, to_categorical
from npnet.utils.plot_model import plot_model

__all__ = ["backend", "clear_session", "new_seed", "plot_model", "set_random_seed", "to_categorical"]
