"""A table of mistakes, each made in npnet itself: the check finds every one of them."""

from functools import cache

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet import losses, regularizers
from npnet.kernels import reference, rules
from npnet.layers import BatchNormalization, Dense, Dropout, Flatten, Normalization, RandomFlip, Rescaling
from npnet.layers.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh

N = D = M = 4  # equal, so that a transposed matrix has the right shape
K = 3
ANY = random(3, N, K)
WEIGHT = np.array([0.5, 2, 1, 3])


def slip(array, index):
    """Return the array with a factor 1.001 in one element."""
    array = array.copy()
    array[index] *= 1.001
    return array


def network(*layers, loss="mse", y=ANY, weight=None, last=None):
    """Return what to check: the layers between two Dense, or behind the samples if they have a shape."""
    first = [] if layers and layers[0].input_shape else [Dense(M, input_shape=(D,))]
    return [*first, *layers, Dense(K, last)], loss, y, weight


def dense(**options):
    return network(Dense(M, "tanh"), **options)


def pictures(layer):
    return network(layer, Flatten())


def classes(**options):
    return dense(loss=losses.CategoricalCrossentropy(**options), y=one_hot(N, K), last="softmax")


def along(dy, z):
    return z * (dy * z).mean(axis=0)


def batch_norm_without_epsilon(dy, z, gamma, variance, epsilon):
    return gamma / np.sqrt(variance) * (dy - dy.mean(axis=0) - along(dy, z))


def batch_norm_with_another_mean(dy, z, gamma, variance, epsilon):
    return gamma / np.sqrt(variance + epsilon) * (dy - dy.mean(axis=1, keepdims=True) - along(dy, z))


def remember_the_first_batch(self, x, training=False):
    self.x = getattr(self, "x", x)
    return x @ self.weight.value + self.bias.value


def add_to_the_gradient(self, dy):
    for parameter, gradient in ((self.weight, self.x.T @ dy), (self.bias, dy.sum(axis=0))):
        parameter.grad = getattr(parameter, "grad", 0) + gradient


def another_mask(self, dy):
    return dy * (self.rng.random(dy.shape) >= self.rate) / (1 - self.rate)


def unweighted(self):
    return self.gradient(self.y_true, self.y_pred) / len(self.y_pred)


R = reference
# name: network, where the mistake is made, of what, and how it goes instead of right
MISTAKES = {
    "dx = dy W": (
        dense, R, "dense_backward_input", lambda dy, w: dy @ (w if w.shape == (D, M) else w.T)),
    "dx has the wrong sign": (dense, R, "dense_backward_input", lambda dy, w: -dy @ w.T),
    "dx is wrong in one element": (
        dense, R, "dense_backward_input", lambda dy, w: slip(dy @ w.T, (1, 2))),
    "dW is transposed": (dense, R, "dense_backward_parameters", lambda x, dy: (dy.T @ x, dy.sum(axis=0))),
    "dW = x dy": (
        lambda: network(Dense(M), y=random(3, N, K)), R, "dense_backward_parameters",
        lambda x, dy: ((x if dy.shape[1] == M else x.T) @ dy, dy.sum(axis=0))),
    "dW has the wrong sign": (
        dense, R, "dense_backward_parameters", lambda x, dy: (-x.T @ dy, dy.sum(axis=0))),
    "dW is wrong in one element": (
        dense, R, "dense_backward_parameters", lambda x, dy: (slip(x.T @ dy, (2, 1)), dy.sum(axis=0))),
    "dW leaves out a sample": (
        dense, R, "dense_backward_parameters", lambda x, dy: (x[1:].T @ dy[1:], dy.sum(axis=0))),
    "dW is divided by N once more": (
        dense, R, "dense_backward_parameters", lambda x, dy: (x.T @ dy / len(x), dy.sum(axis=0))),
    "db is not summed": (dense, R, "dense_backward_parameters", lambda x, dy: (x.T @ dy, dy[0])),
    "db is a mean": (dense, R, "dense_backward_parameters", lambda x, dy: (x.T @ dy, dy.mean(axis=0))),
    "db is summed over the wrong axis": (
        dense, R, "dense_backward_parameters",
        lambda x, dy: (x.T @ dy, dy.sum(axis=1)[: dy.shape[1]])),
    "db is wrong in one element": (
        dense, R, "dense_backward_parameters", lambda x, dy: (x.T @ dy, slip(dy.sum(axis=0), 0))),
    "x is that of another batch": (dense, Dense, "forward", remember_the_first_batch),
    "grad is added to": (dense, Dense, "backward_parameters", add_to_the_gradient),
    "tanh without derivative": (dense, Tanh, "rule_backward", lambda dy, y: dy),
    "tanh: 1 - y": (dense, Tanh, "rule_backward", lambda dy, y: dy * (1 - y)),
    "tanh of x, not y": (dense, Tanh, "remembers", "x"),
    "sigmoid: y (1 + y)": (
        lambda: network(Sigmoid()), Sigmoid, "rule_backward", lambda dy, y: dy * y * (1 + y)),
    "relu without mask": (lambda: network(ReLU()), rules, "relu_backward", lambda dy, y: dy),
    "relu with the mask of dy": (
        lambda: network(ReLU()), rules, "relu_backward", lambda dy, y: np.where(dy > 0, dy, 0)),
    "leaky relu without slope": (
        lambda: network(LeakyReLU()), LeakyReLU, "rule_backward",
        lambda dy, x, slope: np.where(x > 0, dy, 0)),
    "elu without alpha": (
        lambda: network(ELU(alpha=0.6)), ELU, "rule_backward",
        lambda dy, x, alpha: np.where(x > 0, dy, dy * np.exp(x))),
    "softplus: sigmoid(-x)": (
        lambda: network(Softplus()), Softplus, "rule_backward", lambda dy, x: dy * rules.sigmoid(-x)),
    "silu without product rule": (
        lambda: network(SiLU()), SiLU, "rule_backward", lambda dy, x: dy * rules.sigmoid(x)),
    "gelu without product rule": (
        lambda: network(GELU()), GELU, "rule_backward", lambda dy, x: dy * rules.gelu(x) / x),
    "softmax: diagonal only": (
        lambda: dense(last="softmax"), R, "softmax_backward", lambda dy, y: dy * y * (1 - y)),
    "log softmax: y for e^y": (
        lambda: dense(last="log_softmax"), R, "log_softmax_backward",
        lambda dy, y: dy - y * dy.sum(axis=-1, keepdims=True)),
    "dgamma and dbeta swapped": (
        lambda: network(BatchNormalization()), R, "batch_norm_backward_parameters",
        lambda dy, z: (dy.sum(axis=0), (dy * z).sum(axis=0))),
    "batch norm: statistics as constants": (
        lambda: network(BatchNormalization()), R, "batch_norm_backward_input",
        lambda dy, z, gamma, variance, epsilon: dy * gamma / np.sqrt(variance + epsilon)),
    "batch norm: mean as a constant": (
        lambda: network(BatchNormalization()), R, "batch_norm_backward_input",
        lambda dy, z, gamma, variance, epsilon: gamma / np.sqrt(variance + epsilon) * (dy - along(dy, z))),
    "batch norm: variance as a constant": (
        lambda: network(BatchNormalization()), R, "batch_norm_backward_input",
        lambda dy, z, gamma, variance, epsilon: gamma / np.sqrt(variance + epsilon) * (dy - dy.mean(axis=0))),
    "batch norm: gamma forgotten": (
        lambda: network(BatchNormalization(gamma_initializer="he_normal")), R, "batch_norm_backward_input",
        lambda dy, z, gamma, variance, epsilon:
            (dy - dy.mean(axis=0) - along(dy, z)) / np.sqrt(variance + epsilon)),
    "batch norm: epsilon forgotten": (
        lambda: network(BatchNormalization()), R, "batch_norm_backward_input", batch_norm_without_epsilon),
    "batch norm: mean over the wrong axis": (
        lambda: network(BatchNormalization()), R, "batch_norm_backward_input", batch_norm_with_another_mean),
    "dropout without the mask's scale": (
        lambda: network(Dropout(0.4)), Dropout, "backward", lambda self, dy: dy * (self.mask > 0)),
    "dropout with another mask": (lambda: network(Dropout(0.4)), Dropout, "backward", another_mask),
    "flatten in another order": (
        lambda: network(Flatten(input_shape=(2, 3, 2)), Dense(M)), Flatten, "backward",
        lambda self, dy: np.stack([row.reshape(self.sample_shape, order="F") for row in dy])),
    "rescaling without scale": (
        lambda: network(Rescaling(0.5)), Rescaling, "backward", lambda self, dy: dy),
    "normalization multiplies": (
        lambda: network(Normalization(mean=0.5, variance=2.0)), Normalization, "backward",
        lambda self, dy: dy * self.deviation),
    "flips are not flipped back": (
        lambda: pictures(RandomFlip(seed=1, input_shape=(2, 3, 2))), RandomFlip, "backward",
        lambda self, dy: dy),
    "mean squared error without 2": (
        dense, R, "mean_squared_error_backward", lambda t, y: (y - t) / y.shape[-1]),
    "mean squared error without 1/outputs": (
        dense, R, "mean_squared_error_backward", lambda t, y: 2 * (y - t)),
    "mean absolute error has the wrong sign": (
        lambda: dense(loss="mae"), R, "mean_absolute_error_backward",
        lambda t, y: np.sign(t - y) / y.shape[-1]),
    "loss without 1/N": (dense, losses.Loss, "_scaled", lambda self, gradient: gradient),
    "cross-entropy: t - p": (classes, R, "softmax_cross_entropy_backward", lambda t, p: t - p),
    "cross-entropy: p": (classes, R, "softmax_cross_entropy_backward", lambda t, p: p),
    "label smoothing forgotten": (
        lambda: classes(label_smoothing=0.3), losses.CategoricalCrossentropy, "joint_gradient",
        lambda self, t, p: p - one_hot(N, K)),
    "sample weights forgotten": (
        lambda: dense(weight=WEIGHT), losses.Loss, "backward", unweighted),
    "L2 without 2": (
        lambda: network(Dense(M, kernel_regularizer="l2")), regularizers.L1L2, "gradient",
        lambda self, w: self.l2 * w),
    "L1 without sign": (
        lambda: network(Dense(M, kernel_regularizer="l1")), regularizers.L1L2, "gradient",
        lambda self, w: self.l1 * np.ones_like(w)),
}  # fmt: skip


def check(make):
    layers, loss, y, weight = make()
    shape = layers[0].input_shape
    return npnet.check_gradients(compiled(layers, loss), random(1, N, *shape), y, weight, verbose=False)


@cache
def passes(make):
    """Whether the network passes without a mistake; many mistakes are made in the same one."""
    return check(make).passed


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_found(name, monkeypatch):
    make, where, what, wrong = MISTAKES[name]
    assert passes(make)
    if what == "rule_backward":
        wrong = staticmethod(wrong)
    monkeypatch.setattr(where, what, wrong)
    result = check(make)
    assert not result.passed, f"\n{result}"


def test_the_table_is_long_enough():
    assert len(MISTAKES) >= 30
