"""What the compiled chapters share: when a kernel is worth its call, and arrays as kernels want them."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from npnet.kernels import more_rules, rules

__all__ = ["BLOCK", "LEAST", "SERIAL", "flat", "is_for_numpy", "is_rule", "least", "plain"]

BLOCK = 8192  # elements a thread takes at a time
SERIAL = 4 * BLOCK  # elements below which waking the other threads costs more than they save
# From how many numbers on a compiled kernel is worth its call, of 3 to 4 us: NumPy was quicker with half as
# many float32 (two cores, NumPy 2.4). What is not named is worth it at any size, or within a microsecond.
LEAST = {
    "batch_norm_backward_parameters": 4096,
    "bounded_relu": 512,
    "bounded_relu_backward": 512,
    "elu": 512,
    "elu_backward": 512,
    "hyperbolic_tangent": 65536,
    "hyperbolic_tangent_backward": 16384,
    "leaky_relu": 4096,
    "leaky_relu_backward": 4096,
    "log_softmax_backward": 4096,
    "relu": 32768,
    "relu_backward": 4096,
    "sgd": 16384,
    "sigmoid_backward": 16384,
    "softmax_backward": 4096,
    "softplus": 4096,
}


@contextmanager
def least(sizes: dict[str, int]) -> Iterator[None]:
    """Put ``sizes`` in place of ``LEAST`` inside the block; {} compiles for every array."""
    kept = dict(LEAST)
    LEAST.clear()
    LEAST.update(sizes)
    try:
        yield
    finally:
        LEAST.clear()
        LEAST.update(kept)


def is_for_numpy(name, array):
    """Whether the reference does it: for a kernel's or rule's ``name`` the array is small, or none at all."""
    return not isinstance(array, np.ndarray) or array.size < LEAST.get(name, 1)


def is_rule(function):
    """Whether a function is one of the rules, which are made for registers too, as it was written."""
    return any(vars(home).get(function.__name__) is function for home in (rules, more_rules))


def plain(array):
    """The array, copied where it is strided or read-only: each would be another type to compile for."""
    array = np.asarray(array)
    return array if array.flags.c_contiguous and array.flags.writeable else array.copy(order="C")


def flat(array):
    """All numbers of ``plain(array)`` in a row."""
    numbers = array.ravel()
    return numbers if numbers.flags.writeable else numbers.copy()
