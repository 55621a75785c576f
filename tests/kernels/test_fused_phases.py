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
from npnet.kernels.products.amx import BFLOAT16, EXACT_LEFT, FLOAT32
from npnet.kernels.products.layouts import from_panels, from_squares, panels, squares, to_panels, to_squares
from npnet.kernels.products.tiles import VECTORS, width
from npnet.kernels.vectors.registers import AMX, lanes

DECAY, RATE, MOMENTUM = 0.75, 0.01, 0.9


@pytest.fixture(
    params=[
        pytest.param(precision, id=name, marks=[pytest.mark.skipif(not AMX, reason="no matrix unit")])
        if precision
        else pytest.param(None, id=name)
        for name, precision in {
            "vector unit": None, "matrix unit": FLOAT32, "matrix unit, whole numbers": EXACT_LEFT,
            "matrix unit, bfloat16": BFLOAT16,
        }.items()
    ]
)  # fmt: skip
def precision(request):
    """The precision of products on the matrix unit, None on the vector unit."""
    return request.param


@pytest.fixture(params=[33, 600])
def n(request):
    """How many samples: one block and one more, and more blocks than are split at a time."""
    return request.param


def shapes():
    """Those of W: more than a task takes at a time of both; the last squares are not full.

    Of their rows and columns, each number of registers is needed, the last one for a single number or whole.
    """
    w, lanes_ = width(np.float32), lanes(np.float32)
    whole = 192 // w * w
    least = [whole + k * lanes_ + 1 for k in range(VECTORS)]
    most = [whole + k * lanes_ + lanes_ for k in range(VECTORS - 1)]
    return [*zip(least[:-1], most, strict=True), *zip(most, least[1:], strict=True), (least[-1], least[0])]


@pytest.fixture(params=shapes(), ids=str)
def shape(request):
    """That of W."""
    return request.param


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch):
    """With many, each task would be a single panel."""
    monkeypatch.setattr(threads, "_chosen", min(2, threads.get_threads()))


@cache
def phase(tasks):
    """A kernel that runs one phase on all threads: tasks(team, phase, *arguments)."""

    @jit
    def work(thread, threads, counters, arguments):
        tasks((counters, thread, threads), 0, *arguments)

    @jit(parallel=True)
    def kernel(arguments):
        team = get_num_threads()
        counters = new_counters(1, team)
        parallel_for(team, work, (team, counters, arguments))

    return kernel


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def batch(precision, seed, *shape):
    """(x as it lies in panels, x in float64, the factor between them as the phases' last argument)."""
    if precision != EXACT_LEFT:
        x = random(seed, *shape)
        return x, operand(precision, x), ()
    x = np.random.default_rng(seed).integers(-255, 256, shape).astype(np.float32)
    return x, x / 64.0, (1 / 64,)


def operand(precision, values):
    """The operand of a product as the unit reads it, in float64."""
    if precision != BFLOAT16:
        return values.astype(np.float64)
    bits = np.asarray(values, np.float32).view(np.uint32)
    halves = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000
    return halves.astype(np.uint32).view(np.float32).astype(np.float64)


def in_panels(matrix):
    """A matrix as panels, with rows to spare that must not reach any result."""
    out = panels(*matrix.shape, np.float32)
    out[:, len(matrix) :] = np.nan
    to_panels(matrix, out)
    return out


def parameters(shape):
    """W, b and a velocity of each, as they are and as the phases have them."""
    weight, bias = random(1, 2, *shape), random(2, 2, shape[1])
    held = squares(*shape, 1, np.float32)
    for plane in range(2):
        to_squares(weight[plane], held, plane)
    held_bias = np.zeros((2, held.shape[0] * held.shape[3]), np.float32)
    held_bias[:, : shape[1]] = bias
    return weight.astype(np.float64), bias.astype(np.float64), held, held_bias


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_forward(precision, n, shape):
    inputs, units = shape
    (x, values, factor), (weight, bias, held, held_bias) = batch(precision, 3, n, inputs), parameters(shape)
    z, y = in_panels(np.zeros((n, units), np.float32)), in_panels(np.zeros((n, units), np.float32))
    tasks = tasks_of("forward", precision, rules.elu, True)
    phase(tasks)((in_panels(x), held, shape, held_bias, n, z, y, (0.5,), *factor))
    expected = values @ operand(precision, weight[0]) + bias[0]
    close(from_panels(z, n, units), expected)
    close(from_panels(y, n, units), rules.elu(expected, 0.5))


def test_backward(precision, n, shape):
    inputs, units = shape
    (dy, _, _), remembered = batch(precision, 3, n, units), random(4, n, inputs)
    weight, _, held, _ = parameters(shape)
    dz = in_panels(np.zeros((n, inputs), np.float32))
    tasks = tasks_of("backward", precision, rules.elu_backward)
    phase(tasks)((in_panels(dy), held, shape, n, in_panels(remembered), dz, (0.5,)))
    expected = operand(precision, dy) @ operand(precision, weight[0]).T
    close(from_panels(dz, n, inputs), rules.elu_backward(expected, remembered, 0.5))


def updated(precision, weight, bias, x, dz):
    """The parameters and their velocities after a step."""
    return [
        rules.sgd_momentum(DECAY * values[0], gradient, values[1], RATE, MOMENTUM)
        for values, gradient in ((weight, x.T @ operand(precision, dz)), (bias, dz.sum(axis=0)))
    ]


def assert_updated(shape, held, held_bias, expected):
    found, units = np.empty(shape, np.float32), shape[1]
    for plane, (weight, bias) in enumerate(zip(*expected, strict=True)):
        from_squares(held, plane, found)
        close(found, weight)
        close(held_bias[plane, :units], bias)
        assert (held_bias[plane, units:] == 0).all()
        assert np.count_nonzero(held[:, :, plane]) <= found.size, "what fills up the squares stays zero"


def test_update(precision, n, shape):
    inputs, units = shape
    (x, values, factor), dz = batch(precision, 3, n, inputs), random(4, n, units)
    weight, bias, held, held_bias = parameters(shape)
    tasks = tasks_of("update", precision, rules.sgd_momentum, 1)
    phase(tasks)((in_panels(x), in_panels(dz), n, held, shape, held_bias, DECAY, (RATE, MOMENTUM), *factor))
    assert_updated(shape, held, held_bias, updated(precision, weight, bias, values, dz))


def test_update_with_the_next_forward_pass(precision, n, shape):
    inputs, units = shape
    (x, values, factor), dz = batch(precision, 3, n, inputs), random(4, n, units)
    weight, bias, held, held_bias = parameters(shape)
    (next_x, next_values, _), y = batch(precision, 5, n, inputs), in_panels(np.zeros((n, units), np.float32))
    tasks = tasks_of("update_forward", precision, rules.sgd_momentum, 1, rules.relu, False)
    phase(tasks)(
        (in_panels(x), in_panels(dz), n, held, shape, held_bias, DECAY, (RATE, MOMENTUM),
         in_panels(next_x), y, y, (), *factor)
    )  # fmt: skip
    expected = updated(precision, weight, bias, values, dz)
    assert_updated(shape, held, held_bias, expected)
    new_weight = operand(precision, held_weights(shape, held) if precision == BFLOAT16 else expected[0][0])
    close(from_panels(y, n, units), rules.relu(next_values @ new_weight + expected[1][0]))


def held_weights(shape, held):
    """The weights in squares. Of the expected ones, rounded otherwise, some have another nearest bfloat16."""
    found = np.empty(shape, np.float32)
    from_squares(held, 0, found)
    return found
