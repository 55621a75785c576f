"""Further rules of one element, as ``rules.py`` has them: activations and optimizers of fewer networks."""

from numpy import abs, exp, maximum, minimum, sqrt, where

from npnet.kernels.rules import flush, hyperbolic_tangent, sigmoid, softplus

__all__ = [
    "adadelta",
    "adamax",
    "exponential",
    "exponential_backward",
    "hard_sigmoid",
    "hard_sigmoid_backward",
    "lion",
    "mish",
    "mish_backward",
    "nadam",
    "softsign",
    "softsign_backward",
]

# --- activations --------------------------------------------------------------------------------------------


def exponential(x):
    """y = e^x"""
    return exp(x)


def exponential_backward(dy, y):
    """dx = dy y"""
    return dy * y


def softsign(x):
    """y = x / (1 + |x|)"""
    return x / (1.0 + abs(x))


def softsign_backward(dy, x):
    """dx = dy / (1 + |x|)^2"""
    return dy / ((1.0 + abs(x)) * (1.0 + abs(x)))


def hard_sigmoid(x):
    """y = x/6 + 1/2, kept between 0 and 1"""
    return maximum(minimum(x / 6.0 + 0.5, 1.0), 0.0)


def hard_sigmoid_backward(dy, x):
    """dx = dy / 6 where |x| < 3, else 0"""
    return where(abs(x) < 3.0, dy / 6.0, 0.0)


def mish(x):
    """y = x tanh(log(1 + e^x))   (Misra 2019)"""
    return x * hyperbolic_tangent(softplus(x))


def mish_backward(dy, x):
    """dx = dy (t + x (1 - t^2) sigmoid(x)),  t = tanh(log(1 + e^x))"""
    t = hyperbolic_tangent(softplus(x))
    return dy * (t + x * (1.0 - t * t) * sigmoid(x))


# --- optimizers ---------------------------------------------------------------------------------------------


def nadam(
    weight, grad, first_moment, second_moment, learning_rate, ahead, now, beta_1, beta_2, correction, epsilon
):
    """Adam that looks ahead:  w <- w - lr (a m + b g) / (sqrt(c v) + eps)   (Dozat 2016)

    with m and v as in ``adam``; a, b and c are ``ahead``, ``now`` and ``correction`` of step t.
    """
    first_moment = flush(first_moment + (1.0 - beta_1) * (grad - first_moment))
    second_moment = flush(second_moment + (1.0 - beta_2) * (grad * grad - second_moment))
    direction = ahead * first_moment + now * grad
    root = sqrt(correction * second_moment) + epsilon
    return weight - learning_rate * direction / root, first_moment, second_moment


def adamax(weight, grad, first_moment, largest, step_size, beta_1, beta_2, epsilon):
    """m <- m + (1-b1)(g - m);  u <- max(b2 u, |g|);  w <- w - a m / (u + eps)

    with a = lr / (1 - b1^t), the ``step_size``: Adam by the largest gradient (Kingma & Ba 2015, section 7.1).
    """
    first_moment = flush(first_moment + (1.0 - beta_1) * (grad - first_moment))
    largest = flush(maximum(beta_2 * largest, abs(grad)))
    return weight - step_size * first_moment / (largest + epsilon), first_moment, largest


def adadelta(weight, grad, mean_square, mean_square_step, learning_rate, rho, epsilon):
    """v <- rho v + (1-rho) g^2;  s = g sqrt(d + eps) / sqrt(v + eps);  w <- w - lr s

    and d <- rho d + (1-rho) s^2: a step has the unit of the weight, whatever the gradient's (Zeiler 2012).
    """
    mean_square = flush(rho * mean_square + (1.0 - rho) * grad * grad)
    step = grad * sqrt(mean_square_step + epsilon) / sqrt(mean_square + epsilon)
    mean_square_step = flush(rho * mean_square_step + (1.0 - rho) * step * step)
    return weight - learning_rate * step, mean_square, mean_square_step


def lion(weight, grad, momentum, learning_rate, beta_1, beta_2):
    """w <- w - lr sign(b1 m + (1-b1) g);  m <- b2 m + (1-b2) g   (Chen et al. 2023)"""
    direction = beta_1 * momentum + (1.0 - beta_1) * grad
    sign = where(direction > 0.0, 1.0, where(direction < 0.0, -1.0, direction))
    return weight - learning_rate * sign, flush(beta_2 * momentum + (1.0 - beta_2) * grad)
