"""Weights go to Keras and PyTorch and come back; the networks there predict what npnet predicts."""

import os

import numpy as np
import pytest
from small import random

from npnet import Sequential, activations, layers

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")]  # Keras's
N, D = 64, 12
X = random(0, N, D).astype(np.float32)
NAMES = list(activations.NAMES)


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def all_layers(library, name):
    """Return layers that stand for all, in npnet's words, which are Keras's."""
    return [
        library.Dense(16, name),
        library.BatchNormalization(),
        library.Dropout(0.5),
        library.Dense(8, use_bias=False),
        library.Activation(name),
        library.BatchNormalization(scale=False),
        library.Dense(5),
    ]


def with_other_weights(weights):
    """Return weights whose biases and statistics are not 0 and 1."""
    return [weight + 0.1 * random(i, *weight.shape).clip(-2, 2) for i, weight in enumerate(weights)]


def assert_close(y, expected):
    """To 1e-6 of the largest output."""
    assert y.dtype == np.float32
    assert np.abs(y - expected).max() < 1e-6 * np.abs(expected).max()


def built(stack):
    net = Sequential(stack, seed=0)
    net.build((None, D))
    net.set_weights(with_other_weights(net.get_weights()))
    return net


@pytest.mark.parametrize("name", NAMES)
def test_keras(keras, name):
    model = built(all_layers(layers, name))
    keras_model = keras.Sequential([keras.Input((D,)), *all_layers(keras.layers, name)])

    keras_model.set_weights(model.get_weights())
    assert_close(keras_model.predict(X, verbose=0), model.predict(X, verbose=0))

    keras_model.set_weights(with_other_weights(keras_model.get_weights()))
    model.set_weights(keras_model.get_weights())
    assert_close(model.predict(X, verbose=0), keras_model.predict(X, verbose=0))


def torch_activations(torch):
    nn = torch.nn
    return {
        "linear": nn.Identity(), "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "elu": nn.ELU(),
        "selu": nn.SELU(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "softplus": nn.Softplus(),
        "softmax": nn.Softmax(-1), "log_softmax": nn.LogSoftmax(-1), "gelu": nn.GELU(), "silu": nn.SiLU(),
        "swish": nn.SiLU(),
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_pytorch(torch, name):
    nn, activation = torch.nn, torch_activations(torch)[name]
    model = built(
        [
            layers.Dense(16, name),
            layers.BatchNormalization(epsilon=1e-5),
            layers.Dropout(0.5),
            layers.Dense(8, use_bias=False),
            layers.Activation(name),
            layers.Dense(5),
        ]
    )
    net = nn.Sequential(
        nn.Linear(D, 16), activation, nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 8, bias=False),
        activation, nn.Linear(8, 5),
    ).eval()  # fmt: skip

    def predict():
        with torch.no_grad():
            return net(torch.from_numpy(X)).numpy()

    tensors = [tensor for tensor in net.state_dict().values() if tensor.ndim]
    for tensor, weight in zip(tensors, model.get_weights(), strict=True):
        tensor.copy_(torch.from_numpy(weight.T))
    assert_close(predict(), model.predict(X, verbose=0))

    for i, tensor in enumerate(tensors):
        tensor += 0.1 * torch.from_numpy(random(i, *tensor.shape).clip(-2, 2))
    model.set_weights([tensor.numpy().T for tensor in net.state_dict().values() if tensor.ndim])
    assert_close(model.predict(X, verbose=0), predict())


# --- pictures -----------------------------------------------------------------------------------------------

PICTURES = random(0, 16, 9, 8, 3).astype(np.float32)


def layers_of_pictures(library):
    """Return layers that stand for all those of pictures, in npnet's words, which are Keras's."""
    return [
        library.ZeroPadding2D(((1, 0), (0, 2))),
        library.Conv2D(6, 3, padding="same", activation="relu"),
        library.BatchNormalization(),
        library.Conv2D(8, (2, 3), strides=2, padding="same", groups=2),
        library.MaxPooling2D(2, strides=1),
        library.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="tanh"),
        library.UpSampling2D(interpolation="bilinear"),
        library.SeparableConv2D(5, 2, depth_multiplier=2),
        library.LayerNormalization(),
        library.AveragePooling2D(2, padding="same"),
        library.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=0),
        library.GroupNormalization(2),
        library.SpatialDropout2D(0.5),
        library.Cropping2D(1),
        library.Permute((2, 1, 3)),
        library.Reshape((-1, 4)),
        library.Conv1D(3, 3, padding="causal", dilation_rate=2),
        library.MaxPooling1D(),
        library.Flatten(),
        library.Dense(5),
    ]


def built_for_pictures(stack):
    net = Sequential([layers.Input(PICTURES.shape[1:]), *stack], seed=0)
    net.set_weights(with_other_weights(net.get_weights()))
    return net


def assert_close_after_many_layers(y, expected):
    """To 1e-5 of the largest output: normalisations divide rounding errors by small deviations."""
    assert y.dtype == np.float32
    assert np.abs(y - expected).max() < 1e-5 * np.abs(expected).max()


def test_keras_with_pictures(keras):
    model = built_for_pictures(layers_of_pictures(layers))
    keras_model = keras.Sequential([keras.Input(PICTURES.shape[1:]), *layers_of_pictures(keras.layers)])

    keras_model.set_weights(model.get_weights())
    predictions = keras_model.predict(PICTURES, verbose=0)
    assert_close_after_many_layers(predictions, model.predict(PICTURES, verbose=0))

    keras_model.set_weights(with_other_weights(keras_model.get_weights()))
    model.set_weights(keras_model.get_weights())
    predictions = keras_model.predict(PICTURES, verbose=0)
    assert_close_after_many_layers(model.predict(PICTURES, verbose=0), predictions)


def test_keras_has_the_same_names_shapes_and_parameters(keras):
    model = built_for_pictures(layers_of_pictures(layers))
    keras.utils.clear_session()
    keras_model = keras.Sequential([keras.Input(PICTURES.shape[1:]), *layers_of_pictures(keras.layers)])
    shape = model.input_shape
    for ours, theirs in zip(model.layers, keras_model.layers, strict=True):
        shape = ours.compute_output_shape(shape)
        assert (ours.name, ours.count_params()) == (theirs.name, theirs.count_params())
        assert shape == theirs.output.shape[1:]
        assert [p.shape for p in ours.parameters] == [w.shape for w in theirs.weights]


def to_torch(weight):
    """README's: (inputs, units) -> (units, inputs), (kh, kw, C, F) -> (F, C, kh, kw)."""
    return weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T


def from_torch(tensor):
    """The way back."""
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def test_pytorch_with_pictures(torch):
    nn = torch.nn
    model = built_for_pictures(
        [
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, groups=2),
            layers.Conv2DTranspose(5, 3, strides=2),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(7),
        ]
    )
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(6, eps=1e-3), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, groups=2), nn.ConvTranspose2d(8, 5, 3, stride=2), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(2 * 2 * 5, 7),
    ).eval()  # fmt: skip
    h, w, c = model.layers[-2].input_shape  # PyTorch flattens (c, h, w): so are the rows of the Dense ordered

    def predict():
        with torch.no_grad():
            return net(torch.from_numpy(PICTURES.transpose(0, 3, 1, 2))).numpy()

    tensors = [tensor for tensor in net.state_dict().values() if tensor.ndim]
    weights = model.get_weights()
    weights[-2] = weights[-2].reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(h * w * c, -1)
    for tensor, weight in zip(tensors, weights, strict=True):
        tensor.copy_(torch.from_numpy(to_torch(weight)))
    assert_close_after_many_layers(predict(), model.predict(PICTURES, verbose=0))

    for i, tensor in enumerate(tensors):
        tensor += 0.1 * torch.from_numpy(random(i, *tensor.shape).clip(-2, 2))
    weights = [from_torch(tensor.numpy()) for tensor in tensors]
    weights[-2] = weights[-2].reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(h * w * c, -1)
    model.set_weights(weights)
    assert_close_after_many_layers(model.predict(PICTURES, verbose=0), predict())


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((9, 8), 3, {"strides": 2}), ((9, 8), (2, 5), {"padding": "same"}), ((9, 8), 2, {"dilation_rate": 3}),
        ((7, 9), 3, {"strides": 3, "groups": 3}), ((1, 2), 5, {"padding": "same", "strides": 2}),
    ],
)  # fmt: skip
def test_pytorch_s_gradients_of_a_convolution(torch, size, kernel, options):
    """dx, dW and db, PyTorch's with Keras's padding made by hand."""
    layer = layers.Conv2D(6, kernel, **options)
    Sequential([layers.Input((*size, 3)), layer], dtype="float64", seed=0)
    x = random(0, 4, *size, 3)
    y = layer.forward(x)
    dy = random(1, *y.shape)
    dx = layer.backward(dy)
    geometry = layer.windows((*size, 3))
    (above, below), (left, right) = geometry.padding
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    weight = torch.tensor(to_torch(layer.weight.value).copy(), requires_grad=True)
    padded = torch.nn.functional.pad(theirs, (left, right, above, below))
    out = torch.nn.functional.conv2d(
        padded, weight, stride=geometry.strides, dilation=geometry.dilation, groups=geometry.groups
    )
    out.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(y, out.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dx, theirs.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.weight.grad, from_torch(weight.grad.numpy()), rtol=1e-10, atol=1e-12)


def test_pytorch_pools_ties_and_nan_alike(torch):
    x = np.random.default_rng(0).integers(0, 3, (4, 9, 8, 3)).astype(float)
    x[0, 4, 4, 1] = np.nan
    layer = layers.MaxPooling2D(3, strides=2)
    y = layer.forward(x)
    dy = random(1, *y.shape)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    out = torch.nn.functional.max_pool2d(theirs, 3, stride=2)
    out.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(y, out.detach().numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(layer.backward(dy), theirs.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-12)
