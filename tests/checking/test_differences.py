"""Derivatives from values alone: right where the function is smooth, and doubtful where they should be."""

import numpy as np
import pytest

from npnet.checking.differences import (
    Derivatives,
    compare,
    differentiate,
    differentiate_along,
    relative_error,
    rounding_noise,
)  # fmt: skip

NOISE = 4e-16
FUNCTIONS = {
    "polynomial": (lambda v: 1 + v**3, lambda v: 3 * v**2),
    "exponential": (np.exp, np.exp),
    "steep": (lambda v: np.tanh(300 * v), lambda v: 300 / np.cosh(300 * v) ** 2),
    "constant": (lambda v: 1.0, lambda v: 0.0),
    "large": (lambda v: 1e6 + v, lambda v: 1.0),
}


def derivative(function, at, step=1e-3, noise=NOISE):
    numbers = np.array([at])
    found = differentiate(lambda: float(function(numbers[0])), numbers, np.arange(1), step, noise)
    assert numbers[0] == at
    return tuple(float(part[0]) for part in found)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("at", [-0.7, 0.001, 0.3])
def test_the_error_is_known(name, at):
    function, right = FUNCTIONS[name]
    noise = NOISE * max(1, abs(function(at)))
    value, spread, rounding = derivative(function, at, noise=noise)
    assert abs(value - right(at)) <= spread + rounding
    assert spread + rounding <= 1e-10 * max(1, abs(right(at)), abs(function(at)))


def test_a_plain_difference_is_ten_times_less_exact():
    plain = (np.exp(1 + 1e-5) - np.exp(1 - 1e-5)) / 2e-5
    assert abs(derivative(np.exp, 1.0)[0] - np.e) < 0.1 * abs(plain - np.e)


def test_a_smooth_function_takes_few_steps():
    calls = []
    derivative(lambda v: calls.append(v) or np.exp(v), 1.0)
    assert len(calls) <= 8 and max(calls) == 1.001


@pytest.mark.parametrize("distance", [2e-6, 1e-5, 1e-4, 5e-4, 2e-3])
def test_a_kink_is_passed_by_or_makes_the_spread_large(distance):
    value, spread, rounding = derivative(lambda v: abs(v - distance), 0.0)
    if distance > 2e-5:  # steps that are small enough do not reach it
        assert abs(value + 1) <= spread + rounding < 1e-9
    else:
        assert spread > 1e-3


def test_a_kink_of_the_second_derivative():
    value, spread, _ = derivative(lambda v: max(v - 1e-5, 0.0) ** 2 + v, 0.0)
    assert abs(value - 1) > 1e-8 and spread > 1e-8


def test_nan_is_not_trusted():
    value, spread, _ = derivative(lambda v: np.nan, 1.0)
    assert np.isnan(value) and spread == np.inf


def test_a_direction():
    matrix = np.random.default_rng(0).standard_normal((3, 4))
    direction = np.random.default_rng(1).standard_normal((3, 4))
    before = matrix.copy()
    found = differentiate_along(lambda: float((matrix**3).sum()), matrix, direction, 1e-3, 1e-14)
    assert found.values == pytest.approx([(3 * matrix**2 * direction).sum()], rel=1e-10)
    np.testing.assert_array_equal(matrix, before)


@pytest.mark.parametrize("deviation", [1e-15, 1e-10])
def test_noise_is_measured(deviation):
    rng, x = np.random.default_rng(0), np.ones((2, 3))

    def noisy():
        return float(np.sin(x).sum() + np.abs(x[0, 0] - 1 - 1e-8)) + deviation * rng.standard_normal()

    for seed in range(20):
        noise = rounding_noise(noisy, [x], np.random.default_rng(seed))
        assert 1.5 * deviation <= noise <= 12 * deviation
    assert (x == 1).all()


def test_noise_is_at_least_the_rounding_of_the_value():
    eps = np.finfo(np.float64).eps
    for value in (0.5, -3e5):
        noise = rounding_noise(lambda value=value: value, [np.ones(3)], np.random.default_rng(0))
        assert noise == eps * max(1, abs(value))


def test_what_differences_prove():
    right, tiny = np.array([1.0, 2.0]), np.full(2, 1e-15)
    size = np.linalg.norm(right)
    assert compare(right, Derivatives(right, tiny, tiny), 1e-8) == 0
    wrong = compare(right + np.array([1e-6, 0]), Derivatives(right, tiny, tiny), 1e-8)
    assert wrong == pytest.approx(1e-6 / (2 * size), rel=1e-3)
    for spread, proves in ((0.9e-8 * size, True), (1.1e-8 * size, False), (np.nan, False)):
        assert (compare(right, Derivatives(right, np.array([0, spread]), tiny), 1e-8) is not None) is proves
    zero, rounding = np.zeros(2), np.full(2, 1e-12)
    assert compare(5 * rounding, Derivatives(zero, zero, rounding), 1e-8) < 1e-8
    assert compare(15 * rounding, Derivatives(zero, zero, rounding), 1e-8) > 1e-8


def test_relative_error():
    a, n = np.array([3.0, 4.0]), np.array([3.0, 4.5])
    assert relative_error(a, n, 0.0) == 0.5 / (5 + np.linalg.norm(n))
    assert relative_error(a, n, 1e9) == pytest.approx(0.5e-9)
    assert np.isnan(relative_error(a, n * np.nan, 1.0))
