"""Initializers: limits, variances, seeds, names. Regularizers: penalties."""

import numpy as np
import pytest
from small import compiled, random

import npnet
from npnet import initializers, regularizers
from npnet.initializers import (
    Constant,
    Dirac,
    GlorotUniform,
    HeNormal,
    LecunNormal,
    VarianceScaling,
    Whitening,
    patch_covariance,
)
from npnet.layers import Conv2D, Dense, Input
from npnet.models import load_model

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


@pytest.mark.parametrize("name", sorted(initializers.NAMES.keys() - {"dirac"}))
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


@pytest.mark.parametrize(("channels", "filters"), [(4, 7), (4, 4), (7, 4)])
@pytest.mark.parametrize("window", [(3, 3), (1, 5), (3,)])
def test_dirac_lets_the_first_channels_pass(channels, filters, window):
    kernel = draw(Dirac(GlorotUniform()), (*window, channels, filters))
    passing = min(channels, filters)
    delta = np.zeros((*window, channels, passing))
    for i in range(passing):
        delta[(*(size // 2 for size in window), i, i)] = 1
    np.testing.assert_array_equal(kernel[..., :passing], delta)
    np.testing.assert_array_equal(kernel[..., passing:], draw("glorot_uniform", kernel.shape)[..., passing:])


def test_a_convolution_that_begins_as_dirac_is_the_identity():
    x = random(0, 2, 5, 6, 3)
    layer = Conv2D(5, 3, padding="same", kernel_initializer="dirac", input_shape=(5, 6, 3))
    np.testing.assert_array_equal(compiled([layer]).predict(x, verbose=0)[..., :3], x)
    for shape in ((2, 2, 3, 3), (3, 3)):
        with pytest.raises(ValueError, match=r"Dirac is for filters .* with odd kh and kw, got shape"):
            draw(Dirac(), shape)


def test_whitening_makes_the_patches_of_pictures_uncorrelated():
    mixed = random(0, 40, 7, 6, 3) @ random(1, 3, 3) + [3.0, 0.0, -1.0]  # channels that depend on each other
    covariance = patch_covariance(mixed, (2, 3))
    patches = [x[i : i + 2, j : j + 3].reshape(-1) for x in mixed for i in range(6) for j in range(4)]
    np.testing.assert_allclose(covariance, np.transpose(patches) @ patches / len(patches), rtol=1e-12)
    layer = Conv2D(36, (2, 3), kernel_initializer=Whitening(covariance, 1e-12), use_bias=False)
    y = compiled([Input((7, 6, 3)), layer]).predict(mixed, verbose=0).reshape(-1, 36)
    np.testing.assert_allclose(y[:, 18:], -y[:, :18], rtol=1e-12)
    np.testing.assert_allclose(y[:, :18].T @ y[:, :18] / len(y), np.eye(18), atol=1e-6)
    sizes = np.linalg.norm(layer.kernel.value.reshape(18, 36), axis=0)[:18]
    assert (np.diff(sizes) > 0).all(), "what varies most comes first, and is scaled least"


def test_epsilon_bounds_filters_of_directions_that_never_vary():
    kernel = draw(Whitening(np.diag([4.0, 0.0]), epsilon=0.25), (1, 1, 2, 4))
    np.testing.assert_allclose(np.abs(kernel[0, 0, :, :2]), np.diag([4.25**-0.5, 2.0]), rtol=1e-12)


def test_whitening_is_saved_and_wrong_ones_are_refused(tmp_path):
    kind = Whitening(np.diag([3.0, 2.0]), epsilon=0.5)
    net = compiled([Input((4, 4, 2)), Conv2D(4, 1, kernel_initializer=kind)])
    net.save(tmp_path / "m")
    again = load_model(tmp_path / "m").layers[0].kernel_initializer
    assert again.get_config() == kind.get_config() == {"covariance": [[3, 0], [0, 2]], "epsilon": 0.5}
    for wrong, message in (
        (lambda: Whitening(np.ones((2, 3))), "covariance must be a square matrix"),
        (lambda: Whitening([[np.nan]]), "covariance must be finite"),
        (lambda: draw(kind, (1, 1, 2, 3)), r"kh kw C = 2 and F = 4, got shape \(1, 1, 2, 3\)"),
        (lambda: patch_covariance(np.ones((2, 3, 3, 1)), 4), "pictures .* of at least 4 x 4"),
        (lambda: initializers.get("whitening"), "Unknown initializer"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


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
