"""A model as a layer of another one: the same weights in both, frozen, saved and trained."""

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet import Sequential
from npnet.layers import BatchNormalization, Dense, Dropout
from npnet.models import clone_model, load_model

X, Y = random(0, 12, 4), one_hot(12, 3)


def base(**options):
    layers = [Dense(5, "relu", input_shape=(4,)), Dropout(0.2), BatchNormalization()]
    return Sequential(layers, name="base", dtype="float64", seed=1, **options)


def test_transfer_by_freezing():
    inner = base()
    inner.trainable = False
    model = compiled([inner, Dense(3, "softmax")], "categorical_crossentropy")
    before = inner.get_weights()
    model.fit(X, Y, epochs=2, verbose=0)
    assert len(model.layers) == 2 and model.get_layer("base").layers == inner.layers
    for ours, theirs in zip(before, inner.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.trainable_weights == model.layers[1].weights
    model.layers[0].trainable = True  # the same as inner.trainable = True
    assert inner.trainable
    model.fit(X, Y, verbose=0)
    assert (before[0] != inner.get_weights()[0]).any()
    np.testing.assert_array_equal(inner.get_weights()[0], model.get_weights()[0])
    np.testing.assert_allclose(model.layers[0](X), inner(X))


def test_a_nested_model_trains_as_the_flat_one_does():
    flat = compiled([*base().layers, Dense(3, "softmax")], "categorical_crossentropy")
    nested = compiled([base(), Dense(3, "softmax")], "categorical_crossentropy")
    nested.set_weights(flat.get_weights())
    for model in (flat, nested):
        model.fit(X, Y, epochs=3, batch_size=5, verbose=0)
    for ours, theirs in zip(flat.get_weights(), nested.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert npnet.check_gradients(nested, X, Y, verbose=False).passed


@pytest.mark.parametrize("built", [True, False])
def test_saved_and_cloned(tmp_path, built):
    inner = base() if built else Sequential([Dense(5), Dropout(0.2)], name="base")
    model = compiled([inner, Sequential([Sequential([Dense(4)])]), Dense(3)], dtype="float64")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    for net in (loaded, model):
        net.fit(X, Y, epochs=2, initial_epoch=1, verbose=0)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert clone_model(model).count_params() == model.count_params()
    lines = []
    model.summary(print_fn=lines.append)
    assert any("base (Nested)" in line for line in lines)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="another dtype"):
        Sequential([base(), Dense(3)], dtype="float32")
    with pytest.raises(ValueError, match="in this model already"):
        inner = base()
        Sequential([inner, inner], dtype="float64")
    with pytest.raises(ValueError, match="samples of shape"):
        Sequential([npnet.Input((7,)), base()], dtype="float64")


def test_models_without_names_of_their_own_get_different_ones(tmp_path):
    """An encoder and a decoder, as in Keras's tutorial."""
    encoder = Sequential([Dense(2, input_shape=(4,))], dtype="float64")
    decoder = Sequential([Dense(4, input_shape=(2,))], dtype="float64")
    model = compiled([encoder, decoder], "mse")
    assert [layer.name for layer in model.layers] == ["sequential", "sequential_1"]
    model.fit(X, X, verbose=0)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(ValueError, match="A layer named 'base' is in this model already"):
        Sequential([base(), Dense(4), base()], dtype="float64")
