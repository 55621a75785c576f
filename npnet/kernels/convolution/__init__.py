"""Convolution and pooling, compiled: the functions of ``reference/convolution.py`` and ``pooling.py``.

Names, arguments and results are those of the textbook, where the mathematics is explained. Windows of 3 x 3
with strides of 1 go through Winograd's convolution where that is faster, which follows from the shape alone,
and through the definition again if its result is not finite: infinities then end where they do in the
textbook.
"""

import numpy as np

from npnet.kernels import reference
from npnet.kernels.convolution import depthwise, direct, direct_gradient, winograd, winograd_gradient
from npnet.kernels.convolution.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from npnet.kernels.products.blocked import multiply

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
    (channels, filters), y = weight.shape[2:], None
    if _is_dense(geometry):
        return multiply(x.reshape(-1, channels), weight[0, 0], bias).reshape(*x.shape[:3], filters)
    if _is_depthwise(geometry, channels):
        if not np.isfinite(weight).all():  # times zero in the border they are NaN
            return reference.convolution_forward(x, weight, bias, geometry)
        several = filters // geometry.groups
        if several > 1:
            parts = [
                convolution_forward(
                    x, weight[..., k::several], None if bias is None else bias[k::several], geometry
                )
                for k in range(several)
            ]
            return _interleaved(parts)
    if winograd.suits(geometry, channels, filters, geometry.places):
        y = winograd.forward(x, weight, bias, geometry)
    return direct.forward(x, weight, bias, geometry) if y is None else y


def convolution_backward_parameters(x, dy, geometry):
    """dW = x[at]' dy for each tap,  db = sum of dy."""
    x, dy = _plain(x), _plain(dy)
    channels, filters, gradients = x.shape[-1], dy.shape[-1], None
    if _is_dense(geometry):
        pixels, dy = x.reshape(-1, channels), dy.reshape(-1, filters)
        return multiply(pixels.T, dy).reshape(1, 1, channels, filters), dy.sum(axis=0)
    if _is_depthwise(geometry, channels // geometry.groups):
        several = filters // geometry.groups
        if several > 1:
            parts = [
                convolution_backward_parameters(x, dy[..., k::several], geometry) for k in range(several)
            ]
            return tuple(_interleaved(part) for part in zip(*parts, strict=True))
        gradients = depthwise.backward_parameters(x, dy, geometry)
        if not np.isfinite(gradients[1]).all():  # an infinite dy times zero in the border is NaN
            return reference.convolution_backward_parameters(x, dy, geometry)
    elif winograd.suits(geometry, channels, filters, geometry.places):
        gradients = winograd_gradient.backward_parameters(x, dy, geometry)
    return direct_gradient.backward_parameters(x, dy, geometry) if gradients is None else gradients


def convolution_backward_input(dy, weight, geometry):
    """dx = the sum over taps of dy W[tap]', laid where x[at] was."""
    if not np.isfinite(weight).all():  # times zero in the border they would be NaN where there is no pixel
        return reference.convolution_backward_input(dy, weight, geometry)
    dy, weight = _plain(dy), _plain(weight)
    (channels, filters), dx = weight.shape[2:], None
    if _is_dense(geometry):
        return multiply(dy.reshape(-1, filters), weight[0, 0].T).reshape(*dy.shape[:3], channels)
    several = filters // geometry.groups
    if _is_depthwise(geometry, channels) and several > 1:
        return sum(
            convolution_backward_input(dy[..., k::several], weight[..., k::several], geometry)
            for k in range(several)
        )
    if winograd.suits(geometry, channels, filters, geometry.size):
        dx = winograd.backward_input(dy, weight, geometry)
    return direct.backward_input(dy, weight, geometry) if dx is None else dx


def _is_dense(geometry):
    """Whether each pixel goes through a dense layer by itself."""
    ones = (1, 1)
    return geometry[1:] == (ones, ones, geometry.dilation, ((0, 0), (0, 0)), 1)


def _is_depthwise(geometry, channels):
    """Whether each group has one channel. Several filters of it are then convolutions of one each."""
    return channels == 1 < geometry.groups


def _interleaved(parts):
    """Arrays (..., C) of the first, the second, ... filter of each channel as one (..., filters)."""
    joined = np.stack(parts, axis=-1)
    return joined.reshape(*joined.shape[:-2], -1)


def _plain(array):
    """The array, copied where it is strided or read-only: each would be another type to compile for."""
    return np.require(array, requirements=("C", "W"))
