"""Both kernel sets: the same functions, the same numbers, at every shape, dtype and thread count."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npnet import Sequential
from npnet.kernels import more_rules, parallel, reference, rules
from npnet.kernels.machine.places import cache_folder
from npnet.kernels.parallel import arrays
from npnet.kernels.products import amx, blocked
from npnet.kernels.products.blocked import DEPTH, multiply
from npnet.kernels.vectors import registers
from npnet.layers import Dense
from npnet.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy

DTYPES = [np.float32, np.float64]
# (N, D, M): nothing, one, primes, multiples of a tile, one past a tile, more than one task, rows of x that
# compete for the cache
SHAPES = [
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 40, 50), (50, 40, 1), (7, 13, 5), (8, 32, 32),
    (9, 33, 33), (17, DEPTH + 1, 65), (300, 37, 540), (600, 150, 130), (20, 16, 2100),
    (544, 2048, 400),
]  # fmt: skip
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-11}


@pytest.fixture(autouse=True)
def _small_arrays_are_not_left_to_numpy(monkeypatch):
    monkeypatch.setattr(arrays, "LEAST", {})


def functions(module):
    return {name: f for name, f in vars(module).items() if inspect.isfunction(f) and name[0] != "_"}


def random(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def small_integers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


def agree(ours, theirs, dtype):
    ours, theirs = (a if isinstance(a, tuple) else (a,) for a in (ours, theirs))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_same_names_and_arguments():
    for name, function in functions(reference).items():
        twin = getattr(parallel, name)
        assert inspect.signature(twin) == inspect.signature(function), name


# --- products --------------------------------------------------------------------------------------------


MATRIX_UNIT = pytest.param(
    "matrix unit", marks=pytest.mark.skipif(not registers.AMX, reason="this processor has no matrix unit")
)


@pytest.fixture(params=["tiles", "small products by BLAS", MATRIX_UNIT])
def every_product(request, monkeypatch):
    """With our own tiles whatever the size, as users get it, and on the matrix unit whatever the size."""
    if request.param != "small products by BLAS":
        for limit in ("SMALL", "SMALL_BY_ROWS", "SMALL_VECTOR", "SMALL_OUTER"):
            monkeypatch.setattr(blocked, limit, 0)
        on_unit = request.param == "matrix unit"
        monkeypatch.setattr(
            blocked, "_suits_matrix_unit", lambda r, c, k, dtype: on_unit and dtype == np.float32
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_small_integers_are_multiplied_exactly(shape, dtype, every_product):
    n, d, m = shape
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (small_integers(rng, size, dtype) for size in ((n, d), (d, m), (m,), (n, m)))
    np.testing.assert_array_equal(parallel.dense_forward(x, weight, bias), x @ weight + bias)
    np.testing.assert_array_equal(parallel.dense_forward(x, weight, None), x @ weight)
    np.testing.assert_array_equal(parallel.dense_backward_input(dy, weight), dy @ weight.T)
    dweight, dbias = parallel.dense_backward_parameters(x, dy)
    np.testing.assert_array_equal(dweight, x.T @ dy)
    np.testing.assert_array_equal(dbias, dy.sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_every_width(dtype, every_product):
    rng = np.random.default_rng(0)
    x, bias = small_integers(rng, (13, 9), dtype), small_integers(rng, 150, dtype)
    for columns in range(1, 151):
        weight = small_integers(rng, (9, columns), dtype)
        np.testing.assert_array_equal(
            parallel.dense_forward(x, weight, bias[:columns]), x @ weight + bias[:columns]
        )
        np.testing.assert_array_equal(parallel.dense_backward_input(x, weight.T.copy()), x @ weight)


@pytest.mark.parametrize("depth", [1, 100, 8192, 20_000])
def test_rounding_grows_with_the_root_of_the_depth(depth, every_product):
    rng = np.random.default_rng(depth)
    for new, bound in ((random, 4 * np.sqrt(depth) * 2.0**-24), (small_integers, 0)):
        a, b = new(rng, (16, depth), np.float32), new(rng, (depth, 40), np.float32)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        largest = bound * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
        across, down = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
        for found in (
            parallel.dense_forward(a, b, None),
            parallel.dense_backward_parameters(across, b)[0],
            parallel.dense_backward_input(a, down),
        ):
            assert (np.abs(found - exact) <= largest).all()


def test_tiny_numbers_do_no_harm_to_their_neighbours(every_product):
    rng = np.random.default_rng(0)
    x, weight = random(rng, (70, 96), np.float32), random(rng, (96, 70), np.float32)
    for places in (np.s_[:, ::2], np.s_[:, 40:60], np.s_[:, ::3]):
        for scale in (1e-30, 1e-34, 1e-37, 1e-42):
            a, b = x.copy(), weight.copy()
            a[places] *= np.float32(scale)
            b.T[places] *= np.float32(scale)
            exact = a.astype(np.float64) @ b.astype(np.float64)
            np.testing.assert_allclose(parallel.dense_forward(a, b, None), exact, rtol=1e-3, atol=1e-5)


def test_nan_and_infinity_stay_in_their_row(every_product):
    x = np.ones((20, 300), np.float32)
    x[3, 299], x[11, 0] = np.nan, np.inf
    y = parallel.dense_forward(x, np.ones((300, 50), np.float32), None)
    assert np.isnan(y[3]).all()
    assert np.isposinf(y[11]).all()
    assert (np.delete(y, [3, 11], axis=0) == 300).all()


def test_numbers_that_bfloat16_would_round_to_infinity(every_product):
    x, weight = np.full((20, 40), np.finfo(np.float32).max), np.full((40, 50), 2.0**-10, np.float32)
    np.testing.assert_allclose(parallel.dense_forward(x, weight, None), x[0, 0] / 1024 * 40, rtol=1e-5)
    with np.errstate(over="ignore"):
        assert np.isposinf(parallel.dense_forward(x, 2**10 * weight, None)).all()


def test_products_of_bfloat16_run_on_the_matrix_unit_where_those_of_float32_are_numpy_s(monkeypatch):
    monkeypatch.setattr(blocked, "AMX", True)
    for by_rows in (True, False):
        assert blocked.is_small(80, 80, 80, by_rows)
    assert blocked.suits_bfloat16(80, 80, 80, np.float32)
    assert not blocked.suits_bfloat16(64, 64, 64, np.float32)
    assert not blocked.suits_bfloat16(80, 80, 80, np.float64)


@pytest.mark.skipif(not registers.AMX, reason="this processor has no matrix unit")
def test_large_products_run_on_the_matrix_unit(monkeypatch):
    precisions = []

    def noted(a, b, bias, out, precision=None):
        precisions.append(precision)
        return True

    monkeypatch.setattr(blocked, "_multiply_into", noted)
    for dtype in (np.float32, np.float64):
        multiply(np.zeros((300, 300), dtype), np.zeros((300, 300), dtype))
    assert precisions == [amx.FLOAT32, None]


def test_nothing_outside_is_read_or_written(every_product):
    room = np.full(10_000, np.nan, np.float32)
    x, weight = room[100 : 100 + 9 * 35].reshape(9, 35), room[5_000 : 5_000 + 35 * 33].reshape(35, 33)
    x[:], weight[:] = 1, 1
    assert (multiply(x, weight) == 35).all()
    assert np.isnan(room).sum() == room.size - x.size - weight.size


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_reversed_and_read_only_inputs(dtype):
    rng = np.random.default_rng(0)
    big = random(rng, (40, 60), dtype)
    x, weight, dy = big[::2, ::-3], big[5:25, 10:50:2].T[:, ::-1], np.asfortranarray(big[:20, :20])
    for array in (big, x, weight, dy):
        array.flags.writeable = False
    agree(parallel.dense_forward(x, weight, weight[0]), reference.dense_forward(x, weight, weight[0]), dtype)
    agree(parallel.dense_backward_input(dy, weight), reference.dense_backward_input(dy, weight), dtype)
    agree(parallel.softmax_forward(x), reference.softmax_forward(x), dtype)
    agree(parallel.elementwise(rules.relu, x), reference.elementwise(rules.relu, x), dtype)


# --- formulas --------------------------------------------------------------------------------------------

ELEMENTWISE = [
    f for name, f in functions(rules).items()
    if next(iter(inspect.signature(f).parameters)) in ("x", "dy") and name not in ("erfc", "flush")
]  # fmt: skip
UPDATES = [f for f in functions(rules).values() if next(iter(inspect.signature(f).parameters)) == "weight"]


def operands(rule, rng, shape, dtype):
    """Arrays for x, dy and y, numbers for the rest."""
    names = inspect.signature(rule).parameters
    return [random(rng, shape, dtype) if name in ("x", "dy", "y") else 0.3 for name in names]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ELEMENTWISE, ids=lambda rule: rule.__name__)
def test_activation_rules(rule, dtype):
    rng = np.random.default_rng(0)
    for shape in ((0, 3), (1,), (7, 13), (2, 3, 5)):
        args = operands(rule, rng, shape, dtype)
        agree(parallel.elementwise(rule, *args), reference.elementwise(rule, *args), dtype)


@pytest.mark.parametrize("rule", ELEMENTWISE, ids=lambda rule: rule.__name__)
def test_extreme_numbers_pass_as_numpy_passes_them(rule):
    line = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 80.0, -80.0, 1e-30, 3e38, -3e38], np.float32)
    args = operands(rule, np.random.default_rng(0), (len(line), len(line)), np.float32)
    arrays = iter((np.repeat(line[:, None], len(line), axis=1), np.repeat(line[None, :], len(line), axis=0)))
    args = [next(arrays).copy() if np.ndim(a) else a for a in args]
    with np.errstate(all="ignore"):
        theirs = reference.elementwise(rule, *args)
    np.testing.assert_allclose(parallel.elementwise(rule, *args), theirs, rtol=2e-5, atol=1e-37)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", UPDATES, ids=lambda rule: rule.__name__)
def test_update_rules(rule, dtype):
    rng = np.random.default_rng(0)
    names = list(inspect.signature(rule).parameters)
    count = next(i for i, name in enumerate(names) if name in ("learning_rate", "step_size"))
    numbers = tuple(0.1 + 0.05 * i for i in range(len(names) - count))
    for shape in ((0,), (1,), (7, 13), (70, 700)):
        ours = [np.abs(random(rng, shape, dtype)) for _ in range(count)]
        theirs = [array.copy() for array in ours]
        for kernels, (weight, grad, *slots) in ((parallel, ours), (reference, theirs)):
            kernels.update(rule, weight, grad, slots, numbers)
        agree(tuple(ours), tuple(theirs), dtype)


def test_small_arrays_are_left_to_numpy(monkeypatch):
    sizes = []
    monkeypatch.setattr(arrays, "LEAST", {"relu": 100, "sgd": 100, "softmax_backward": 100})
    for name in ("elementwise", "update", "softmax_backward"):
        monkeypatch.setattr(reference, name, lambda *operands: sizes.append(operands[1].size))
    for size in (99, 100):
        x = np.ones((1, size), np.float32)
        parallel.elementwise(rules.relu, x)
        parallel.update(rules.sgd, x, x, (), (0.1,))
        parallel.softmax_backward(x, x)
    assert sizes == [99] * 3


def test_what_is_left_to_numpy_exists():
    known = set(functions(rules)) | set(functions(more_rules)) | set(functions(reference))
    assert set(arrays.LEAST_AVX2) | set(arrays.LEAST_AVX512) <= known


def test_a_formula_of_the_users_own_runs_as_numpy():
    x = np.arange(5.0)
    np.testing.assert_array_equal(parallel.elementwise(lambda x: x * x + 1, x), x * x + 1)


# --- rows and columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 13), (5, 16), (3, 33), (2, 3, 10), (40, 1500)])
def test_softmax(shape, dtype):
    rng = np.random.default_rng(0)
    x, dy = 5 * random(rng, shape, dtype), random(rng, shape, dtype)
    for name in ("softmax", "log_softmax"):
        forward, backward = f"{name}_forward", f"{name}_backward"
        y = getattr(reference, forward)(x)
        agree(getattr(parallel, forward)(x), y, dtype)
        agree(getattr(parallel, backward)(dy, y), getattr(reference, backward)(dy, y), dtype)


@pytest.mark.parametrize(("dtype", "bar"), [(np.float32, 3e-5), (np.float64, 2e-12)])
def test_softmax_is_accurate_for_every_class(dtype, bar):
    x = np.random.default_rng(0).uniform(-40, 40, (50, 1000)).astype(dtype)
    exact = reference.softmax_forward(x.astype(np.longdouble))
    assert (np.abs(parallel.softmax_forward(x) - exact) <= bar * exact).all()


@pytest.mark.parametrize("offset", [0, 100, 1e4, 1e6, -1e6])
@pytest.mark.parametrize("columns", [2, 4, 10, 33, 1000, 50_000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernels", [reference, parallel])
def test_rows_far_from_0_are_as_accurate_as_rows_near_it(kernels, dtype, columns, offset):
    """The bounds stand with the functions in ``reference``; the backward passes add a few roundings."""
    rng, u = np.random.default_rng(columns), np.finfo(dtype).eps / 2
    x = (offset + 3 * rng.standard_normal((max(1, 8000 // columns), columns))).astype(dtype)
    exact = x.astype(np.longdouble)
    far = exact.max(axis=1, keepdims=True) - exact
    p, log_p = reference.softmax_forward(exact), reference.log_softmax_forward(exact)
    y, log_y = kernels.softmax_forward(x), kernels.log_softmax_forward(x)
    assert (np.abs(y - p) <= (far + 16) * u * p).all()
    assert (np.abs(log_y - log_p) <= 12 * u * np.maximum(1, np.abs(log_p))).all()
    dy = rng.standard_normal(x.shape).astype(dtype)
    norm = np.abs(dy).sum(axis=1, keepdims=True)
    for name, given, wanted in (("softmax", y, p), ("log_softmax", log_y, log_p)):
        dx = getattr(kernels, f"{name}_backward")(dy, given)
        right = getattr(reference, f"{name}_backward")(dy.astype(np.longdouble), wanted)
        assert (np.abs(dx - right) <= 32 * u * (np.abs(dy) + p * norm)).all(), name


@pytest.mark.parametrize("offset", [0, 100, 1e4, 1e6])
@pytest.mark.parametrize(("loss", "last"), [(CategoricalCrossentropy(), "softmax"),
                                            (CategoricalCrossentropy(from_logits=True), None),
                                            (SparseCategoricalCrossentropy(), "softmax")])  # fmt: skip
def test_a_training_step_of_logits_far_from_0(kernels, loss, last, offset):
    """Logits without a rounding error, the bias alone; weights that were 0 show the gradient."""
    logits = np.random.default_rng(0).integers(-16, 17, 10) / 4
    net = Sequential([Dense(10, last, input_shape=(2,))], seed=0)
    net.compile("sgd", loss, kernels=kernels)
    net.optimizer.learning_rate = 1.0
    net.set_weights([np.zeros((2, 10)), logits + offset])
    label = np.array([[3]]) if isinstance(loss, SparseCategoricalCrossentropy) else np.eye(10)[[3]]
    value = net.train_on_batch(np.array([[1.0, 1.0]]), label)
    p = np.exp(reference.log_softmax_forward(logits.astype(np.longdouble)))
    assert value == pytest.approx(float(-np.log(p[3])), rel=1e-6)
    np.testing.assert_allclose(net.get_weights()[0][0], np.eye(10)[3] - p, rtol=4e-6, atol=1e-9)


def test_softmax_of_nan_and_infinity():
    x = np.zeros((4, 20), np.float32)
    x[0, 3], x[1, 19], x[2] = np.nan, -np.inf, 3e38
    with np.errstate(all="ignore"):
        theirs = reference.softmax_forward(x)
    np.testing.assert_allclose(parallel.softmax_forward(x), theirs, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (300, 33), (64, 700)])
def test_batch_normalisation(shape, dtype):
    rng = np.random.default_rng(0)
    x, dy, gamma, beta = (random(rng, size, dtype) for size in (shape, shape, shape[1:], shape[1:]))
    theirs = reference.batch_norm_forward(x, gamma, beta, 1e-3)
    agree(parallel.batch_norm_forward(x, gamma, beta, 1e-3), theirs, dtype)
    _, normalized, _, variance = theirs
    for name, args in (
        ("batch_norm_backward_parameters", (dy, normalized)),
        ("batch_norm_backward_input", (dy, normalized, gamma, variance, 1e-3)),
    ):
        agree(getattr(parallel, name)(*args), getattr(reference, name)(*args), dtype)


# --- machines --------------------------------------------------------------------------------------------

TESTS = Path(__file__).parents[1]
ALL = [
    TESTS / room / f"test_{part}.py"
    for room, part in (
        ("kernels", "kernels"), ("kernels", "every_kernel"), ("kernels", "functions"),
        ("kernels", "fused_phases"), ("kernels", "convolution"), ("training", "fusion"),
        ("training", "levels"), ("training", "mixed_precision"),
    )
]  # fmt: skip
CORE = (
    "tiles and (shape9-float32 or nan_and_infinity) or nothing_outside or many_classes or special and valid"
)
CORE_OF_UNIT = "matrix and (shape9-float32 or next_forward_pass) or levels and black or written_by_hand"
CORE_WITHOUT = "tiles and shape9-float32 or vector and next_forward_pass or 200_steps and rmsprop"


def run_tests_again(chosen, **environment):
    """Run the chosen ones of ALL tests in another process, in which kernels are compiled differently.

    Its kernels are kept in a folder of their own: in one cache only a few kinds of them stay.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-k", chosen, *ALL]
    place = cache_folder() / "tests" / "-".join(filter(None, environment.values()))
    environment = os.environ | environment | {"NPNET_CACHE": str(place)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


# A few tests in every run; all but those that start such a process in the slow ones.
EVERYTHING = pytest.param("not processors and not does_not_take", marks=pytest.mark.slow, id="all")


@pytest.mark.parametrize("chosen", [pytest.param(CORE, id="core"), EVERYTHING])
@pytest.mark.parametrize("processor", ["haswell", "x86-64"])
@pytest.mark.skipif(not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="for x86")
def test_lesser_processors(processor, chosen):
    run_tests_again(chosen, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="")


OTHER_UNIT, CORE_OF_OTHER = ("off", CORE_WITHOUT) if registers.AMX else ("emulated", CORE_OF_UNIT)


@pytest.mark.parametrize("chosen", [pytest.param(CORE_OF_OTHER, id="core"), EVERYTHING])
def test_the_path_that_this_processor_does_not_take(chosen):
    """Without a matrix unit products that run on one, emulated; with one, those in tiles."""
    run_tests_again(chosen, NPNET_MATRIX_UNIT=OTHER_UNIT)


@pytest.mark.parametrize("rows", [8, 512])
def test_batch_normalisation_of_a_part_goes_back_through_the_statistics_of_the_whole(rows):
    rng = np.random.default_rng(0)
    dy, normalized = rng.normal(size=(2, rows, 40)).astype(np.float32)
    gamma, variance = rng.random((2, 40), dtype=np.float32)
    means = dy.mean(axis=0), (dy * normalized).mean(axis=0)
    whole = reference.batch_norm_backward_input(dy, normalized, gamma, variance, 1e-3)
    for kernels in (reference, parallel):
        parts = [
            kernels.batch_norm_backward_input(dy[part], normalized[part], gamma, variance, 1e-3, means)
            for part in (slice(0, rows // 4), slice(rows // 4, None))
        ]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-4)
