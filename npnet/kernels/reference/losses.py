"""Losses: forward gives one number a sample (N,), backward its derivative (N, K).

``npnet/losses.py`` makes one number of them: it multiplies by sample weights and divides by N, both ways.
"""

import numpy as np

from npnet.kernels.reference.layers import log_softmax_forward, softmax_forward

__all__ = [
    "PROBABILITY_CLIP",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "mean_absolute_error_backward",
    "mean_absolute_error_forward",
    "mean_squared_error_backward",
    "mean_squared_error_forward",
    "sigmoid_cross_entropy_backward",
    "sigmoid_cross_entropy_forward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]

PROBABILITY_CLIP = 1e-7  # Keras's epsilon: reported probabilities are kept inside [1e-7, 1 - 1e-7]


def cross_entropy_forward(y_true, y_pred):
    """L[n] = -sum_k t[n,k] log p[n,k] with p = y_pred / sum(y_pred), clipped to [1e-7, 1 - 1e-7]."""
    p = y_pred / y_pred.sum(axis=-1, keepdims=True)
    return -(y_true * np.log(np.clip(p, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP))).sum(axis=-1)


def cross_entropy_backward(y_true, y_pred):
    """dq_k = -t_k / q_k + sum_j t_j / sum_j q_j, where q = y_pred, which need not sum to one.

    L = -sum_k t_k log p_k = -sum_k t_k (log q_k - log sum_j q_j). The clip bounds 1/q but does not stop it:
    a confident mistake must still learn.
    """
    total = y_pred.sum(axis=-1, keepdims=True)
    return y_true.sum(axis=-1, keepdims=True) / total - y_true / np.maximum(y_pred, PROBABILITY_CLIP * total)


def softmax_cross_entropy_forward(y_true, logits):
    """L[n] = -sum_k t[n,k] log softmax(logits)[n,k], with 0 log 0 = 0.  Returns L and the probabilities."""
    log_p = log_softmax_forward(logits)
    log_p = np.where((y_true == 0) & (log_p == -np.inf), 0, log_p)
    return -(y_true * log_p).sum(axis=-1), softmax_forward(logits)


def softmax_cross_entropy_backward(y_true, probabilities):
    """dlogits = p sum_j t_j - t,  which is p - t for targets that sum to one.

    Put dy = cross_entropy_backward, where sum_j p_j = 1, into softmax_backward:
    sum_j dy_j p_j = 0, so dlogits_k = p_k dy_k = p_k (-t_k/p_k + sum_j t_j) = p_k sum_j t_j - t_k.
    The division by p has cancelled, so this holds where p has underflowed to 0.
    """
    return probabilities * y_true.sum(axis=-1, keepdims=True) - y_true


def binary_cross_entropy_forward(y_true, y_pred):
    """L[n] = mean over outputs of -t log p - (1-t) log(1-p), p clipped to [1e-7, 1 - 1e-7]."""
    p = np.clip(y_pred, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)
    return -(y_true * np.log(p) + (1 - y_true) * np.log(1 - p)).mean(axis=-1)


def binary_cross_entropy_backward(y_true, y_pred):
    """dp = (p - t) / (p (1 - p)) / outputs, from -t/p + (1-t)/(1-p)."""
    p = np.clip(y_pred, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)
    return (p - y_true) / (p * (1 - p)) / y_pred.shape[-1]


def sigmoid_cross_entropy_forward(y_true, logits):
    """L[n] = mean over outputs of max(z, 0) - t z + log(1 + e^-|z|): the above with p = sigmoid(z)."""
    z = logits
    return (np.maximum(z, 0) - y_true * z + np.log1p(np.exp(-np.abs(z)))).mean(axis=-1)


def sigmoid_cross_entropy_backward(y_true, probabilities):
    """dlogits = (p - t) / outputs: sigmoid's derivative p (1-p) cancels the denominator."""
    return (probabilities - y_true) / probabilities.shape[-1]


def mean_squared_error_forward(y_true, y_pred):
    """L[n] = mean over outputs of (y_pred - y_true)^2."""
    return np.square(y_pred - y_true).mean(axis=-1)


def mean_squared_error_backward(y_true, y_pred):
    """dy_pred = 2 (y_pred - y_true) / outputs."""
    return 2 * (y_pred - y_true) / y_pred.shape[-1]


def mean_absolute_error_forward(y_true, y_pred):
    """L[n] = mean over outputs of |y_pred - y_true|."""
    return np.abs(y_pred - y_true).mean(axis=-1)


def mean_absolute_error_backward(y_true, y_pred):
    """dy_pred = sign(y_pred - y_true) / outputs."""
    return np.sign(y_pred - y_true) / y_pred.shape[-1]
