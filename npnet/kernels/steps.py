"""The phases of ``fused.py``, each in a parallel loop of its own, or a whole training step in one loop.

Starting a parallel loop costs microseconds while its threads are awake and a tenth of a millisecond when they
have gone to sleep. A step whose phases share one loop pays once.
"""

from functools import cache

import numpy as np
from numba import prange

from npnet.kernels import rules
from npnet.kernels.fused import backward_tasks, forward_tasks, gather_tasks, softmax_tasks, update_tasks
from npnet.kernels.layouts import from_panels, from_squares, panels, squares, to_panels, to_squares
from npnet.kernels.runtime import compiled, get_num_threads, set_num_threads
from npnet.kernels.tasks import new_counters, wait

__all__ = [
    "backward", "forward", "from_panels", "from_squares", "gather", "panels", "softmax_cross_entropy",
    "squares", "to_panels", "to_squares", "train_step", "update",
]  # fmt: skip

SERIAL = 1 << 21  # multiplications up to which waking the other threads costs more than they save

# --- one phase -------------------------------------------------------------------------------------------


def gather(x, index, scale, offset, out):
    """out = scale x[index] + offset, as panels."""
    _phase(gather_tasks)(8 * index.size * x.shape[1], (x, index, out), (scale, offset))


def forward(rule, remembers_x, x, weight, bias, n, z, y, constants):
    """y = rule(x W + b, *constants) for n samples; z = x W + b if the rule's derivative wants that."""
    _phase(forward_tasks(rule, remembers_x))(n * weight.size, (x, weight, bias, n, z, y), constants)


def softmax_cross_entropy(logits, y_true, weight, scale, y_pred, dlogits):
    """Return scale * sum of the weighted losses; write y_pred = softmax(logits) and d loss / d logits."""
    losses = np.empty(len(y_true))
    arguments = logits, y_true, weight, losses, y_pred, dlogits
    _phase(softmax_tasks)(16 * y_true.size, arguments, (scale,))
    return float(losses.sum())


def backward(rule, dy, weight, n, remembered, dz, constants):
    """dz = rule(dy W', remembered, *constants)."""
    _phase(backward_tasks(rule))(n * weight.size, (dy, weight, n, remembered, dz), constants)


def update(rule, slots, x, dz, n, inputs, weight, bias, decay, hyperparameters):
    """W, slots <- rule(decay W, x' dz, slots), and the same for b."""
    arguments = x, dz, n, inputs, weight, bias, decay
    _phase(update_tasks(rule, slots))(n * weight.size, arguments, hyperparameters)


@cache
def _phase(tasks):
    @compiled(parallel=True)
    def kernel(work, arguments, numbers):
        threads = get_num_threads()
        if work <= SERIAL:
            set_num_threads(1)
        team = get_num_threads()
        counters = new_counters(1, team)
        for thread in prange(team):
            tasks((counters, thread, team), 0, *arguments, numbers)
        set_num_threads(threads)

    return kernel


# --- all of them -----------------------------------------------------------------------------------------


@cache
def train_step(hidden, hidden_backward, remembers_x, update, slots):
    """The kernel of a whole step: gather, forward, softmax with cross-entropy, backward, update.

    For chains of Dense with one activation between all of them. Layers are numbered from 0: ``flows[i]`` are
    the panels that go into layer i and ``flows[i + 1]`` those that come out, ``remembered[i]`` what the
    activation's derivative reads, ``flows_back[i]`` is d loss / d (x W + b), ``inputs[i]`` how many inputs.
    """
    forward, last_forward = forward_tasks(hidden, remembers_x), forward_tasks(rules.linear, False)
    backward, learn = backward_tasks(hidden_backward), update_tasks(update, slots)

    @compiled
    def work(
        team, x, index, scaling, flows, remembered, flows_back, weights, biases, inputs, constants,
        y_true, sample_weight, loss_scale, losses, y_pred, decay, hyperparameters,
    ):  # fmt: skip
        n, last, now = index.size, len(weights) - 1, 0
        wait(team, now, gather_tasks(team, now, x, index, flows[0], scaling))
        for i in range(last):
            now += 1
            tasks = forward(
                team, now, flows[i], weights[i], biases[i], n, remembered[i], flows[i + 1], constants
            )
            wait(team, now, tasks)
        now += 1
        y = flows[last + 1]
        tasks = last_forward(team, now, flows[last], weights[last], biases[last], n, y, y, ())
        wait(team, now, tasks)
        now += 1
        tasks = softmax_tasks(
            team, now, y, y_true, sample_weight, losses, y_pred, flows_back[last], loss_scale
        )
        wait(team, now, tasks)
        for i in range(last, 0, -1):
            now += 1
            tasks = backward(
                team, now, flows_back[i], weights[i], n, remembered[i - 1], flows_back[i - 1], constants
            )
            wait(team, now, tasks)
        for i in range(last, -1, -1):  # all gradients have flowed back by the weights as they were
            now += 1
            learn(
                team, now, flows[i], flows_back[i], n, inputs[i], weights[i], biases[i],
                decay, hyperparameters,
            )  # fmt: skip

    @compiled(parallel=True)
    def kernel(
        x, index, scaling, flows, remembered, flows_back, weights, biases, inputs, constants,
        y_true, sample_weight, loss_scale, losses, y_pred, decay, hyperparameters,
    ):  # fmt: skip
        size = 0
        for i in range(len(weights)):
            size += weights[i].size
        threads = get_num_threads()
        if index.size * size <= SERIAL:
            set_num_threads(1)
        team = get_num_threads()
        counters = new_counters(3 * len(weights) + 2, team)
        for thread in prange(team):
            work(
                (counters, thread, team), x, index, scaling, flows, remembered, flows_back, weights, biases,
                inputs, constants, y_true, sample_weight, loss_scale, losses, y_pred, decay, hyperparameters,
            )  # fmt: skip
        set_num_threads(threads)

    return kernel
