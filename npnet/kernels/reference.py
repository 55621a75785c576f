"""THE TEXTBOOK: every forward, every backward and every update of npnet as a function of arrays.

Shapes: N samples in the batch, D inputs, M units, K classes. Every gradient ``dname`` is d loss / d name
and has the shape of ``name``; any other derivative, of one quantity by another, is written ∂a/∂b.
Nothing here changes its arguments, except ``update``, whose job it is.
The formulas of single elements (relu, rmsprop, ...) are in ``rules.py``.

``parallel.py`` holds the same functions, compiled. Both sets pass the same tests.
"""

import numpy as np

PROBABILITY_CLIP = 1e-7  # Keras's epsilon: reported probabilities are kept inside [1e-7, 1 - 1e-7]


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


# --- activations -----------------------------------------------------------------------------------------


def elementwise(rule, *operands):
    """Apply a function of ``rules`` to arrays and numbers: ``elementwise(rules.relu_backward, dy, y)``."""
    return rule(*operands)


def softmax_forward(x):
    """y[n,k] = e^x[n,k] / sum_j e^x[n,j], shifted by the row's maximum so that nothing overflows.

    The shift changes nothing: e^(x-c) / sum e^(x-c) = e^x / sum e^x. Rows are the last axis.
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
    """y = x - log sum_j e^x[j], with the row's maximum taken out of the sum first."""
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


def batch_norm_backward_input(dy, normalized, gamma, variance, epsilon):
    """dx = gamma / s (dy - mean(dy) - z mean(dy z)),  s = sqrt(variance + epsilon).

    x reaches z directly, through the mean and through the variance, one term each:
    ∂z[m]/∂x[n] = ([m=n] - 1/N - z[m] z[n] / N) / s. Summed over m with dz = gamma dy, the second takes out
    the mean of dy, the third its part along z.
    """
    along = normalized * (dy * normalized).mean(axis=0)
    return gamma / np.sqrt(variance + epsilon) * (dy - dy.mean(axis=0) - along)


# --- pictures (N, H, W, C) and samples before the network ---------------------------------------------------


def move_pixels(x, rows, columns, ways, fill_value):
    """y[n,i,j] = x[n, r[n,i], s[n,j]]  with  r[n] = rows[ways[0,n]]  and  s[n] = columns[ways[1,n]].

    rows (., H) and columns (., W) are the ways pixels can come to lie, ways (2, N) says which of them each
    picture goes. An index of -1 stands for ``fill_value``.
    """
    r, s = rows[ways[0]][:, :, None], columns[ways[1]][:, None, :]
    y = x[np.arange(len(x))[:, None, None], r, s]
    y[(r < 0) | (s < 0)] = fill_value
    return y


def move_pixels_backward(dy, rows, columns, ways):
    """dx[n,h,w] = sum of dy[n,i,j] over all i with r[n,i] = h and all j with s[n,j] = w."""
    r, s = rows[ways[0]][:, :, None], columns[ways[1]][:, None, :]
    dx = np.zeros_like(dy)
    came = ((r >= 0) & (s >= 0))[..., None]
    np.add.at(dx, (np.arange(len(dy))[:, None, None], r, s), np.where(came, dy, 0))
    return dx


def standardize(x, mean, deviation):
    """y = (x - mean) / deviation, column by column of (N, D), in the dtype of ``mean``."""
    return (x.astype(mean.dtype, copy=False) - mean) / deviation


# --- losses: forward gives one number a sample (N,), backward its derivative (N, K) ----------------------
# ``losses.py`` makes one number of them: it multiplies by sample weights and divides by N, both ways.


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


# --- the optimizer's step ----------------------------------------------------------------------------------


def update(rule, weight, grad, slots, hyperparameters):
    """weight, *slots <- rule(weight, grad, *slots, *hyperparameters), in place.

    ``rule`` is an optimizer's function of ``rules``, ``slots`` its memory: arrays of the weight's shape.
    """
    for array, value in zip((weight, *slots), rule(weight, grad, *slots, *hyperparameters), strict=True):
        array[...] = value


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's: they raise small singular values fastest


def orthogonalize(matrix, steps):
    """U V' (D, M) of matrix = U S V', nearly: the singular values end between 0.7 and 1.2, not at 1.

    One step is x <- a x + b (x x') x + c (x x')^2 x. It keeps U and V and turns each singular value s into
    a s + b s^3 + c s^5, which drives all of them towards 1 if none is above it to begin with.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(steps):
        square = x.T @ x
        x = a * x + x @ (b * square + c * square @ square)
    return x
