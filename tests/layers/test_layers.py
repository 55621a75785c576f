"""Layers: shapes, worked examples, training against inference, and what backward leaves behind."""

import numpy as np
import pytest
from small import compiled, random

import npnet
from npnet import kernels as kernel_sets
from npnet.layers import BatchNormalization, Dense, Dropout, Flatten, Input, Layer, Rescaling


def built(layer, input_shape, kernels="numpy", dtype=np.float64):
    """Return a layer built by itself."""
    layer.build(input_shape, np.random.default_rng(0), np.dtype(dtype))
    layer.kernels = kernel_sets.load(kernels)
    return layer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_by_hand(kernels, dtype):
    layer = built(Dense(2), (3,), kernels, dtype)
    layer.weight.assign([[1, 2], [3, 4], [5, 6]])
    layer.bias.assign([10, 20])
    x, dy = np.array([[1, 0, 2], [0, 1, 1]], dtype), np.array([[1, 2], [3, -1]], dtype)
    np.testing.assert_array_equal(layer.forward(x), [[21, 34], [18, 30]])
    np.testing.assert_array_equal(layer.backward(dy), [[5, 11, 17], [1, 5, 9]])
    np.testing.assert_array_equal(layer.weight.grad, [[1, 2], [3, -1], [5, 3]])
    np.testing.assert_array_equal(layer.bias.grad, [4, 1])
    assert layer.weight.grad.dtype == layer.forward(x).dtype == dtype


def test_dense_keeps_the_float32_error_of_a_sum_small(kernels):
    """Within 4 sqrt(K) u of the absolute sum (u = 2^-24)."""
    layer = built(Dense(64), (3072,), kernels, np.float32)
    x = random(0, 16, 3072).astype(np.float32)
    w, b = (p.value.astype(np.float64) for p in layer.parameters)
    exact, size = x.astype(np.float64) @ w + b, np.abs(x) @ np.abs(w) + np.abs(b)
    assert (np.abs(layer.forward(x) - exact) / size).max() < 4 * np.sqrt(3072) * 2**-24


def test_dense_without_bias():
    layer = built(Dense(2, use_bias=False), (3,))
    assert [p.name for p in layer.parameters] == ["kernel"] and layer.bias is None
    x = random(0, 4, 3)
    np.testing.assert_array_equal(layer.forward(x), x @ layer.weight.value)


def test_backward_overwrites_and_does_not_add_up():
    layer = built(Dense(2), (3,))
    x, dy = random(0, 4, 3), random(1, 4, 2)
    layer.forward(x)
    layer.backward(dy)
    once = layer.weight.grad.copy()
    layer.backward(dy)
    np.testing.assert_array_equal(layer.weight.grad, once)


def test_dense_arguments_are_checked():
    for units in (0, -3, 2.5, "8", True, None):
        with pytest.raises(ValueError, match="units must be a positive integer"):
            Dense(units)
    with pytest.raises(ValueError, match=r"x\.reshape\(len\(x\), 3072\), or add Flatten\(\)"):
        npnet.Sequential([Dense(10, input_shape=(32, 32, 3))])


def test_flatten_and_back():
    layer = built(Flatten(), (2, 3, 4))
    x = random(0, 5, 2, 3, 4)
    y = layer.forward(x)
    np.testing.assert_array_equal(y, x.reshape(5, 24))
    np.testing.assert_array_equal(layer.backward(y), x)
    assert layer.compute_output_shape((2, 3, 4)) == (24,)


def test_rescaling():
    layer = built(Rescaling(1 / 255, offset=-0.5), (2,), dtype=np.float32)
    y = layer.forward(np.array([[0, 255]], np.float32))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, [[-0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(layer.backward(np.full((1, 2), 255.0)), 1)


def test_dropout():
    layer = built(Dropout(0.25), (400,))
    x = np.full((500, 400), 3.0)
    y = layer.forward(x, training=True)
    assert set(np.unique(y)) == {0.0, 4.0}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.005)
    assert y.mean() == pytest.approx(3.0, rel=0.01)
    dx = layer.backward(np.ones_like(x))
    np.testing.assert_array_equal(dx == 0, y == 0)  # the mask of this forward
    np.testing.assert_allclose(dx[y > 0], 4 / 3)
    assert (layer.forward(x, training=True) != y).any()  # a fresh mask each time
    assert layer.forward(x) is x
    np.testing.assert_array_equal(layer.backward(dx), dx)


def test_dropout_arguments_and_seed():
    for rate in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
            Dropout(rate)
    x = np.ones((10, 10))
    one, other = (built(Dropout(0.5, seed=3), (10,)).forward(x, True) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(RuntimeError, match="built"):
        Dropout(0.5).forward(x, training=True)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_batch_normalization_in_training(shape, kernels):
    layer = built(BatchNormalization(momentum=0.9, epsilon=0.01), shape, kernels)
    layer.gamma.assign([1, 2, 3])
    layer.beta.assign([0, 10, 20])
    x = random(0, 8, *shape) * 2 + 5
    columns = x.reshape(-1, 3)
    mean, variance = columns.mean(axis=0), columns.var(axis=0)  # the biased variance
    z = (x - mean) / np.sqrt(variance + 0.01)
    np.testing.assert_allclose(layer.forward(x, training=True), z * [1, 2, 3] + [0, 10, 20], rtol=1e-12)
    np.testing.assert_allclose(layer.moving_mean.value, 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.value, 0.9 + 0.1 * variance, rtol=1e-12)


def test_batch_normalization_in_inference():
    layer = built(BatchNormalization(epsilon=0.01), (2,))
    layer.moving_mean.assign([1, 2])
    layer.moving_variance.assign([4, 9])
    before = [p.value.copy() for p in layer.parameters]
    x = random(0, 5, 2)
    np.testing.assert_allclose(layer.forward(x), (x - [1, 2]) / np.sqrt([4.01, 9.01]), rtol=1e-12)
    for parameter, value in zip(layer.parameters, before, strict=True):
        np.testing.assert_array_equal(parameter.value, value)


def test_frozen_batch_normalization_runs_as_in_inference():
    layer = built(BatchNormalization(trainable=False), (2,))
    x = random(0, 5, 2) + 7
    np.testing.assert_array_equal(layer.forward(x, training=True), layer.forward(x))
    assert layer.moving_mean.value.tolist() == [0, 0]


def test_batch_normalization_has_keras_defaults_and_order():
    layer = built(BatchNormalization(), (2,))
    assert (layer.momentum, layer.epsilon) == (0.99, 1e-3)
    assert [(p.name, p.trainable) for p in layer.parameters] == [
        ("gamma", True),
        ("beta", True),
        ("moving_mean", False),
        ("moving_variance", False),
    ]
    bare = built(BatchNormalization(center=False, scale=False), (2,))
    assert [p.name for p in bare.parameters] == ["moving_mean", "moving_variance"]
    with pytest.raises(ValueError, match="axis"):
        BatchNormalization(axis=1)


def test_constant_columns_and_single_samples_are_no_division_by_zero(kernels):
    layer = built(BatchNormalization(), (2,), kernels)
    for x in (np.full((4, 2), 3.0), np.array([[1.0, 2.0]])):
        np.testing.assert_array_equal(layer.forward(x, training=True), np.zeros_like(x))
        assert np.isfinite(layer.backward(np.ones_like(x))).all()


def test_frozen_layers_stay_and_pass_the_gradient_on(kernels):
    frozen = Dense(4, "tanh", trainable=False)
    model = compiled([Dense(4, "tanh", input_shape=(3,)), frozen, Dense(2)], dtype="float32", kernels=kernels)
    before = model.get_weights()
    model.fit(random(0, 6, 3), random(1, 6, 2), verbose=0)
    moved = [(a != b).any() for a, b in zip(model.get_weights(), before, strict=True)]
    assert moved == [True, True, False, False, True, True]


def test_layers_only_read_their_input(kernels):
    x, dy = random(0, 4, 6), random(1, 4, 6)
    x.flags.writeable = dy.flags.writeable = False
    for layer in (Dense(6), BatchNormalization(), Dropout(0.5), Rescaling(2.0), Flatten()):
        built(layer, (6,), kernels)
        layer.forward(x, training=True)
        layer.backward(dy)


def test_layer_of_ones_own_without_its_methods_says_which():
    class Half(Layer):
        pass

    with pytest.raises(NotImplementedError, match=r"Half has no forward\(x, training\)"):
        Half().forward(np.ones((1, 1)))
    with pytest.raises(NotImplementedError, match=r"Half has no backward\(dy\)"):
        Half().backward(np.ones((1, 1)))


def test_methods_of_a_layer_of_ones_own_take_what_they_are_given():
    class Keras(Layer):
        def build(self, input_shape):
            pass

    class Short(Layer):
        def forward(self, x):
            return x

    class Right(Layer):
        def forward(self, x, training=False, **more):
            return x

        def backward(self, dy):
            return dy

    with pytest.raises(TypeError, match=r"Keras\.build must be build\(self, input_shape, rng, dtype\)"):
        npnet.Sequential([Keras()]).build((None, 3))
    with pytest.raises(TypeError, match=r"Short\.forward must be .*training\), got forward\(self, x\)"):
        npnet.Sequential([Short()]).build((None, 3))
    npnet.Sequential([Right()]).build((None, 3))


def test_input_shapes():
    for shape in ((0,), (3.5,), (-1,), 3, ()):
        with pytest.raises(ValueError, match="shape must"):
            Input(shape)
    assert Dense(2, input_dim=3).input_shape == (3,)
    assert npnet.Sequential([Input((5,)), Dense(2)]).layers[0].weight.shape == (5, 2)


def test_described_by_their_arguments():
    for layer in (
        Dense(3, "relu", use_bias=False, kernel_initializer="he_normal", kernel_regularizer="l2", name="a"),
        Dropout(0.3, seed=4),
        BatchNormalization(momentum=0.5, center=False, trainable=False),
        Rescaling(0.5, 1.0, input_shape=(3,)),
        Flatten(),
    ):
        assert type(layer)(**layer.get_config()).get_config() == layer.get_config()
