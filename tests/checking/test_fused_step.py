"""The check of a fused step: the path that ``fit`` takes, against the textbook."""

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet.kernels import reference
from npnet.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
    RandomFlip,
    Rescaling,
)

N, D, K = 6, 5, 3


def check(layers, x=None, y=None, loss="categorical_crossentropy", weight=None, **options):
    model = compiled(layers, loss, **options)
    x = random(1, N, D) if x is None else x
    y = one_hot(len(x), K) if y is None else y
    return npnet.check_gradients(model, x, y, weight, entries=10, verbose=False, fused=True)


def steps(result):
    return {row.tensor: row for row in result.rows if row.fused}


def usual():
    """Its fused step is one parallel loop."""
    return [Dense(7, "relu"), Dense(6, "relu"), Dense(K, "softmax")]


NETWORKS = {
    "whole step": usual,
    "a bias of gradient 0": lambda: [
        Dense(7), BatchNormalization(), Dense(K, "softmax", kernel_regularizer="l2"),
    ],
    "random numbers": lambda: [Dense(7, "relu"), Dropout(0.5), Dense(K, "softmax")],
}  # fmt: skip


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_a_row_for_each_parameter(layers):
    network = layers()
    result = check(network)
    assert result.passed, f"\n{result}"
    rows = steps(result)
    assert list(rows) == [f"{layer.name}/{p.name}" for layer in network for p in layer.parameters]
    assert all(row.checked == np.prod(row.shape) for row in rows.values())
    assert len(result.rows) > len(rows)  # the differences are there, too


def test_bytes_sparse_labels_and_weights():
    pictures = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 1)).astype(np.uint8)
    layers = [RandomFlip(input_shape=(4, 4, 1)), Rescaling(1 / 255), Flatten(), *usual()]
    result = check(
        layers, pictures, np.arange(N) % K, "sparse_categorical_crossentropy", np.linspace(0, 2, N)
    )
    assert result.passed and len(steps(result)) == 6, f"\n{result}"


@pytest.mark.parametrize(
    "first",
    [
        lambda: [Conv2D(4, 3, activation="relu"), BatchNormalization(), MaxPooling2D(), Conv2D(3, 2)],
        lambda: [MaxPooling2D(), Conv2D(3, 2, trainable=False), GlobalAveragePooling2D(keepdims=True)],
    ],
    ids=["learning", "nothing to learn before the first Dense"],
)
def test_pictures_before_a_fused_dense(first):
    pictures = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 2)).astype(np.uint8)
    layers = [Rescaling(1 / 255, input_shape=(8, 8, 2)), RandomFlip(), *first(), Flatten(), *usual()]
    result = check(layers, pictures)
    assert result.passed and len(steps(result)) >= 6, f"\n{result}"


def test_the_model_stays_as_it_is():
    model = compiled(NETWORKS["random numbers"](), "categorical_crossentropy", optimizer="adam")
    x, y = random(1, N, D), one_hot(N, K)
    model.train_on_batch(x, y)
    before, state = model.get_weights(), model.layers[1].rng.bit_generator.state
    npnet.check_gradients(model, x, y, fused=True, verbose=False)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.layers[1].rng.bit_generator.state == state
    assert type(model.optimizer).__name__ == "Adam" and model.kernels is reference


class WrongWhenCompiled(Layer):
    """y = 2x: right on NumPy's kernels, a factor 1.001 in one element on the compiled ones."""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        dx = 2 * dy
        if self.kernels is not reference:
            dx[0, 0] *= 1.001
        return dx


def test_a_mistake_in_the_compiled_kernels_alone_is_found():
    first, *others = usual()
    result = check([first, WrongWhenCompiled(), *others])
    verdicts = {name: row.passed for name, row in steps(result).items()}
    assert verdicts == {
        "dense/kernel": False, "dense/bias": False, "dense_1/kernel": True, "dense_1/bias": True,
        "dense_2/kernel": True, "dense_2/bias": True,
    }  # fmt: skip
    assert all(row.passed for row in result.rows if not row.fused)
    assert "dense/kernel, fused step" in str(result) and not result.passed


def test_a_fused_step_that_forgets_a_parameter_is_found(monkeypatch):
    train_on_batch = npnet.Sequential.train_on_batch

    def forgetful(self, *arguments):
        before = self.get_weights()
        train_on_batch(self, *arguments)
        if self.kernels is not reference:
            self.set_weights([*before[:2], *self.get_weights()[2:]])

    monkeypatch.setattr(npnet.Sequential, "train_on_batch", forgetful)
    wrong = [name for name, row in steps(check(usual())).items() if not row.passed]
    assert wrong == ["dense/kernel", "dense/bias"]
