"""The mathematics of one element: every activation with its derivative, every optimizer's update.

Each rule is written once and works on a whole array and on a single number alike. The NumPy kernels
call it on arrays; the Numba kernels inline it into their loops. A rule keeps the dtype of its
arguments, chooses with ``where`` instead of branching, and writes to nothing.

``*_backward(dy, ...)`` returns dx = d loss / d x given dy = d loss / d y. Its second argument is what the
layer has to remember: the output ``y`` where the derivative can be read off it, else the input ``x``.
"""

import math

import numpy as np
from numpy import abs, exp, expm1, log1p, maximum, minimum, sqrt, tanh, where

__all__ = [
    "adagrad",
    "adam",
    "amsgrad",
    "bounded_relu",
    "bounded_relu_backward",
    "elu",
    "elu_backward",
    "erfc",
    "flush",
    "gelu",
    "gelu_backward",
    "hyperbolic_tangent",
    "hyperbolic_tangent_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "relu",
    "relu_backward",
    "rmsprop",
    "rmsprop_general",
    "selu",
    "selu_backward",
    "sgd",
    "sgd_momentum",
    "sgd_nesterov",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softplus",
    "softplus_backward",
]

# --- activations: y = f(x), and beside it dx = dy f'(x) ---------------------------------------------------


def linear(x):
    """y = x"""
    return x


def linear_backward(dy, y):
    """dx = dy"""
    return dy


def relu(x):
    """y = max(x, 0)"""
    return maximum(x, 0.0)


def relu_backward(dy, y):
    """dx = dy where y > 0, else 0 (the derivative at the kink is taken as 0)"""
    return where(y > 0.0, dy, 0.0)


def bounded_relu(x, negative_slope, threshold, max_value):
    """y = max_value from max_value on; x from threshold on; negative_slope (x - threshold) below"""
    return where(x >= threshold, minimum(x, max_value), negative_slope * (x - threshold))


def bounded_relu_backward(dy, x, negative_slope, threshold, max_value):
    """dx = 0 from max_value on; dy from threshold on; negative_slope dy below"""
    return where(x >= threshold, where(x < max_value, dy, 0.0), negative_slope * dy)


def leaky_relu(x, negative_slope):
    """y = x where x > 0, else negative_slope x"""
    return where(x > 0.0, x, negative_slope * x)


def leaky_relu_backward(dy, x, negative_slope):
    """dx = dy where x > 0, else negative_slope dy"""
    return where(x > 0.0, dy, negative_slope * dy)


def elu(x, alpha):
    """y = x where x > 0, else alpha (e^x - 1)"""
    return where(x > 0.0, x, alpha * expm1(minimum(x, 0.0)))


def elu_backward(dy, x, alpha):
    """dx = dy where x > 0, else dy alpha e^x"""
    return where(x > 0.0, dy, dy * alpha * exp(minimum(x, 0.0)))


def selu(x):
    """y = 1.0507 elu(x, 1.6733): the constants that keep mean 0 and variance 1 (Klambauer et al. 2017)"""
    return 1.0507009873554805 * where(x > 0.0, x, 1.6732632423543772 * expm1(minimum(x, 0.0)))


def selu_backward(dy, x):
    """dx = 1.0507 dy where x > 0, else 1.0507 dy 1.6733 e^x"""
    return 1.0507009873554805 * dy * where(x > 0.0, 1.0, 1.6732632423543772 * exp(minimum(x, 0.0)))


def sigmoid(x):
    """y = 1 / (1 + e^-x), written with e^-|x| so that nothing overflows"""
    small = exp(-abs(x))
    return where(x >= 0.0, 1.0, small) / (1.0 + small)


def sigmoid_backward(dy, y):
    """dx = dy y (1 - y)"""
    return dy * y * (1.0 - y)


def hyperbolic_tangent(x):
    """y = tanh x"""
    return tanh(x)


def hyperbolic_tangent_backward(dy, y):
    """dx = dy (1 - y^2)"""
    return dy * (1.0 - y * y)


def softplus(x):
    """y = log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)"""
    return maximum(x, 0.0) + log1p(exp(-abs(x)))


def softplus_backward(dy, x):
    """dx = dy sigmoid(x)"""
    return dy * sigmoid(x)


def silu(x):
    """y = x sigmoid(x), also called swish"""
    return x * sigmoid(x)


def silu_backward(dy, x):
    """dx = dy s (1 + x (1 - s)), s = sigmoid(x)"""
    s = sigmoid(x)
    return dy * s * (1.0 + x * (1.0 - s))


_erfc_float64 = np.vectorize(math.erfc, otypes=[np.float64])


def erfc(x):
    """2/sqrt(pi) times the integral of e^(-t^2) from x to infinity; NumPy has none, the C library has"""
    return _erfc_float64(x).astype(x.dtype)


def gelu(x):
    """y = x P(x), P the distribution function of the standard normal, P(x) = erfc(-x/sqrt 2) / 2"""
    return 0.5 * x * erfc(-0.7071067811865476 * x)


def gelu_backward(dy, x):
    """dx = dy (P(x) + x p(x)), p(x) = e^(-x^2/2) / sqrt(2 pi)"""
    return dy * (0.5 * erfc(-0.7071067811865476 * x) + 0.3989422804014327 * x * exp(-0.5 * x * x))


# --- optimizers: (weight, *slots) after one step, given the gradient -------------------------------------
# Formulas, argument names and defaults are Keras 3's (keras/src/optimizers/*.py).


def flush(x):
    """0 where |x| < 1e-30, else x.

    The memory of a dead unit decays towards zero for ever; below 1e-38 its numbers are subnormal and
    every product with them takes a hundred times longer.
    """
    return where(abs(x) < 1e-30, 0.0, x)


def sgd(weight, grad, learning_rate):
    """w <- w - lr g"""
    return (weight - learning_rate * grad,)


def sgd_momentum(weight, grad, velocity, learning_rate, momentum):
    """m <- mu m - lr g;  w <- w + m"""
    velocity = flush(momentum * velocity - learning_rate * grad)
    return weight + velocity, velocity


def sgd_nesterov(weight, grad, velocity, learning_rate, momentum):
    """m <- mu m - lr g;  w <- w + mu m - lr g   (Nesterov 1983, as Sutskever et al. 2013 write it)"""
    velocity = flush(momentum * velocity - learning_rate * grad)
    return weight + momentum * velocity - learning_rate * grad, velocity


def rmsprop(weight, grad, mean_square, learning_rate, rho, epsilon):
    """v <- rho v + (1-rho) g^2;  w <- w - lr g / sqrt(v + eps)   (Tieleman & Hinton 2012)"""
    mean_square = flush(rho * mean_square + (1.0 - rho) * grad * grad)
    return weight - learning_rate * grad / sqrt(mean_square + epsilon), mean_square


def rmsprop_general(
    weight, grad, mean_square, mean, velocity, learning_rate, rho, momentum, epsilon, centered, outside
):
    """RMSprop with every option.

    v <- rho v + (1-rho) g^2;  a <- rho a + (1-rho) g;  d = v - centered a^2
    step = lr g / (sqrt(d + (1-outside) eps) + outside eps);  m <- mu m + step;  w <- w - m
    """
    mean_square = flush(rho * mean_square + (1.0 - rho) * grad * grad)
    mean = flush(rho * mean + (1.0 - rho) * grad)
    variance = maximum(mean_square - centered * mean * mean, 0.0)
    root = sqrt(variance + (1.0 - outside) * epsilon) + outside * epsilon
    velocity = flush(momentum * velocity + learning_rate * grad / root)
    return weight - velocity, mean_square, mean, velocity


def adagrad(weight, grad, accumulator, learning_rate, epsilon):
    """v <- v + g^2;  w <- w - lr g / sqrt(v + eps)   (Duchi et al. 2011)"""
    accumulator = accumulator + grad * grad
    return weight - learning_rate * grad / sqrt(accumulator + epsilon), accumulator


def adam(weight, grad, first_moment, second_moment, step_size, beta_1, beta_2, epsilon):
    """m <- m + (1-b1)(g - m);  v <- v + (1-b2)(g^2 - v);  w <- w - a m / (sqrt(v) + eps)

    with a = lr sqrt(1 - b2^t) / (1 - b1^t), the ``step_size``: lr with the bias correction of step t
    (Kingma & Ba 2015, "epsilon hat").
    """
    first_moment = flush(first_moment + (1.0 - beta_1) * (grad - first_moment))
    second_moment = flush(second_moment + (1.0 - beta_2) * (grad * grad - second_moment))
    return weight - step_size * first_moment / (sqrt(second_moment) + epsilon), first_moment, second_moment


def amsgrad(weight, grad, first_moment, second_moment, largest, step_size, beta_1, beta_2, epsilon):
    """Adam with sqrt(max of all v so far) in the denominator (Reddi et al. 2018)"""
    first_moment = flush(first_moment + (1.0 - beta_1) * (grad - first_moment))
    second_moment = flush(second_moment + (1.0 - beta_2) * (grad * grad - second_moment))
    largest = maximum(largest, second_moment)
    weight = weight - step_size * first_moment / (sqrt(largest) + epsilon)
    return weight, first_moment, second_moment, largest
