"""Convolution and pooling, compiled: the functions of ``reference/convolution.py`` and ``pooling.py``.

Names, arguments and results are those of the textbook, where the mathematics is explained.
"""

import numpy as np

from npnet.kernels import reference
from npnet.kernels.convolution import direct, direct_gradient
from npnet.kernels.convolution.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
)

__all__ = [
    "average_pool_backward",
    "average_pool_forward",
    "convolution_backward_input",
    "convolution_backward_parameters",
    "convolution_forward",
    "max_pool_backward",
    "max_pool_forward",
]


def convolution_forward(x, weight, bias, geometry):
    """y = sum over taps of x[at] W[tap], plus b; x[at] are the pixels under a tap."""
    x, weight = _plain(x), _plain(weight)
    return direct.forward(x, weight, None if bias is None else _plain(bias), geometry)


def convolution_backward_parameters(x, dy, geometry):
    """dW = x[at]' dy for each tap,  db = sum of dy."""
    return direct_gradient.backward_parameters(_plain(x), _plain(dy), geometry)


def convolution_backward_input(dy, weight, geometry):
    """dx = the sum over taps of dy W[tap]', laid where x[at] was."""
    if not np.isfinite(weight).all():  # times zero in the border they would be NaN where there is no pixel
        return reference.convolution_backward_input(dy, weight, geometry)
    return direct.backward_input(_plain(dy), _plain(weight), geometry)


def _plain(array):
    """The array, copied where it is strided or read-only: each would be another type to compile for."""
    return np.require(array, requirements=("C", "W"))
