"""What holds for every function of the kernel sets: a new one without a case here is found missing."""

import inspect

import numpy as np
import pytest

from npnet.kernels import more_rules, parallel, reference, rules
from npnet.kernels.geometry import geometry
from npnet.kernels.machine import threads
from npnet.kernels.parallel import arrays
from npnet.kernels.products import blocked

N, D, M = 129, 600, 259  # more than one task, none of them whole
WINDOW = geometry((9, 8), (3, 2), (2, 2), "same", groups=2)  # of pictures


def functions(module):
    return {name: f for name, f in vars(module).items() if inspect.isfunction(f) and name[0] != "_"}


def parameters(function):
    return list(inspect.signature(function).parameters)


rng = np.random.default_rng(0)


def numbers(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def positive(*shape):
    return (rng.random(shape) + 0.1).astype(np.float32)


def matrices(count):
    return lambda: [numbers(N, D) for _ in range(count)]


def probabilities():
    return [positive(N, D) / D, positive(N, D) / D]


def moves():
    """Rows and columns that move by one pixel or not, and which of both each picture takes."""
    ways = np.arange(9) - np.array([[0], [1]])
    return [numbers(N, 9, 9, 3), ways, ways, rng.integers(0, 2, (2, N))]


OPERANDS = {
    "dense_forward": lambda: [numbers(N, D), numbers(D, M), numbers(M)],
    "dense_backward_parameters": lambda: [numbers(N, D), numbers(N, M)],
    "dense_backward_input": lambda: [numbers(N, M), numbers(D, M)],
    "to_bfloat16": matrices(1),
    "multiply_bfloat16": lambda: [numbers(N, D), numbers(D, M)],
    "softmax_forward": matrices(1),
    "softmax_backward": matrices(2),
    "log_softmax_forward": matrices(1),
    "log_softmax_backward": matrices(2),
    "batch_norm_forward": lambda: [numbers(N, D), numbers(D), numbers(D), 1e-3],
    "batch_norm_backward_parameters": matrices(2),
    "batch_norm_backward_input": lambda: [numbers(N, D), numbers(N, D), numbers(D), positive(D), 1e-3],
    "normalize_rows_forward": lambda: [numbers(N, D), 1e-3],
    "normalize_rows_backward": lambda: [numbers(N, D), numbers(N, D), positive(N, 1)],
    "convolution_forward": lambda: [numbers(9, 9, 8, 6), numbers(3, 2, 3, 34), numbers(34), WINDOW],
    "convolution_backward_parameters": lambda: [numbers(9, 9, 8, 6), numbers(9, 5, 4, 34), WINDOW],
    "convolution_backward_input": lambda: [numbers(9, 5, 4, 34), numbers(3, 2, 3, 34), WINDOW],
    "max_pool_forward": lambda: [numbers(9, 9, 8, 6), WINDOW],
    "max_pool_backward": lambda: [numbers(9, 5, 4, 6), rng.integers(0, 6, (9, 5, 4, 6), np.int32), WINDOW],
    "average_pool_forward": lambda: [numbers(9, 9, 8, 6), WINDOW],
    "average_pool_backward": lambda: [numbers(9, 5, 4, 6), WINDOW],
    "move_pixels": lambda: [*moves(), 0.5],
    "move_pixels_backward": moves,
    "standardize": lambda: [numbers(N, D), numbers(D), positive(D)],
    "orthogonalize": lambda: [[numbers(D, M)], 3],
    **{name: probabilities for name in functions(reference) if "cross_entropy" in name},
    **{name: matrices(2) for name in functions(reference) if name.startswith("mean_")},
}


def elementwise_operands(rule):
    return lambda: [rule, *(numbers(N, D) if p in ("x", "y", "dy") else 0.3 for p in parameters(rule))]


def update_operands(rule):
    count = next(i for i, name in enumerate(parameters(rule)) if name in ("learning_rate", "step_size"))
    options = tuple(0.1 + 0.05 * i for i in range(len(parameters(rule)) - count))
    return lambda: [rule, positive(N, D), positive(N, D), [positive(N, D) for _ in range(count - 2)], options]


for name, rule in {**functions(more_rules), **functions(rules)}.items():
    if parameters(rule)[0] == "weight":
        OPERANDS[f"update {name}"] = update_operands(rule)
    elif name != "flush":
        OPERANDS[f"elementwise {name}"] = elementwise_operands(rule)

# Compiled, g / sqrt(v) is g times a reciprocal root, which is NaN and not 0 for an infinite v.
FINITE = {
    "update rmsprop": 2,
    "update adagrad": 2,
    "update adadelta": 2,
}  # the position of v among the arrays

every_kernel = pytest.mark.parametrize("name", OPERANDS)


@pytest.fixture(autouse=True)
def _nothing_is_left_to_numpy(monkeypatch):
    monkeypatch.setattr(arrays, "LEAST", {})
    for limit in ("SMALL", "SMALL_BY_ROWS", "SMALL_VECTOR", "SMALL_OUTER", "LARGE", "LARGE_BFLOAT16"):
        monkeypatch.setattr(blocked, limit, 0)


def run(kernels, name, operands):
    """The results as a list of arrays; those of an update are its arguments after it."""
    result = getattr(kernels, name.split()[0])(*operands)
    if name.startswith("update"):
        _, weight, _, slots, _ = operands
        result = [weight, *slots]
    return result if isinstance(result, (tuple, list)) else [result]


def copied(operands):
    return [
        [a.copy() for a in o] if isinstance(o, list) else o.copy() if isinstance(o, np.ndarray) else o
        for o in operands
    ]


def test_there_is_a_case_for_every_kernel():
    assert {name.split()[0] for name in OPERANDS} == set(functions(reference))


@every_kernel
def test_any_number_of_threads_gives_the_same_bits(name, monkeypatch):
    operands, found = OPERANDS[name](), {}
    for count in (1, 2, 3, 7):
        monkeypatch.setattr(threads, "_chosen", count)
        found[count] = [np.asarray(a).tobytes() for a in run(parallel, name, copied(operands))]
    assert found[1] == found[2] == found[3] == found[7]


@every_kernel
def test_nan_and_infinity_go_where_they_go_in_numpy(name):
    operands = OPERANDS[name]()
    arrays = [a for o in operands for a in (o if isinstance(o, list) else [o]) if isinstance(a, np.ndarray)]
    for i, array in enumerate(a for a in arrays if a.dtype == np.float32):
        places = tuple(rng.integers(0, size, 3) for size in array.shape)
        kept = array[places]
        array[places] = np.nan, np.nan if FINITE.get(name) == i else np.inf, -np.inf
        with np.errstate(all="ignore"):
            ours, theirs = (run(kernels, name, copied(operands)) for kernels in (parallel, reference))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_array_equal(np.where(np.isinf(a), a, 0), np.where(np.isinf(b), b, 0))
        array[places] = kept


@every_kernel
def test_columns_first_in_memory_mean_the_same(name):
    operands = OPERANDS[name]()
    turned = copied(operands)
    for i, operand in enumerate(turned):
        if isinstance(operand, np.ndarray) and not (name.startswith("update") and i == 1):
            turned[i] = np.asfortranarray(operand)
    for ours, theirs in zip(run(parallel, name, turned), run(parallel, name, copied(operands)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())
