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
