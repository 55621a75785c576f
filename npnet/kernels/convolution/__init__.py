"""Convolution and pooling, compiled: the functions of ``reference/convolution.py`` and ``pooling.py``.

Names, arguments and results are those of the textbook, where the mathematics is explained. Windows of 3 x 3
with strides of 1 go through Winograd's convolution where that is faster, which follows from the shape alone,
and through the definition again if its result is not finite: infinities then end where they do in the
textbook.
"""

import numpy as np

from npnet.kernels import reference
from npnet.kernels.convolution import direct, direct_gradient, winograd, winograd_gradient
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
    x, weight, bias = _plain(x), _plain(weight), None if bias is None else _plain(bias)
    y = None
    if winograd.suits(geometry, *weight.shape[2:], geometry.places):
        y = winograd.forward(x, weight, bias, geometry)
    return direct.forward(x, weight, bias, geometry) if y is None else y


def convolution_backward_parameters(x, dy, geometry):
    """dW = x[at]' dy for each tap,  db = sum of dy."""
    x, dy = _plain(x), _plain(dy)
    gradients = None
    if winograd.suits(geometry, x.shape[-1], dy.shape[-1], geometry.places):
        gradients = winograd_gradient.backward_parameters(x, dy, geometry)
    return direct_gradient.backward_parameters(x, dy, geometry) if gradients is None else gradients


def convolution_backward_input(dy, weight, geometry):
    """dx = the sum over taps of dy W[tap]', laid where x[at] was."""
    if not np.isfinite(weight).all():  # times zero in the border they would be NaN where there is no pixel
        return reference.convolution_backward_input(dy, weight, geometry)
    dy, weight = _plain(dy), _plain(weight)
    dx = None
    if winograd.suits(geometry, *weight.shape[2:], geometry.size):
        dx = winograd.backward_input(dy, weight, geometry)
    return direct.backward_input(dy, weight, geometry) if dx is None else dx


def _plain(array):
    """The array, copied where it is strided or read-only: each would be another type to compile for."""
    return np.require(array, requirements=("C", "W"))
