"""Initializers: limits, variances, seeds, names. Regularizers: penalties."""

import numpy as np
import pytest

import npnet
from npnet import initializers, regularizers
from npnet.initializers import Constant, GlorotUniform, HeNormal, LecunNormal, VarianceScaling
from npnet.layers import Dense

SHAPE = (300, 500)
VARIANCES = {
    "glorot_uniform": 2 / 800, "glorot_normal": 2 / 800, "he_uniform": 2 / 300, "he_normal": 2 / 300,
    "lecun_uniform": 1 / 300, "lecun_normal": 1 / 300, "variance_scaling": 1 / 300,
}  # fmt: skip


def draw(identifier, shape=SHAPE, seed=0, dtype=np.float64):
    return initializers.get(identifier)(shape, np.random.default_rng(seed), dtype)


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_and_limit(name):
    values, variance = draw(name), VARIANCES[name]
    assert values.shape == SHAPE
    assert abs(values.mean()) < 5 * np.sqrt(variance / values.size)
    assert values.var() == pytest.approx(variance, rel=0.02)
    if name.endswith("uniform"):
        limit = np.sqrt(3 * variance)
    else:  # cut off at two standard deviations of a normal distribution that is wider to make up for it
        limit = 2 * np.sqrt(variance) / 0.87962566103423978
        assert np.mean(np.abs(values) < limit / 2) == pytest.approx(0.6827 / 0.9545, abs=0.01)
    assert 0.999 * limit < np.abs(values).max() <= limit


def test_glorot_limits_of_the_tutorials_layers():
    for shape, limit in {(3072, 512): 0.040916, (512, 512): 0.076547, (512, 10): 0.107211}.items():
        assert np.abs(draw("glorot_uniform", shape)).max() == pytest.approx(limit, rel=1e-2)
        assert np.sqrt(6 / sum(shape)) == pytest.approx(limit, rel=1e-5)


def test_fans():
    for mode, fan in {"fan_in": 300, "fan_out": 500, "fan_avg": 400}.items():
        for distribution in ("uniform", "truncated_normal"):
            values = draw(VarianceScaling(3.0, mode, distribution))
            assert values.var() == pytest.approx(3 / fan, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), (1, 1)),
        ((7,), (7, 7)),
        ((300, 500), (300, 500)),
        ((3, 64, 128), (3 * 64, 3 * 128)),
        ((3, 3, 64, 128), (9 * 64, 9 * 128)),
        ((2, 3, 4, 5, 6), (24 * 5, 24 * 6)),
    ],
)
def test_fans_are_keras(shape, expected):
    """keras.src.initializers.random_initializers.compute_fans"""
    assert initializers.fans(shape) == expected


def test_weights_of_any_number_of_axes_keep_the_size_of_signals():
    """Of a convolution's kernel one output adds up width * inputs numbers, so their variance is 1 / that."""
    kernel = draw("lecun_normal", (5, 60, 400))
    assert kernel.var() == pytest.approx(1 / 300, rel=0.02)
    limit = (6 / (5 * 100)) ** 0.5
    assert np.abs(draw("glorot_uniform", (5, 60, 40))).max() == pytest.approx(limit, rel=1e-2)


@pytest.mark.parametrize("name", initializers.NAMES)
def test_a_single_number(name):
    for seed in range(30):  # some of a truncated distribution are drawn twice
        value = draw(name, (), seed, np.float32)
        assert isinstance(value, np.ndarray) and value.shape == () and value.dtype == np.float32


def test_constants():
    assert draw("zeros", (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert draw("ones", (2,), dtype=np.float32).tolist() == [1, 1]
    assert draw(Constant(-2.5), (2,)).tolist() == [-2.5, -2.5]


def test_seeds():
    np.testing.assert_array_equal(draw("he_normal", seed=3), draw("he_normal", seed=3))
    assert (draw("he_normal", seed=3) != draw("he_normal", seed=4)).any()
    np.testing.assert_array_equal(draw(HeNormal(seed=1), seed=3), draw(HeNormal(seed=1), seed=4))
    assert (draw(HeNormal(seed=1)) != draw(HeNormal(seed=2))).any()


def test_float32_is_float64_rounded():
    np.testing.assert_array_equal(
        draw("glorot_uniform", dtype=np.float32), draw("glorot_uniform").astype(np.float32)
    )


def test_seed_of_the_model():
    def weights(seed, **options):
        layers = [Dense(4, input_shape=(3,), **options), Dense(4, **options)]
        return npnet.Sequential(layers, seed=seed).get_weights()

    for ours, theirs in zip(weights(1), weights(1), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (weights(1)[0] != weights(2)[0]).any()
    own = {"kernel_initializer": LecunNormal(seed=7)}
    np.testing.assert_array_equal(weights(1, **own)[0], weights(2, **own)[0])
    assert (weights(1)[0].reshape(-1)[:4] != weights(1)[2].reshape(-1)[:4]).all()  # layers differ


def test_global_generator_is_left_alone():
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    npnet.Sequential([Dense(4, input_shape=(3,))])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_names():
    assert isinstance(initializers.get("glorot_uniform"), GlorotUniform)
    with pytest.raises(ValueError, match=r'Unknown initializer.*Did you mean "glorot_uniform"\?'):
        Dense(3, kernel_initializer="glorot_unifrom")
    with pytest.raises(ValueError, match='Did you mean "fan_in"'):
        VarianceScaling(mode="fanin")
    with pytest.raises(ValueError, match="scale must be finite and positive"):
        VarianceScaling(scale=0)
    with pytest.raises(ValueError, match='Did you mean "l2"'):
        Dense(3, kernel_regularizer="l22")


def test_penalties():
    w = np.array([[1.0, -2.0], [0.0, 3.0]], np.float32)
    l1, l2 = regularizers.L1(0.5), regularizers.L2(0.25)
    assert l1.penalty(w) == 3.0 and l2.penalty(w) == 3.5
    assert l1.gradient(w).tolist() == [[0.5, -0.5], [0, 0.5]]
    assert l2.gradient(w).tolist() == [[0.5, -1.0], [0, 1.5]]
    both = regularizers.L1L2(0.5, 0.25)
    assert both.penalty(w) == 6.5 and both.gradient(w).dtype == np.float32
    np.testing.assert_array_equal(both.gradient(w), l1.gradient(w) + l2.gradient(w))
    assert regularizers.get("l1").l1 == regularizers.get("l2").l2 == 0.01 and regularizers.get(None) is None
    with pytest.raises(ValueError, match="l2 must be finite and at least 0"):
        regularizers.L2(-0.1)


def test_regularizers_are_called_on_weights_as_in_keras():
    assert regularizers.l1_l2(0.1, 0.2)([1.0, 1.0, 1.0]) == pytest.approx(0.9)
