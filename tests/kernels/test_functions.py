"""exp, expm1, log1p, tanh and erfc of whole registers against 40 digits."""

import warnings

import mpmath
import numpy as np
import pytest

from npnet.kernels import parallel, rules
from npnet.kernels.vectors.functions import ULP

DTYPES = [np.float32, np.float64]
NAMES = list(ULP)
# Where results change with x, float32 and float64; sums overflow, or are 0 or 1, beyond.
RANGES = {
    "exp": ((-86.6, 88.8), (-707.6, 709.8)),
    "expm1": ((-18, 88.8), (-38, 709.8)),
    "log1p": ((-1, 8), (-1, 8)),
    "tanh": ((-10, 10), (-20, 20)),
    "erfc": ((-5, 9.3), (-7, 26.6)),
}


def compiled(name, x):
    """The function of a whole array, as kernels compute it."""
    return parallel.elementwise(getattr(rules, name), x)


def arguments(name, dtype):
    """The range, what is around 0 down to subnormal numbers, and for the logarithm all there is above it."""
    rng, limits = np.random.default_rng(0), np.finfo(dtype)
    signs = rng.choice([-1, 1], 300)
    x = [
        rng.uniform(*RANGES[name][DTYPES.index(dtype)], 400),
        rng.uniform(-0.9, 0.9, 400),
        signs * np.exp2(rng.uniform(limits.minexp, 0, 300)),
        limits.smallest_subnormal * np.arange(-40, 40.0),
        np.exp2(rng.uniform(0, limits.maxexp, 300 * (name == "log1p"))),
        np.exp2(-rng.uniform(0, limits.nmant, 300 * (name == "log1p"))) - 1,
    ]
    x = np.concatenate(x).astype(dtype)
    return x[x > -1] if name == "log1p" else x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_error_is_within_its_bound(name, dtype):
    limits, x = np.finfo(dtype), arguments(name, dtype)
    worst = 0
    with mpmath.workdps(40):
        for result, number in zip(compiled(name, x), x, strict=True):
            truth = getattr(mpmath, name)(mpmath.mpf(float(number)))
            if abs(truth) > float(limits.max):
                assert result == np.inf
                continue
            error = abs(mpmath.mpf(float(result)) - truth)
            if name in ("exp", "erfc") and truth < 4 * float(limits.tiny):
                assert error < 4 * limits.tiny
                continue
            _, exponent = mpmath.frexp(max(abs(truth), float(limits.tiny)))
            worst = max(worst, error / mpmath.ldexp(1, exponent - limits.nmant - 1))
    assert worst <= ULP[name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_ends_and_signs_are_those_of_numpy(name, dtype):
    most = np.finfo(dtype).max
    x = np.array([np.nan, np.inf, -np.inf, most, -most, 1e4, -1e4, 0.0, -0.0], dtype)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        expected = getattr(rules, name)(x)
    result = compiled(name, x)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    defined = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[defined]), np.signbit(expected[defined]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_has_no_subnormal_results(dtype):
    tiny = np.finfo(dtype).tiny
    x = np.linspace(*((80, 110) if dtype == np.float32 else (690, 760)), 5000).astype(dtype)
    results = compiled("exp", -x)
    assert ((results == 0) | (results >= tiny)).all()
    assert results[0] > 0 == results[-1]
