"""Convolution: a sum over taps of a shifted picture times a small matrix.

    y[n,i,j,f] = b[f] + sum over p, q, c of  x[n, i s + p d - a, j s + q d - a, c] W[p,q,c,f]

with the window's taps (p, q), strides s, dilation d and a pixels of zeros before the picture; see
``kernels/geometry.py``. Arrays: x (N, H, W, C), filters W (kh, kw, C/groups, F), b (F,), y (N, H', W', F).
For a fixed tap this is x, shifted and thinned out, times the matrix W[p,q]: a dense layer on every pixel.

The channels may be divided into groups. Filter f belongs to group f // (F/groups) and sees the C/groups
channels of that group. In here arrays have an axis of groups at the front, so that ``@`` multiplies group by
group.
"""

import numpy as np

from npnet.kernels.geometry import taps

__all__ = [
    "convolution_backward_input",
    "convolution_backward_parameters",
    "convolution_forward",
]


def convolution_forward(x, weight, bias, geometry):
    """y = sum over taps of x[at] W[tap], plus b; x[at] are the pixels under a tap.  ``bias`` may be None."""
    x, weight = _by_group(_padded(x, geometry), geometry), _filters_by_group(weight, geometry)
    y = np.zeros((*x.shape[:2], *geometry.places, weight.shape[-1]), x.dtype)
    for tap, (rows, columns) in taps(geometry):
        y += x[:, :, rows, columns] @ weight[tap]
    y = _joined(y)
    return y if bias is None else y + bias


def convolution_backward_parameters(x, dy, geometry):
    """How should I change?  dW = x[at]' dy for each tap (kh, kw, C/groups, F),  db = sum of dy (F,).

    ∂y[n,i,j,f]/∂W[p,q,c,f] = x[n, i s + p d - a, j s + q d - a, c], so
    dW[p,q,c,f] = sum over n, i, j of  x[n, i s + p d - a, j s + q d - a, c] dy[n,i,j,f]:
    for each tap a dense layer's x' dy, with every place of the window in every picture as a sample.
    """
    x, dy = _by_group(_padded(x, geometry), geometry), _by_group(dy, geometry)
    groups, channels, filters = len(x), x.shape[-1], dy.shape[-1]
    dweight = np.empty((*geometry.kernel, channels, groups, filters), x.dtype)
    for tap, (rows, columns) in taps(geometry):
        under = x[:, :, rows, columns].reshape(groups, -1, channels)
        dweight[tap] = (under.mT @ dy.reshape(groups, -1, filters)).swapaxes(0, 1)
    return dweight.reshape(*geometry.kernel, channels, -1), dy.sum(axis=(1, 2, 3)).reshape(-1)


def convolution_backward_input(dy, weight, geometry):
    """Whom do I blame?  dx = the sum over taps of dy W[tap]', laid where x[at] was  (N, H, W, C).

    x[n,u,v,c] reaches y[n,i,j,f] through the tap (p, q) with u = i s + p d - a and v = j s + q d - a, if
    there is one, and ∂y/∂x is W[p,q,c,f] then. So each tap gives dy W[p,q]' back to the pixels it was taken
    from.

    (With strides of 1 this is a convolution too: of dy, with the filters turned by 180 degrees.)
    """
    dy, weight = _by_group(dy, geometry), _filters_by_group(weight, geometry)
    (above, below), (left, right) = geometry.padding
    height, width = geometry.size
    channels = weight.shape[-2]
    dx = np.zeros((*dy.shape[:2], above + height + below, left + width + right, channels), dy.dtype)
    for tap, (rows, columns) in taps(geometry):
        dx[:, :, rows, columns] += dy @ weight[tap].mT
    return _joined(dx[:, :, above : above + height, left : left + width])


def _padded(x, geometry):
    """x with zeros around it."""
    return np.pad(x, ((0, 0), *geometry.padding, (0, 0)))


def _by_group(x, geometry):
    """(N, H, W, C) -> (groups, N, H, W, C/groups)."""
    return np.moveaxis(x.reshape(*x.shape[:3], geometry.groups, x.shape[3] // geometry.groups), 3, 0)


def _filters_by_group(weight, geometry):
    """(kh, kw, C/groups, F) -> (kh, kw, groups, 1, 1, C/groups, F/groups): [tap] fits the pixels' axes."""
    weight = weight.reshape(*weight.shape[:3], geometry.groups, -1)
    return weight.swapaxes(2, 3)[:, :, :, None, None]


def _joined(y):
    """(groups, N, H, W, F/groups) -> (N, H, W, F)."""
    y = np.moveaxis(y, 0, 3)
    return y.reshape(*y.shape[:3], y.shape[3] * y.shape[4])
