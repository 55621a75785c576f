"""The phases of ``vector_unit.py``, each in a parallel loop of its own, or whole training steps in one loop.

Starting a parallel loop costs microseconds while its threads are awake and a tenth of a millisecond when they
have gone to sleep. Steps whose phases share one loop pay once.
"""

from functools import cache

import numpy as np
from numba import prange
from numba.extending import overload

from npnet.kernels import rules
from npnet.kernels.fused import matrix_unit, vector_unit
from npnet.kernels.fused.vector_unit import gather_tasks, softmax_tasks
from npnet.kernels.machine.jit import get_num_threads, jit, serial_below, set_num_threads
from npnet.kernels.machine.tasks import new_counters, wait
from npnet.kernels.products.amx import AMX, SIDE
from npnet.kernels.products.layouts import from_panels, from_squares, panels, squares, to_panels, to_squares

__all__ = [
    "backward", "forward", "from_panels", "from_squares", "gather", "on_matrix_unit", "panels",
    "softmax_cross_entropy", "squares", "to_panels", "to_squares", "train_steps", "update",
]  # fmt: skip

SERIAL = 1 << 21  # multiplications below which waking the other threads costs more than they save


def on_matrix_unit(dtype, n):
    """Whether products with n samples of this dtype run on the processor's matrix unit (see ``amx.py``).

    With so few that they fill one of its squares, moving the weights takes longer than multiplying.
    """
    return AMX and dtype == np.float32 and n > SIDE


def _products(dtype, n):
    """The module with the phases that multiply matrices."""
    return matrix_unit if on_matrix_unit(dtype, n) else vector_unit


# --- one phase -------------------------------------------------------------------------------------------


def gather(x, index, scale, offset, out):
    """out = scale x[index] + offset, as panels."""
    _phase(gather_tasks)(8 * index.size * x.shape[1], (x, index, out), (scale, offset))


def forward(rule, remembers_x, x, weight, bias, n, z, y, constants):
    """y = rule(x W + b, *constants) for n samples; z = x W + b if the rule's derivative wants that."""
    tasks = _products(y.dtype, n).forward_tasks(rule, remembers_x)
    _phase(tasks)(n * weight.size, (x, weight, bias, n, z, y), constants)


def softmax_cross_entropy(logits, y_true, weight, scale, y_pred, dlogits):
    """Return scale * sum of the weighted losses; write y_pred = softmax(logits) and d loss / d logits."""
    losses = np.empty(len(y_true))
    arguments = logits, y_true, weight, losses, y_pred, dlogits
    _phase(softmax_tasks)(16 * y_true.size, arguments, (scale,))
    return float(losses.sum())


def backward(rule, dy, weight, n, remembered, dz, constants):
    """dz = rule(dy W', remembered, *constants)."""
    tasks = _products(dz.dtype, n).backward_tasks(rule)
    _phase(tasks)(n * weight.size, (dy, weight, n, remembered, dz), constants)


def update(rule, slots, x, dz, n, inputs, weight, bias, decay, hyperparameters):
    """W, slots <- rule(decay W, x' dz, slots), and the same for b."""
    tasks = _products(weight.dtype, n).update_tasks(rule, slots)
    _phase(tasks)(n * weight.size, (x, dz, n, inputs, weight, bias, decay), hyperparameters)


@cache
def _phase(tasks):
    @jit(parallel=True)
    def kernel(work, arguments, numbers):
        threads = serial_below(SERIAL, work)
        team = get_num_threads()
        counters = new_counters(1, team)
        for thread in prange(team):  # counts unsigned: not converted, everything here is compiled twice
            tasks((counters, np.int64(thread), team), 0, *arguments, numbers)
        set_num_threads(threads)

    return kernel


# --- all of them -----------------------------------------------------------------------------------------


def at_each(vectors, i):
    """(vectors[0][i], vectors[1][i], ...)"""
    raise NotImplementedError("only inside compiled kernels")


@overload(at_each)
def _at_each(vectors, i):
    if len(vectors) == 0:
        return lambda vectors, i: ()
    return lambda vectors, i: (vectors[0][i],) + at_each(vectors[1:], i)  # noqa: RUF005


@cache
def train_steps(on_unit, hidden, hidden_backward, remembers_x, update, slots):
    """The kernel of some steps, one after the other: gather, forward, loss, backward, update.

    ``on_unit`` says what multiplies, as ``on_matrix_unit`` finds for the batch.
    For chains of Dense with one activation between all of them, and softmax with cross-entropy at the end.
    Layers are numbered from 0: ``flows[i]`` are the panels that come out of layer i, ``remembered[i]`` what
    the activation's derivative reads, ``flows_back[i]`` is d loss / d (x W + b), ``inputs[i]`` their number.

    Each step has a row of ``index``, ``y_true``, ``sample_weight``, ``losses``, ``y_pred`` and ``decay`` and
    an element of each of the ``hyperparameters``. While a step flows back, idle threads gather the next one's
    batch into the other of the two ``batches``; the first layer's update and its next forward pass are one
    pass over the weights.
    """
    products = matrix_unit if on_unit else vector_unit
    forward = products.forward_tasks(hidden, remembers_x)
    last_forward = products.forward_tasks(rules.linear, False)
    backward, learn = products.backward_tasks(hidden_backward), products.update_tasks(update, slots)
    learn_forward = products.update_forward_tasks(update, slots, hidden, remembers_x)

    @jit
    def work(
        team, x, index, scaling, batches, flows, remembered, flows_back, weights, biases, inputs, constants,
        y_true, sample_weight, loss_scale, losses, y_pred, decay, hyperparameters,
    ):  # fmt: skip
        (steps, n), last = index.shape, len(weights) - 1
        now = np.int64(0)  # not the constant, for which the first phase would be compiled once more
        y, dy = flows[last], flows_back[last]
        one_pass = len(weights[0]) >= 2 * team[2]
        wait(team, now, gather_tasks(team, now, x, index[0], batches[0], scaling))
        for step in range(steps):
            batch, next_batch = batches[step % 2], batches[(step + 1) % 2]
            numbers = at_each(hyperparameters, step)
            if step == 0 or not one_pass:
                now += 1
                tasks = forward(
                    team, now, batch, weights[0], biases[0], n, remembered[0], flows[0], constants
                )
                wait(team, now, tasks)
            for i in range(1, last):
                now += 1
                tasks = forward(
                    team, now, flows[i - 1], weights[i], biases[i], n, remembered[i], flows[i], constants
                )
                wait(team, now, tasks)
            if last > 0:
                now += 1
                tasks = last_forward(team, now, flows[last - 1], weights[last], biases[last], n, y, y, ())
                wait(team, now, tasks)
            now += 1
            tasks = softmax_tasks(
                team, now, y, y_true[step], sample_weight[step], losses[step], y_pred[step], dy, loss_scale
            )
            gathering = now + 1
            if step + 1 < steps:
                gathered = gather_tasks(team, gathering, x, index[step + 1], next_batch, scaling)
            else:
                gathered = 0
            wait(team, now, tasks)
            now += 1
            for i in range(last, 0, -1):
                now += 1
                tasks = backward(
                    team, now, flows_back[i], weights[i], n, remembered[i - 1], flows_back[i - 1], constants
                )
                wait(team, now, tasks)
            for i in range(last, 0, -1):  # all gradients have flowed back by the weights as they were
                now += 1
                tasks = learn(
                    team, now, flows[i - 1], flows_back[i], n, inputs[i], weights[i], biases[i],
                    decay[step], numbers,
                )  # fmt: skip
                wait(team, now, tasks)
            wait(team, gathering, gathered)
            now += 1
            if step + 1 < steps and one_pass:
                tasks = learn_forward(
                    team, now, batch, flows_back[0], n, inputs[0], weights[0], biases[0],
                    decay[step], numbers, next_batch, remembered[0], flows[0], constants,
                )  # fmt: skip
            else:
                tasks = learn(
                    team, now, batch, flows_back[0], n, inputs[0], weights[0], biases[0],
                    decay[step], numbers,
                )  # fmt: skip
            wait(team, now, tasks)

    @jit(parallel=True)
    def kernel(
        x, index, scaling, batches, flows, remembered, flows_back, weights, biases, inputs, constants,
        y_true, sample_weight, loss_scale, losses, y_pred, decay, hyperparameters,
    ):  # fmt: skip
        size = 0
        for i in range(len(weights)):
            size += weights[i].size
        threads = serial_below(SERIAL, index.size * size)
        team = get_num_threads()
        counters = new_counters(index.shape[0] * (3 * len(weights) + 2), team)
        for thread in prange(team):  # counts unsigned: not converted, everything here is compiled twice
            work(
                (counters, np.int64(thread), team), x, index, scaling, batches, flows, remembered, flows_back,
                weights, biases, inputs, constants, y_true, sample_weight, loss_scale, losses, y_pred, decay,
                hyperparameters,
            )  # fmt: skip
        set_num_threads(threads)

    return kernel
