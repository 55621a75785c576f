"""Further losses: of one element, of one row, and cross-entropies that care less about what is right already.

t is the target, y the prediction. The first part works element by element, and a loss is the mean over a
sample's outputs; the functions of the other parts return one number a sample (N,), and their ``_backward``
its derivative by y (N, K). Both kernel sets use these as they are.
"""

import numpy as np

from npnet.kernels.reference.losses import PROBABILITY_CLIP

__all__ = [
    "binary_focal_backward",
    "binary_focal_forward",
    "categorical_hinge_backward",
    "categorical_hinge_forward",
    "cosine_similarity_backward",
    "cosine_similarity_forward",
    "focal_backward",
    "focal_forward",
    "hinge",
    "hinge_slope",
    "huber",
    "huber_slope",
    "kl_divergence_backward",
    "kl_divergence_forward",
    "log_cosh",
    "log_cosh_slope",
    "percentage_error",
    "percentage_error_slope",
    "poisson",
    "poisson_slope",
    "squared_hinge",
    "squared_hinge_slope",
    "squared_logarithmic_error",
    "squared_logarithmic_error_slope",
]

EPSILON = 1e-7  # Keras's: what keeps logarithms and divisions finite
LEAST_SQUARE = 1e-14  # of a vector that is divided by its length, as in Keras

# --- of one element: f(t, y), and beside it its slope, df/dy ------------------------------------------------


def huber(t, y, delta):
    """f = e^2 / 2 where |e| <= delta, else delta |e| - delta^2 / 2, with e = y - t  (Huber 1964)"""
    error = np.abs(y - t)
    return np.where(error <= delta, error * error / 2, delta * error - delta * delta / 2)


def huber_slope(t, y, delta):
    """df/dy = e, kept between -delta and delta"""
    return np.clip(y - t, -delta, delta)


def log_cosh(t, y):
    """f = log cosh e = |e| + log(1 + e^(-2|e|)) - log 2, with e = y - t"""
    error = np.abs(y - t)
    return error + np.log1p(np.exp(-2 * error)) - np.log(error.dtype.type(2))


def log_cosh_slope(t, y):
    """df/dy = tanh e"""
    return np.tanh(y - t)


def percentage_error(t, y):
    """f = 100 |y - t| / max(|t|, 1e-7)"""
    return 100 * np.abs(y - t) / np.maximum(np.abs(t), EPSILON)


def percentage_error_slope(t, y):
    """df/dy = 100 sign(y - t) / max(|t|, 1e-7)"""
    return 100 * np.sign(y - t) / np.maximum(np.abs(t), EPSILON)


def squared_logarithmic_error(t, y):
    """f = (log(1 + y) - log(1 + t))^2, where y and t below 1e-7 count as 1e-7"""
    return np.square(np.log1p(np.maximum(y, EPSILON)) - np.log1p(np.maximum(t, EPSILON)))


def squared_logarithmic_error_slope(t, y):
    """df/dy = 2 (log(1 + y) - log(1 + t)) / (1 + y), 0 where y is below 1e-7"""
    difference = np.log1p(np.maximum(y, EPSILON)) - np.log1p(np.maximum(t, EPSILON))
    return np.where(y < EPSILON, 0, 2 * difference / (1 + np.maximum(y, EPSILON)))


def poisson(t, y):
    """f = y - t log(y + 1e-7): -log of the probability of a count t whose mean is y, without log(t!)"""
    return y - t * np.log(y + EPSILON)


def poisson_slope(t, y):
    """df/dy = 1 - t / (y + 1e-7)"""
    return 1 - t / (y + EPSILON)


def hinge(t, y):
    """f = max(1 - t y, 0) for t = -1 or 1"""
    return np.maximum(1 - t * y, 0)


def hinge_slope(t, y):
    """df/dy = -t where t y < 1, else 0"""
    return np.where(t * y < 1, -t, 0)


def squared_hinge(t, y):
    """f = max(1 - t y, 0)^2 for t = -1 or 1"""
    return np.square(hinge(t, y))


def squared_hinge_slope(t, y):
    """df/dy = -2 t max(1 - t y, 0)"""
    return -2 * t * hinge(t, y)


# --- of one row ---------------------------------------------------------------------------------------------


def categorical_hinge_forward(t, y):
    """L[n] = max(1 + max_k (1 - t_k) y_k - sum_k t_k y_k, 0): the best wrong output against the right one."""
    return np.maximum(1 + ((1 - t) * y).max(axis=-1) - (t * y).sum(axis=-1), 0)


def categorical_hinge_backward(t, y):
    """dy_k = (1 - t_k) [k is the best wrong one] - t_k where L > 0, else 0."""
    wrong = (1 - t) * y
    best = np.arange(y.shape[-1]) == wrong.argmax(axis=-1)[..., None]
    active = (categorical_hinge_forward(t, y) > 0)[..., None]
    return np.where(active, np.where(best, 1 - t, 0) - t, 0)


def kl_divergence_forward(t, y):
    """L[n] = sum_k t_k log(t_k / y_k), t and y kept inside [1e-7, 1]  (Kullback & Leibler 1951)."""
    t, y = np.clip(t, EPSILON, 1), np.clip(y, EPSILON, 1)
    return (t * np.log(t / y)).sum(axis=-1)


def kl_divergence_backward(t, y):
    """dy_k = -t_k / y_k, 0 where y_k > 1. The lower bound limits 1 / y but does not stop it."""
    return np.where(y > 1, 0, -np.clip(t, EPSILON, 1) / np.clip(y, EPSILON, 1))


def cosine_similarity_forward(t, y):
    """L[n] = -cos(t, y) = -sum_k u_k v_k with u = t / |t|, v = y / |y|: -1 where both point the same way."""
    return -(_unit(t) * _unit(y)).sum(axis=-1)


def cosine_similarity_backward(t, y):
    """dy = -(u - v (u'v)) / |y|: what of u is not along y. (u is divided by at least 1e-7).

    ∂v_j/∂y_k = ([j=k] - v_j v_k) / |y|
    """
    u, v = _unit(t), _unit(y)
    square = np.square(y).sum(axis=-1, keepdims=True)
    along = np.where(square < LEAST_SQUARE, 0, v * (u * v).sum(axis=-1, keepdims=True))
    return (along - u) / np.sqrt(np.maximum(square, LEAST_SQUARE))


def _unit(x):
    return x / np.sqrt(np.maximum(np.square(x).sum(axis=-1, keepdims=True), LEAST_SQUARE))


# --- focal cross-entropies (Lin et al. 2017): w(p) = (1 - p)^gamma weighs each probability's term -----------


def focal_forward(t, p, alpha, gamma):
    """L[n] = -sum_k alpha_k t_k (1 - p_k)^gamma log p_k, p inside [1e-7, 1 - 1e-7]."""
    p = np.clip(p, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)
    return -(alpha * t * (1 - p) ** gamma * np.log(p)).sum(axis=-1)


def focal_backward(t, p, alpha, gamma):
    """g_k = p_k ∂L/∂p_k = alpha_k t_k (gamma (1 - p_k)^(gamma-1) p_k log p_k - (1 - p_k)^gamma).

    Times p_k, so that nothing is lost where p underflows. Softmax turns it into dz_k = g_k - p_k sum_j g_j,
    and y that is divided by its sum into dy_k = g_k / y_k - sum_j g_j / sum_j y_j.
    """
    p = np.clip(p, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)
    return alpha * t * (gamma * (1 - p) ** (gamma - 1) * p * np.log(p) - (1 - p) ** gamma)


def binary_focal_forward(t, p, weight, gamma):
    """L[n] = mean over outputs of weight (1 - q)^gamma b, b the cross-entropy and q = t p + (1-t) (1-p)."""
    q = t * p + (1 - t) * (1 - p)
    return (weight * (1 - q) ** gamma * _binary_cross_entropy(t, p)).mean(axis=-1)


def binary_focal_backward(t, p, weight, gamma):
    """g = p (1-p) ∂L/∂p = weight ((1-q)^gamma (p - t) - gamma (1-q)^(gamma-1) (2t-1) p (1-p) b) / outputs.

    Times p (1-p), sigmoid's derivative, so that nothing is lost where p is 0 or 1.
    """
    q = t * p + (1 - t) * (1 - p)
    rest = np.maximum(1 - q, PROBABILITY_CLIP)
    falling = gamma * rest ** (gamma - 1) * (2 * t - 1) * p * (1 - p) * _binary_cross_entropy(t, p)
    return weight * ((1 - q) ** gamma * (p - t) - falling) / p.shape[-1]


def _binary_cross_entropy(t, p):
    p = np.clip(p, PROBABILITY_CLIP, 1 - PROBABILITY_CLIP)
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))
