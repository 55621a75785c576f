"""Export to ONNX: onnxruntime computes what ``predict`` computes."""

import numpy as np
import pytest
from small import random

from npnet import Sequential, activations, layers
from npnet.checking.gradient_cases import examples
from npnet.layers import (
    ELU,
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    Normalization,
    RandomFlip,
    RandomTranslation,
    ReLU,
    Rescaling,
    Softmax,
)
from npnet.models import onnx


def exported(net, path):
    """Return onnxruntime's function of the exported model."""
    import onnxruntime

    net.export(path)
    session = onnxruntime.InferenceSession(path)
    return lambda x: session.run(None, {"x": x.astype(np.float32)})[0]


def with_other_weights(net):
    """Return the model with biases and statistics that are not 0 and 1."""
    net.set_weights([weight + np.abs(random(i, *weight.shape)) for i, weight in enumerate(net.get_weights())])
    return net


STACKS = {
    **{f"activation {name}": [Dense(6, name, input_shape=(5,))] for name in activations.NAMES},
    "activation layers": [ELU(0.7, input_shape=(5,)), LeakyReLU(), Activation("tanh"), Softmax()],
    "relu with options": [ReLU(0.6, 0.2, 0.1, input_shape=(5,))],
    "relu6": [ReLU(6, input_shape=(5,))],
    "dense without bias": [Dense(3, use_bias=False, input_shape=(5,))],
    "dropout alone": [Dropout(0.5, input_shape=(5,))],
    "batch normalization": [BatchNormalization(input_shape=(5,))],
    "batch normalization, bare": [BatchNormalization(center=False, scale=False, input_shape=(5,))],
    "normalization by one number": [Normalization(mean=0.5, variance=4.0, input_shape=(5,))],
    "pictures": [
        Rescaling(1 / 3, -0.5, input_shape=(2, 3, 4)),
        RandomFlip(),
        RandomTranslation(0.5, 0.5),
        Normalization(mean=[0.1, 0.2, -0.3, 0.0], variance=[0.1, 1.0, 2.0, 4.0]),
        BatchNormalization(),
        Flatten(),
        Dropout(0.2),
        Dense(10, "relu"),
        Dense(4, "softmax"),
    ],
    "a small convolutional network": [
        layers.Conv2D(5, 3, activation="relu", padding="same", input_shape=(7, 6, 2)),
        layers.MaxPooling2D(),
        BatchNormalization(),
        layers.SpatialDropout2D(0.3),
        layers.Conv2D(4, 2, activation="gelu"),
        Flatten(),
        Dense(4, "softmax"),
    ],
    **{
        f"{cls.__name__} {i}": [layer]
        for cls in layers.CLASSES.values()
        if cls is not layers.Input
        for i, layer in enumerate(examples(cls))
        if layer.input_shape is not None
    },
}


@pytest.mark.parametrize("stack", STACKS)
def test_onnxruntime_predicts_the_same(tmp_path, stack):
    net = with_other_weights(Sequential(STACKS[stack], seed=0))
    run = exported(net, tmp_path / "model.onnx")
    for n in (1, 9, 0):
        x = 2 * random(n, n, *net.input_shape)
        if stack.startswith(("CategoryEncoding", "Embedding")):  # which take whole numbers
            x = np.arange(x.size, dtype=np.float32).reshape(x.shape) % 4
        y = net.predict(x, verbose=0)
        np.testing.assert_allclose(run(x), y, rtol=1e-5, atol=1e-6 * np.abs(y).max(initial=1))


def test_a_float64_model_is_exported_in_float32(tmp_path):
    net = with_other_weights(
        Sequential([Dense(6, "elu", input_shape=(5,)), Dense(3)], dtype="float64", seed=0)
    )
    x = random(0, 4, 5)
    y = exported(net, tmp_path / "model.onnx")(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, net.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_every_layer_can_be_exported():
    stand_for_others = {layers.Input, layers.Activation, layers.Nested}
    assert set(onnx.CONVERTERS) == set(layers.CLASSES.values()) - stand_for_others


class Swap(layers.Layer):
    """y = -x"""

    def forward(self, x, training=False):
        return -x


class LoudReLU(ReLU):
    def forward(self, x, training=False):
        return 2 * super().forward(x, training)


@pytest.mark.parametrize("layer", [Swap(input_shape=(3,)), Dense(3, LoudReLU(), input_shape=(3,))])
def test_an_unknown_layer_is_named_and_nothing_is_written(tmp_path, layer):
    net = Sequential([layer])
    net.build((None, 3))
    with pytest.raises(
        NotImplementedError, match=r"(Swap|LoudReLU) is written in ONNX\. Add it: .*CONVERTERS"
    ):
        net.export(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_forward_of_its_own_is_refused(tmp_path):
    net = Sequential([Dense(3, input_shape=(3,))])
    net.layers[0].forward = lambda x, training=False: -x
    with pytest.raises(NotImplementedError, match="has a forward of its own"):
        net.export(tmp_path / "model.onnx")


def test_a_layer_of_ones_own_can_be_added(tmp_path, monkeypatch):
    monkeypatch.setitem(onnx.CONVERTERS, Swap, lambda graph, layer, x: graph("Neg", x))
    net = Sequential([Swap(input_shape=(3,)), Swap()])
    x = random(0, 2, 3).astype(np.float32)
    np.testing.assert_array_equal(exported(net, tmp_path / "model.onnx")(x), x)


def test_arguments_are_checked(tmp_path):
    with pytest.raises(RuntimeError, match="export needs a built model"):
        Sequential([Dense(3)]).export(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="format must be \"onnx\", got 'tf_saved_model'"):
        Sequential([Dense(3, input_shape=(2,))]).export(tmp_path / "model", format="tf_saved_model")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    net = Sequential([Dense(3, input_shape=(2,))])
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install onnx"):
        net.export(tmp_path / "model.onnx")


def test_a_saved_model_is_not_overwritten_by_an_onnx_file(tmp_path):
    net, path = Sequential([Dense(2, input_shape=(3,))]), tmp_path / "model.safetensors"
    net.save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"those of safetensors files, .* Name it model\.onnx"):
        net.export(path)
    assert path.read_bytes() == before
