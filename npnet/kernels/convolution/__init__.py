"""Convolution and pooling, compiled: the functions of ``reference/convolution.py`` and ``pooling.py``.

Names, arguments and results are those of the textbook, where the mathematics is explained. Windows of 3 x 3
with strides of 1 go through Winograd's convolution where that is faster, which follows from the shape alone,
and through the definition again if its result is not finite: infinities then end where they do in the
textbook.

With an ``Epilogue`` an activation, its derivative, or pooling is computed while the sums are at hand, and the
results are written into an array that is there already.
"""

import numpy as np

from npnet.kernels import reference
from npnet.kernels.convolution import depthwise, direct, direct_gradient, winograd, winograd_gradient
from npnet.kernels.convolution.epilogue import PLAIN, Epilogue
from npnet.kernels.convolution.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
    unpool,
)
from npnet.kernels.geometry import Geometry
from npnet.kernels.products.blocked import multiply

__all__ = [
    "Epilogue",
    "average_pool_backward",
    "average_pool_forward",
    "convolution_backward_input",
    "convolution_backward_parameters",
    "convolution_forward",
    "convolve",
    "convolve_back",
    "max_pool_backward",
    "max_pool_forward",
    "pools",
    "takes_epilogue",
    "unpool",
]

WINDOW_OF_TWO = Geometry((0, 0), (2, 2), (2, 2), (1, 1), ((0, 0), (0, 0)), 1)


def takes_epilogue(geometry, channels):
    """Whether convolutions of so many channels can have an epilogue: those that are not of another kind."""
    return not (_is_dense(geometry) or _is_depthwise(geometry, channels // geometry.groups))


def pools(geometry, channels, filters):
    """Whether an epilogue can have max pooling."""
    return winograd.suits(geometry, channels, filters, geometry.places)


def convolution_forward(x, weight, bias, geometry):
    """y = sum over taps of x[at] W[tap], plus b; x[at] are the pixels under a tap."""
    return convolve(x, weight, bias, geometry)


def convolve(x, weight, bias, geometry, epilogue=PLAIN, y=None):
    """What the epilogue makes of ``convolution_forward``, into ``y``, where ``takes_epilogue`` says so."""
    x, weight, bias = _plain(x), _plain(weight), None if bias is None else _plain(bias)
    channels, filters = weight.shape[2:]
    if _is_dense(geometry):
        return multiply(x.reshape(-1, channels), weight[0, 0], bias).reshape(*x.shape[:3], filters)
    if _is_depthwise(geometry, channels):
        if not np.isfinite(weight).all():  # times zero in the border they are NaN
            return reference.convolution_forward(x, weight, bias, geometry)
        several = filters // geometry.groups
        if several > 1:
            parts = [
                convolve(x, weight[..., k::several], None if bias is None else bias[k::several], geometry)
                for k in range(several)
            ]
            return _interleaved(parts)
    if y is None:
        y = np.empty((len(x), *geometry.places, filters), x.dtype)
    if not (
        winograd.suits(geometry, channels, filters, geometry.places)
        and winograd.forward(x, weight, bias, geometry, epilogue, y)
    ):
        if epilogue.pool is None:
            direct.forward(x, weight, bias, geometry, epilogue, y)
        else:
            _forward_and_pool(x, weight, bias, geometry, epilogue, y)
    return y


def _forward_and_pool(x, weight, bias, geometry, epilogue, y):
    """Compute ``convolve`` with pooling by the definition, operation by operation."""
    whole = np.empty((len(x), *geometry.places, weight.shape[-1]), x.dtype)
    windows = WINDOW_OF_TWO._replace(size=geometry.places)
    if epilogue.pool == "results":
        direct.forward(x, weight, bias, geometry, epilogue._replace(pool=None, taken=None), whole)
        largest, taken = max_pool_forward(whole, windows)
        y[...] = largest
    else:
        direct.forward(x, weight, None, geometry, PLAIN, whole)
        largest, taken = max_pool_forward(whole, windows)
        numbers = largest * (1 if epilogue.scale is None else epilogue.scale) + (0 if bias is None else bias)
        if epilogue.beside is not None:
            epilogue.beside[...] = numbers
        y[...] = reference.elementwise(epilogue.rule, numbers, *epilogue.constants)
    if epilogue.taken is not None:
        epilogue.taken[...] = taken


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
    return convolve_back(dy, weight, geometry)


def convolve_back(dy, weight, geometry, epilogue=PLAIN, dx=None):
    """What the epilogue makes of ``convolution_backward_input``, into ``dx``, where it can have one."""
    if not np.isfinite(weight).all():  # times zero in the border they would be NaN where there is no pixel
        result = reference.convolution_backward_input(dy, weight, geometry)
        if dx is None:
            return result
        beside = () if epilogue.beside is None else (epilogue.beside,)
        dx[...] = reference.elementwise(epilogue.rule, result, *beside, *epilogue.constants)
        return dx
    dy, weight = _plain(dy), _plain(weight)
    channels, filters = weight.shape[2:]
    if _is_dense(geometry):
        return multiply(dy.reshape(-1, filters), weight[0, 0].T).reshape(*dy.shape[:3], channels)
    several = filters // geometry.groups
    if _is_depthwise(geometry, channels) and several > 1:
        return sum(
            convolve_back(dy[..., k::several], weight[..., k::several], geometry) for k in range(several)
        )
    if dx is None:
        dx = np.empty((len(dy), *geometry.size, channels * geometry.groups), dy.dtype)
    if not (
        winograd.suits(geometry, channels, filters, geometry.size)
        and winograd.backward_input(dy, weight, geometry, epilogue, dx)
    ):
        direct.backward_input(dy, weight, geometry, epilogue, dx)
    return dx


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
