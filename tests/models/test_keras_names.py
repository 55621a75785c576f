"""Keras's other names for what models and layers have: one line each."""

import json

import numpy as np
import pytest
from small import compiled, random

import npnet
from npnet import Sequential, activations, layers, losses, optimizers
from npnet.layers import BatchNormalization, Dense, Dropout, Layer
from npnet.models import clone_model


def model():
    return compiled(
        [Dense(4, "relu", input_shape=(3,), name="first"), BatchNormalization(), Dense(2, trainable=False)],
        metrics=["mae", npnet.metrics.Mean("other")][:1],
    )


def test_weights_under_keras_s_names():
    net = model()
    assert net.weights == net.variables == net.parameters and len(net.weights) == 8
    assert net.trainable_weights == net.trainable_variables == net.parameters[:4]
    assert net.non_trainable_weights == net.non_trainable_variables == net.parameters[4:]
    layer = net.get_layer("first")
    assert layer is net.get_layer(index=0) and layer.kernel is layer.weight is layer.weights[0]
    np.testing.assert_array_equal(layer.kernel.numpy(), np.array(layer.kernel))
    assert net.layers[2].trainable_weights == [] and len(net.layers[2].non_trainable_weights) == 2
    layer.set_weights([np.ones((3, 4)), np.zeros(4)])
    assert (net.get_weights()[0] == 1).all()
    for wrong in ([np.ones((3, 4))], [np.ones((4, 3)), np.zeros(4)], [np.full((3, 4), np.nan), np.zeros(4)]):
        with pytest.raises(ValueError, match="weights"):
            layer.set_weights(wrong)
    assert (net.get_weights()[0] == 1).all()
    with pytest.raises(ValueError, match=r"Unknown layer 'frist'. Did you mean \"first\""):
        net.get_layer("frist")
    for wrong in ({}, {"name": "first", "index": 0}):
        with pytest.raises(ValueError, match="a name or an index"):
            net.get_layer(**wrong)
    with pytest.raises(AttributeError, match="not built yet"):
        Dense(3).kernel  # noqa: B018


def test_metrics_under_keras_s_names():
    net = model()
    assert net.metrics_names == ["loss", "mae"]
    net.reset_metrics()
    assert len(net.evaluate(np.ones((2, 3)), np.ones((2, 2)), verbose=0)) == 2


def test_a_model_is_described_and_cloned():
    net = model()
    twin = Sequential.from_config(net.get_config())
    for other in (twin, clone_model(net)):
        assert other.get_config() == net.get_config() and other is not net and not other.compiled
        for ours, theirs in zip(other.get_weights(), net.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)  # the same seed
    net.fit(random(0, 8, 3), random(1, 8, 2), verbose=0)
    assert (clone_model(net).get_weights()[0] != net.get_weights()[0]).any()

    class Own(Layer):
        def forward(self, x, training=False):
            return x

    assert type(clone_model(Sequential([Own(input_shape=(3,)), Dense(2)])).layers[0]) is Own
    unbuilt = clone_model(Sequential([Dense(3), Dropout(0.5)]))
    assert not unbuilt.built and len(unbuilt.layers) == 2


def test_what_get_config_describes_is_made_again():
    for thing in (layers.Dense(3, "relu", name="a"), optimizers.Adam(0.5), losses.Huber(2.0)):
        again = type(thing).from_config(thing.get_config())
        assert again is not thing and again.get_config() == thing.get_config()
    model = Sequential([layers.Dense(3, input_shape=(4,))], seed=1)
    described = json.loads(model.to_json(indent=1))
    assert Sequential.from_config(described).to_json() == model.to_json()


def test_what_changes_nothing_is_taken_with_a_word():
    net = Sequential([Dense(2, input_shape=(3,))])
    net.compile(loss="mse", jit_compile="auto", run_eagerly=False)
    for option in ({"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}):
        with pytest.warns(UserWarning, match=f"{next(iter(option))} changes nothing: kernels="):
            net.compile(loss="mse", **option)


def test_seeds_are_forgotten():
    npnet.utils.set_random_seed(3)
    assert Sequential().seed == 3
    npnet.backend.clear_session()
    assert len({Sequential().seed for _ in range(3)}) == 3


@pytest.mark.parametrize("name", activations.NAMES)
def test_activations_are_functions(name):
    function, x = getattr(activations, name), random(0, 2, 3)
    expected = activations.get(name).forward(x)
    np.testing.assert_array_equal(function(x), expected)
    assert type(Dense(2, function).activation) is activations.NAMES[name]
    assert type(Dense(2, function).activation) is type(Dense(2, name).activation)
    assert function([[1, 2]]).shape == (1, 2)


def test_a_picture_of_a_model(tmp_path):
    path = tmp_path / "model.png"
    options = {"show_shapes": True, "show_layer_names": True, "show_trainable": True}
    figure = npnet.utils.plot_model(model(), path, **options)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert path.read_bytes().startswith(b"\x89PNG")
    assert texts[:2] == ["Input", "(None, 3)"] and {"Dense, ReLU", "first", "(None, 4)", "frozen"} <= set(
        texts
    )
    plain = npnet.utils.plot_model(Sequential([Dense(3)]), None)
    assert [text.get_text() for text in plain.axes[0].texts] == ["Dense"]
    with pytest.raises(TypeError, match="rankdir must be 'TB' or left out"):
        npnet.utils.plot_model(model(), None, rankdir="LR")
