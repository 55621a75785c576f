"""Shapes and spirals: the interface of CIFAR-10, made from a seed."""

import numpy as np
import pytest

import npnet.datasets
from npnet.datasets import shapes, spiral


@pytest.fixture(scope="module")
def pictures():
    return shapes.load_data(n_train=1000, n_test=200)


def test_shapes_look_like_cifar10(pictures):
    (x_train, y_train), (x_test, y_test) = pictures
    assert x_train.shape == (1000, 32, 32, 3)
    assert y_train.shape == (1000, 1)
    assert x_test.shape == (200, 32, 32, 3)
    assert y_test.shape == (200, 1)
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert len(set(shapes.CLASS_NAMES)) == 10
    np.testing.assert_array_equal(np.bincount(y_train[:, 0]), 100)
    np.testing.assert_array_equal(np.bincount(y_test[:, 0]), 20)
    assert len(set(y_train[:20, 0])) > 3  # shuffled


def test_every_picture_differs(pictures):
    (x_train, _), (x_test, _) = pictures
    assert len({picture.tobytes() for picture in np.concatenate([x_train, x_test])}) == 1200


def test_same_seed_same_pictures(pictures):
    (x_train, y_train), (x_test, y_test) = pictures
    (x_again, y_again), _ = shapes.load_data(n_train=1000, n_test=10)
    np.testing.assert_array_equal(x_again, x_train)
    np.testing.assert_array_equal(y_again, y_train)
    _, (x_again, y_again) = shapes.load_data(n_train=10, n_test=200)
    np.testing.assert_array_equal(x_again, x_test)
    np.testing.assert_array_equal(y_again, y_test)
    (other, _), _ = shapes.load_data(n_train=1000, n_test=1, seed=1)
    assert not np.array_equal(other, x_train)


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    shapes.load_data(n_train=10, n_test=10)
    spiral.load_data()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_shapes_can_be_told_apart_but_not_by_their_colours(pictures):
    """Nearest class mean: of a picture's mean colour it is blind, of its grey outline it is not."""
    (x_train, y_train), (x_test, y_test) = pictures

    def accuracy(feature):
        train, test = feature(x_train), feature(x_test)
        means = np.stack([train[y_train[:, 0] == k].mean(axis=0) for k in range(10)])
        nearest = ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        return np.mean(nearest == y_test[:, 0])

    def outline(x):
        grey = x.astype(float).mean(axis=3).reshape(len(x), -1)
        grey -= grey.mean(axis=1, keepdims=True)
        return grey / grey.std(axis=1, keepdims=True)

    assert accuracy(lambda x: x.mean(axis=(1, 2))) < 0.25
    assert 0.2 < accuracy(outline) < 0.9


@pytest.mark.parametrize("n_train", [1, 7, 2011])
def test_any_number_of_pictures(n_train):
    (x_train, y_train), _ = shapes.load_data(n_train=n_train, n_test=1)
    assert len(x_train) == len(y_train) == n_train
    counts = np.bincount(y_train[:, 0], minlength=10)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (shapes, {"n_train": 0}, "n_train must be at least 1, got 0"),
        (shapes, {"n_test": 1.5}, "n_test must be an integer"),
        (shapes, {"seed": -1}, "seed must be at least 0"),
        (spiral, {"n_per_class": 0}, "n_per_class must be at least 1"),
        (spiral, {"classes": 1}, "classes must be at least 2"),
        (spiral, {"classes": 257}, "classes must be at most 256"),
        (spiral, {"noise": -0.1}, "noise must be"),
        (spiral, {"noise": float("nan")}, "noise must be"),
        (spiral, {"seed": "x"}, "seed must be an integer"),
    ],
)
def test_wrong_arguments(module, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        module.load_data(**arguments)


def test_spiral():
    (x_train, y_train), (x_test, y_test) = spiral.load_data(n_per_class=50, classes=4)
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.shape == (200, 2)
        assert x.dtype == np.float32
        assert y.shape == (200, 1)
        assert y.dtype == np.uint8
        np.testing.assert_array_equal(np.bincount(y[:, 0]), 50)
        assert np.hypot(*x.T).max() <= 1.0001
    assert not np.array_equal(x_train, x_test)
    (again, _), _ = spiral.load_data(n_per_class=50, classes=4)
    np.testing.assert_array_equal(again, x_train)


def test_spiral_without_noise_follows_its_formula():
    (x, y), _ = spiral.load_data(n_per_class=100, noise=0)
    radius = np.hypot(*x.T)
    angle = 2 * np.pi * y[:, 0] / 3 + 4 * radius
    arms = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    np.testing.assert_allclose(x, arms, atol=1e-6)


def test_unknown_dataset():
    with pytest.raises(AttributeError, match=r"npnet\.datasets has no imdb"):
        npnet.datasets.imdb  # noqa: B018
