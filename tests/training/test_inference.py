"""Predictions of convolutional networks: fused, some pictures at a time, the same as link by link."""

import numpy as np
import pytest

from npnet import Sequential, layers
from npnet.training.fused import inference

X = np.random.default_rng(0).normal(size=(7, 12, 12, 16)).astype(np.float32)


def convolution(**options):
    return layers.Conv2D(17, 3, padding="same", **options)


# Made anew for each test; and how many of the links the convolutions absorb.
NETWORKS = {
    "rule, pooling": (2, lambda: [convolution(activation="relu"), layers.MaxPooling2D()]),
    "pooling, gelu": (2, lambda: [convolution(), layers.MaxPooling2D(), layers.Activation("gelu")]),
    "gelu, pooling": (2, lambda: [convolution(activation="gelu"), layers.MaxPooling2D()]),
    "norm, rule": (2, lambda: [convolution(use_bias=False), layers.BatchNormalization(), layers.ReLU()]),
    "pooling, norm, rule": (3, lambda: [
        convolution(), layers.MaxPooling2D(), layers.BatchNormalization(), layers.Activation("gelu"),
    ]),
    "norm, pooling": (1, lambda: [
        convolution(), layers.BatchNormalization(), layers.MaxPooling2D(), layers.ReLU(),
    ]),
    "rule, norm": (1, lambda: [convolution(activation="relu"), layers.BatchNormalization()]),
    "two norms": (1, lambda: [
        convolution(), layers.BatchNormalization(scale=False), layers.BatchNormalization(),
    ]),
    "strides": (1, lambda: [convolution(strides=2, activation="relu"), layers.MaxPooling2D()]),
    "window of one": (0, lambda: [layers.Conv2D(8, 1, activation="relu"), layers.BatchNormalization()]),
    "depthwise": (1, lambda: [
        layers.DepthwiseConv2D(3), layers.ReLU(), convolution(activation="relu"),
    ]),
    "two in a row": (2, lambda: [
        convolution(activation="relu"), layers.Dropout(0.5), convolution(activation="relu"),
    ]),
}  # fmt: skip


def built(network):
    """A network of these layers with statistics that training might have left, some scales negative."""
    model = Sequential([*network, layers.GlobalAveragePooling2D(), layers.Dense(3)], seed=1)
    model.build((None, *X.shape[1:]))
    rng = np.random.default_rng(2)
    for parameter in model.parameters:
        if parameter.name in ("gamma", "beta", "moving_mean", "bias"):
            parameter.value[...] = rng.normal(size=parameter.shape)
        elif parameter.name == "moving_variance":
            parameter.value[...] = rng.uniform(0.1, 2, parameter.shape)
    model.compile(loss="mse", kernels="numba")
    return model


@pytest.fixture
def fused(monkeypatch):
    """How many convolutions were computed with what follows them."""
    calls = []

    def computed(stage, *arguments):
        calls.append(stage)
        return original(stage, *arguments)

    original = inference.InferenceConvolution.__call__
    monkeypatch.setattr(inference.InferenceConvolution, "__call__", computed)
    return calls


@pytest.mark.parametrize(("absorbed", "network"), NETWORKS.values(), ids=NETWORKS.keys())
def test_predictions_are_those_of_the_links_one_by_one(absorbed, network, fused):
    model = built(network())
    expected = model.forward(X).copy()
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5)
    parts = [bool(part) for stage in fused for part in (stage.activation, stage.pool, stage.norm)]
    assert sum(parts) == absorbed
    np.testing.assert_allclose(model(X), expected, rtol=1e-4, atol=1e-5)


def test_pictures_are_computed_some_at_a_time(fused, monkeypatch):
    model = built(NETWORKS["two in a row"][1]())
    whole = model.predict(X, verbose=0)
    assert len(fused) == 2
    monkeypatch.setattr(inference, "MOST_NUMBERS", 2 * 12 * 12 * 17)
    fused.clear()
    assert model.predict(X, verbose=0).tobytes() == whole.tobytes()
    assert len(fused) == 2 * 4


def test_each_result_is_an_array_of_its_own():
    model = Sequential([convolution(activation="relu")], seed=1)
    model.build((None, *X.shape[1:]))
    first = model(X[:3])
    before = first.copy()
    model(X[3:6])
    np.testing.assert_array_equal(first, before)


def test_evaluation_predicts_in_the_same_way(fused):
    model = built(NETWORKS["norm, rule"][1]())
    y = np.zeros((7, 3), np.float32)
    loss = model.evaluate(X, y, verbose=0)
    assert len(fused) == 1
    assert loss == pytest.approx(float(np.square(model.forward(X)).mean()), rel=1e-4)


def test_fused_false_predicts_link_by_link(fused):
    model = built(NETWORKS["norm, rule"][1]())
    model.compile(loss="mse", kernels="numba", fused=False)
    assert model.predict(X, verbose=0).tobytes() == model.forward(X).tobytes()
    model.compile(loss="mse", kernels="numpy")
    assert model.predict(X, verbose=0).tobytes() == model.forward(X).tobytes()
    assert fused == []


class Doubled(layers.BatchNormalization):
    """A subclass with a formula of its own."""

    def normalize(self, columns, mean, variance):
        return 2 * super().normalize(columns, mean, variance)


class Centred(layers.Layer):
    """A layer that looks at the whole batch."""

    def forward(self, x, training=False):
        return x - x.mean(axis=0)


@pytest.mark.parametrize("own", [Doubled, Centred])
def test_layers_of_the_user_s_own_run_as_they_are_written(own, monkeypatch, fused):
    monkeypatch.setattr(inference, "MOST_NUMBERS", 1)
    model = built([convolution(activation="relu"), own(), convolution()])
    expected = model.forward(X).copy()
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5)
    assert len(fused) == len(X)  # the first convolution, a picture at a time


class Halved(Sequential):
    """A model with a forward pass of its own."""

    def forward(self, x, training=False):
        return super().forward(x, training) / 2


def test_a_forward_pass_of_the_user_s_own_is_taken():
    own = Halved([convolution(activation="relu")], seed=1)
    plain = Sequential([convolution(activation="relu")], seed=1)
    for model in (own, plain):
        model.build((None, *X.shape[1:]))
        model.compile(loss="mse", kernels="numba")
    np.testing.assert_allclose(own.predict(X, verbose=0), plain.predict(X, verbose=0) / 2, rtol=1e-5)


def test_a_class_that_was_rewritten_is_heard(monkeypatch, fused):
    model = built(NETWORKS["norm, rule"][1]())
    monkeypatch.setattr(layers.ReLU, "forward", lambda self, x, training=False: -x)
    expected = model.forward(X).copy()
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-4, atol=1e-5)
    assert fused == []


def test_float64_is_exact_to_its_rounding():
    model = Sequential([*NETWORKS["pooling, norm, rule"][1](), layers.Flatten()], dtype="float64", seed=1)
    model.build((None, *X.shape[1:]))
    model.compile(loss="mse", kernels="numba")
    np.testing.assert_allclose(model(X), model.forward(X.astype(np.float64)), rtol=1e-11, atol=1e-12)
