"""Each phase of a fused step, on each unit, against the textbook in float64."""

from functools import cache

import numpy as np
import pytest

from npnet.kernels import rules
from npnet.kernels.fused.program import tasks_of
from npnet.kernels.machine import threads
from npnet.kernels.machine.jit import get_num_threads, jit
from npnet.kernels.machine.loops import parallel_for
from npnet.kernels.machine.tasks import new_counters
from npnet.kernels.products.amx import AMX, FLOAT32
from npnet.kernels.products.layouts import from_panels, from_squares, panels, squares, to_panels, to_squares

D, M = 150, 200  # more than a task takes at a time of both, the last squares of weights not full
DECAY, RATE, MOMENTUM = 0.75, 0.01, 0.9


@pytest.fixture(
    params=[
        pytest.param(None, id="vector unit"),
        pytest.param(
            FLOAT32,
            id="matrix unit",
            marks=pytest.mark.skipif(not AMX, reason="this processor has no matrix unit"),
        ),
    ]
)
def precision(request):
    """The precision of products on the matrix unit, None on the vector unit."""
    return request.param


@pytest.fixture(params=[33, 600])
def n(request):
    """How many samples: one block and one more, and more blocks than are split at a time."""
    return request.param


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch):
    """With many, each task would be a single panel."""
    monkeypatch.setattr(threads, "_chosen", min(2, threads.get_threads()))


@cache
def phase(tasks, then_forward=False):
    """A kernel that runs one phase on all threads: tasks(team, phase, *arguments, numbers, ...)."""

    @jit
    def alone(thread, threads, counters, arguments, numbers, following):
        tasks((counters, thread, threads), 0, *arguments, numbers)

    @jit
    def with_forward(thread, threads, counters, arguments, numbers, following):
        tasks((counters, thread, threads), 0, *arguments, numbers, *following, ())

    work = with_forward if then_forward else alone

    @jit(parallel=True)
    def kernel(arguments, numbers, following):
        team = get_num_threads()
        counters = new_counters(1, team)
        parallel_for(team, work, (team, counters, arguments, numbers, following))

    return kernel


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def in_panels(matrix):
    """A matrix as panels, with rows to spare that must not reach any result."""
    out = panels(*matrix.shape, np.float32)
    out[:, len(matrix) :] = np.nan
    to_panels(matrix, out)
    return out


def parameters():
    """W, b and a velocity of each, as they are and as the phases have them."""
    weight, bias = random(1, 2, D, M), random(2, 2, M)
    held = squares(D, M, 1, np.float32)
    for plane in range(2):
        to_squares(weight[plane], held, plane)
    held_bias = np.zeros((2, held.shape[0] * held.shape[3]), np.float32)
    held_bias[:, :M] = bias
    return weight.astype(np.float64), bias.astype(np.float64), held, held_bias


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_forward(precision, n):
    x, (weight, bias, held, held_bias) = random(3, n, D), parameters()
    z, y = in_panels(np.zeros((n, M), np.float32)), in_panels(np.zeros((n, M), np.float32))
    tasks = tasks_of("forward", precision, rules.elu, True)
    phase(tasks)((in_panels(x), held, held_bias, n, z, y), (0.5,), ())
    expected = x @ weight[0] + bias[0]
    close(from_panels(z, n, M), expected)
    close(from_panels(y, n, M), rules.elu(expected, 0.5))


def test_backward(precision, n):
    dy, remembered, (weight, _, held, _) = random(3, n, M), random(4, n, D), parameters()
    dz = in_panels(np.zeros((n, D), np.float32))
    tasks = tasks_of("backward", precision, rules.elu_backward)
    phase(tasks)((in_panels(dy), held, n, in_panels(remembered), dz), (0.5,), ())
    close(from_panels(dz, n, D), rules.elu_backward(dy @ weight[0].T, remembered, 0.5))


def updated(weight, bias, x, dz):
    """The parameters and their velocities after a step."""
    return [
        rules.sgd_momentum(DECAY * values[0], gradient, values[1], RATE, MOMENTUM)
        for values, gradient in ((weight, x.T.astype(np.float64) @ dz), (bias, dz.sum(axis=0)))
    ]


def assert_updated(held, held_bias, expected):
    found = np.empty((D, M), np.float32)
    for plane, (weight, bias) in enumerate(zip(*expected, strict=True)):
        from_squares(held, plane, found)
        close(found, weight)
        close(held_bias[plane, :M], bias)
        assert (held_bias[plane, M:] == 0).all()
        assert np.count_nonzero(held[:, :, plane]) <= D * M, "what fills up the squares stays zero"


def test_update(precision, n):
    x, dz, (weight, bias, held, held_bias) = random(3, n, D), random(4, n, M), parameters()
    tasks = tasks_of("update", precision, rules.sgd_momentum, 1)
    arguments = in_panels(x), in_panels(dz), n, D, held, held_bias, DECAY
    phase(tasks)(arguments, (RATE, MOMENTUM), ())
    assert_updated(held, held_bias, updated(weight, bias, x, dz))


def test_update_with_the_next_forward_pass(precision, n):
    x, dz, (weight, bias, held, held_bias) = random(3, n, D), random(4, n, M), parameters()
    next_x, y = random(5, n, D), in_panels(np.zeros((n, M), np.float32))
    tasks = tasks_of("update_forward", precision, rules.sgd_momentum, 1, rules.relu, False)
    arguments = in_panels(x), in_panels(dz), n, D, held, held_bias, DECAY
    phase(tasks, True)(arguments, (RATE, MOMENTUM), (in_panels(next_x), y, y))
    expected = updated(weight, bias, x, dz)
    assert_updated(held, held_bias, expected)
    close(from_panels(y, n, M), rules.relu(next_x @ expected[0][0] + expected[1][0]))
