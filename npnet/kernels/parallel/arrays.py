"""What the compiled chapters share: when a kernel is worth its call, and arrays as kernels want them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from npnet.kernels import more_rules, rules
from npnet.kernels.vectors.registers import REGISTER_BYTES

__all__ = ["BLOCK", "LEAST", "SERIAL", "flat", "is_for_numpy", "is_rule", "least", "plain"]

BLOCK = 8192  # elements a thread takes at a time
SERIAL = 4 * BLOCK  # elements below which waking the other threads costs more than they save
# From how many float32 on a compiled kernel is worth its call, of 3 us: NumPy was quicker with half as many
# (one thread). What is not named is worth it at any size. LINEAR never is: NumPy returns the array itself.
LINEAR = {"linear": sys.maxsize, "linear_backward": sys.maxsize}
LEAST_AVX512 = LINEAR | {
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
LEAST_AVX2 = LINEAR | {
    "batch_norm_backward_parameters": 4096,
    "exponential": 4096,
    "exponential_backward": 1 << 20,
    "hard_sigmoid_backward": 256,
    "hyperbolic_tangent": 2048,
    "hyperbolic_tangent_backward": 4096,
    "leaky_relu_backward": 256,
    "relu": 4096,
    "relu_backward": 512,
    "sgd": 512,
    "sigmoid_backward": 4096,
    "softsign": 16384,
    "softsign_backward": 1024,
}
LEAST = dict(LEAST_AVX512 if REGISTER_BYTES == 64 else LEAST_AVX2)


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
    name = function.__name__
    return getattr(rules, name, None) is function or getattr(more_rules, name, None) is function


def plain(array):
    """The array, copied where it is strided or read-only: each would be another type to compile for."""
    array = np.asarray(array)
    return array if array.flags.c_contiguous and array.flags.writeable else array.copy(order="C")


def flat(array):
    """All numbers of ``plain(array)`` in a row."""
    numbers = array.ravel()
    return numbers if numbers.flags.writeable else numbers.copy()
