"""The truth the peers are held against: the textbook's kernels in float64."""

import numpy as np

from npnet.kernels import reference, rules

from .task import OPTIMIZERS


def _rmsprop(t, learning_rate, rho, epsilon):
    return rules.rmsprop, 1, (learning_rate, rho, epsilon)


def _rmsprop_outside(t, learning_rate, rho, epsilon):
    return rules.rmsprop_general, 3, (learning_rate, rho, 0.0, epsilon, 0.0, 1.0)


def _adam(t, learning_rate, beta_1, beta_2, epsilon):
    step_size = learning_rate * (1 - beta_2**t) ** 0.5 / (1 - beta_1**t)
    return rules.adam, 2, (step_size, beta_1, beta_2, epsilon)


def _adam_corrected(t, learning_rate, beta_1, beta_2, epsilon):
    return _adam(t, learning_rate, beta_1, beta_2, epsilon * (1 - beta_2**t) ** 0.5)


def _momentum(t, learning_rate, momentum):
    return rules.sgd_momentum, 1, (learning_rate, momentum)


FORMULAS = {
    "rmsprop": _rmsprop,  # lr g / sqrt(v + eps): Keras 3
    "rmsprop, eps outside": _rmsprop_outside,  # lr g / (sqrt(v) + eps): PyTorch
    "adam": _adam,  # a m / (sqrt(v) + eps): Kingma & Ba's "epsilon hat", Keras, scikit-learn
    "adam, eps corrected": _adam_corrected,  # lr m^ / (sqrt(v^) + eps): PyTorch
    "momentum": _momentum,
}


def losses(task, formula, steps):
    """Return the loss of each of the first ``steps`` steps, trained by ``formula`` in float64."""
    numbers = OPTIMIZERS[formula.split(",")[0]]
    params = [p.astype(np.float64) for pair in task.weights for p in pair]
    slots = [[np.zeros_like(p) for _ in range(3)] for p in params]
    result = []
    for step in range(steps):
        rows = slice(task.start(step), task.start(step) + task.batch)
        x, y_true = task.data[0][rows].astype(np.float64), task.one_hot[rows].astype(np.float64)
        outputs = [x]
        for weight, bias in zip(params[::2], params[1::2], strict=True):
            x = reference.dense_forward(outputs[-1], weight, bias)
            outputs.append(rules.relu(x))
        loss, probabilities = reference.softmax_cross_entropy_forward(y_true, x)
        result.append(float(loss.mean()))
        dy = reference.softmax_cross_entropy_backward(y_true, probabilities) / task.batch
        grads = []
        for i in reversed(range(len(task.layers))):
            grads[:0] = reference.dense_backward_parameters(outputs[i], dy)
            if i:
                dy = rules.relu_backward(reference.dense_backward_input(dy, params[2 * i]), outputs[i])
        for param, grad, memory in zip(params, grads, slots, strict=True):
            rule, size, values = FORMULAS[formula](step + 1, **numbers)
            reference.update(rule, param, grad, memory[:size], values)
    return result
