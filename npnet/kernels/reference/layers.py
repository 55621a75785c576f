"""Layers: the affine map, activations, normalisation."""

import numpy as np

__all__ = [
    "batch_norm_backward_input",
    "batch_norm_backward_parameters",
    "batch_norm_forward",
    "dense_backward_input",
    "dense_backward_parameters",
    "dense_forward",
    "elementwise",
    "log_softmax_backward",
    "log_softmax_forward",
    "multiply_bfloat16",
    "normalize_rows_backward",
    "normalize_rows_forward",
    "softmax_backward",
    "softmax_forward",
    "to_bfloat16",
]

# --- dense: y = x W + b -----------------------------------------------------------------------------------


def dense_forward(x, weight, bias):
    """y = x W + b:  (N, M) = (N, D) (D, M) + (M,).  ``bias`` may be None."""
    y = x @ weight
    if bias is not None:
        y += bias
    return y


def dense_backward_parameters(x, dy):
    """How should I change?  dW = x' dy (D, M),  db = column sums of dy (M,).

    y[n,j] = sum_i x[n,i] W[i,j] + b[j]   =>   ∂y[n,j]/∂W[i,j] = x[n,i]   and   ∂y[n,j]/∂b[j] = 1
    dW[i,j] = sum_n ∂y[n,j]/∂W[i,j] dy[n,j] = sum_n x[n,i] dy[n,j]   =>   dW = x' dy
    db[j]   = sum_n dy[n,j]
    """
    return x.T @ dy, dy.sum(axis=0)


def dense_backward_input(dy, weight):
    """Whom do I blame?  dx = dy W'  (N, D).

    dx[n,i] = sum_j ∂y[n,j]/∂x[n,i] dy[n,j] = sum_j W[i,j] dy[n,j]
    """
    return dy @ weight.T


# --- mixed precision: what is multiplied is rounded first, see kernels/mixed.py -----------------------------


def to_bfloat16(x):
    """y = x rounded to the nearest bfloat16, a float32 of 8 significant bits; to the even one of two.

    A bfloat16 is the upper half of a float32: its sign, its 8 bits of exponent and 7 of 23 bits of fraction.
    Adding a little less than half of the last bit that stays, or exactly half where that bit is 1, carries
    into the upper half where it is to be rounded up; what is too large so becomes infinite. Infinities stay.
    NaN stays NaN: a bit of its upper half is set, for all that are set may lie in the lower one.
    """
    bits = np.asarray(x, np.float32).view(np.uint32)
    nearest = bits + (0x7FFF + (bits >> 16 & 1))
    return (np.where(np.isnan(x), bits | 0x00400000, nearest) & 0xFFFF0000).view(np.float32)


def multiply_bfloat16(a, b):
    """C = A B of operands that are rounded, summed in float32."""
    return to_bfloat16(a) @ to_bfloat16(b)


# --- activations -----------------------------------------------------------------------------------------


def elementwise(rule, *operands):
    """Apply a function of ``rules`` to arrays and numbers: ``elementwise(rules.relu_backward, dy, y)``."""
    return rule(*operands)


def softmax_forward(x):
    """y[n,k] = e^x[n,k] / sum_j e^x[n,j], shifted by the row's maximum so that nothing overflows.

    The shift changes nothing: e^(x-c) / sum e^(x-c) = e^x / sum e^x. Rows are the last axis.

    In rows of up to 1000 numbers y is within (max x - x + 16) u of the exact value, relatively, however far
    from 0 the row lies; u is the rounding error, 2^-24 in float32 and 2^-53 in float64.
    """
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def softmax_backward(dy, y):
    """dx = y (dy - sum_j dy_j y_j), the product with the full Jacobian.

    ∂y_j/∂x_k = y_j ([j=k] - y_k)   ([j=k] is 1 where j = k, else 0)
    dx_k = sum_j ∂y_j/∂x_k dy_j = sum_j y_j ([j=k] - y_k) dy_j = y_k (dy_k - sum_j dy_j y_j)
    """
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def log_softmax_forward(x):
    """y = x - log sum_j e^x[j], with the row's maximum taken out of the sum first.

    In rows of up to 1000 numbers y is within 12 u max(1, |y|) of the exact value, however far from 0 the row
    lies. That asks for (x - maximum) - log sum: x - (maximum + log sum) would round the second term to the
    digits that a number as large as the maximum has.
    """
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_softmax_backward(dy, y):
    """dx = dy - e^y sum_j dy_j.

    ∂y_j/∂x_k = [j=k] - softmax(x)_k   and   softmax(x) = e^y
    """
    return dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


# --- batch normalisation: columns of (N, C) ---------------------------------------------------------------


def batch_norm_forward(x, gamma, beta, epsilon):
    """y = gamma z + beta with z = (x - mean) / sqrt(variance + epsilon), column by column.

    Returns y, z, the batch's mean and (biased) variance, as Ioffe & Szegedy 2015 define them.
    """
    mean = x.mean(axis=0)
    variance = np.square(x - mean).mean(axis=0)
    normalized = (x - mean) / np.sqrt(variance + epsilon)
    return gamma * normalized + beta, normalized, mean, variance


def batch_norm_backward_parameters(dy, normalized):
    """dgamma = column sums of dy z,  dbeta = column sums of dy."""
    return (dy * normalized).sum(axis=0), dy.sum(axis=0)


def batch_norm_backward_input(dy, normalized, gamma, variance, epsilon, means=None):
    """dx = gamma / s (dy - mean(dy) - z mean(dy z)),  s = sqrt(variance + epsilon).

    x reaches z directly, through the mean and through the variance, one term each:
    ∂z[m]/∂x[n] = ([m=n] - 1/N - z[m] z[n] / N) / s. Summed over m with dz = gamma dy, the second takes out
    the mean of dy, the third its part along z.

    ``means`` are mean(dy) and mean(dy z) where dy is only a part of the batch.
    """
    mean, along = (dy.mean(axis=0), (dy * normalized).mean(axis=0)) if means is None else means
    return gamma / np.sqrt(variance + epsilon) * (dy - mean - normalized * along)


# --- layer and group normalisation: rows of (R, K) ----------------------------------------------------------


def normalize_rows_forward(x, epsilon):
    """z = (x - mean) / s with s = sqrt(variance + epsilon), row by row.

    The variance is the biased one. Returns z and s (R, 1).
    """
    centered = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centered).mean(axis=1, keepdims=True) + epsilon)
    return centered / deviation, deviation


def normalize_rows_backward(dz, normalized, deviation):
    """dx = (dz - mean(dz) - z mean(dz z)) / s, as in batch normalisation, but along rows."""
    along = normalized * (dz * normalized).mean(axis=1, keepdims=True)
    return (dz - dz.mean(axis=1, keepdims=True) - along) / deviation
