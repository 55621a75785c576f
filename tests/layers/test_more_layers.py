"""Layers that fewer networks use: worked examples, what differs between training and not, refusals."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from small import compiled, random

from npnet import Sequential, layers
from npnet.layers import (
    CategoryEncoding,
    CenterCrop,
    Dense,
    Embedding,
    Flatten,
    GaussianNoise,
    Normalization,
    PReLU,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomRotation,
    RandomZoom,
    ReLU,
    Rescaling,
    Reshape,
    Resizing,
)
from npnet.models import load_model

PICTURES = random(0, 5, 6, 8, 3)
RANDOM = [
    GaussianNoise(0.5), RandomBrightness(0.3, (-9, 9)), RandomContrast(0.3, (-9, 9)), RandomRotation(0.2),
    RandomZoom(0.4), RandomCrop(4, 5),
]  # fmt: skip


def run(layer, x, training=False):
    model = Sequential([layer], dtype="float64", seed=1)
    return model(x, training=training)


@pytest.mark.parametrize("layer", RANDOM, ids=lambda layer: type(layer).__name__)
def test_random_layers_act_in_training_only_and_on_each_picture_anew(layer):
    make = type(layer)
    calm, first, second = (
        run(make(**layer.get_config()), PICTURES, training) for training in (False, True, True)
    )
    expected = PICTURES[:, 1:5, 1:6] if make is RandomCrop else PICTURES
    np.testing.assert_array_equal(calm, expected)
    assert (first != expected).any() and (first == second).all()  # the same seed
    same = np.broadcast_to(PICTURES[:1], PICTURES.shape)
    assert (
        run(make(**layer.get_config()), same, True)[0] != run(make(**layer.get_config()), same, True)[1]
    ).any()
    assert run(make(**layer.get_config() | {"seed": 3}), PICTURES, True).shape == expected.shape


def test_turned_by_a_quarter_and_zoomed_by_two():
    square = PICTURES[:, :6, :6]
    turned = run(RandomRotation((0.25, 0.25)), square, True)
    np.testing.assert_allclose(turned, np.rot90(square, axes=(1, 2)), atol=1e-12)
    doubled = run(RandomZoom((-0.5, -0.5), interpolation="nearest"), PICTURES, True)
    assert set(doubled[0, ..., 0].ravel()) <= set(PICTURES[0, 1:5, 2:6, 0].ravel())
    far = run(RandomZoom((1, 1), fill_mode="constant", fill_value=7.0), PICTURES, True)
    assert (far[:, 0] == 7).all() and (far[:, 3, 4] != 7).all()


KERAS = json.loads((Path(__file__).parents[1] / "golden" / "keras_pictures.json").read_text())


@pytest.mark.parametrize(("name", "arguments", "expected"), KERAS["cases"])
def test_pictures_become_what_keras_makes_of_them(name, arguments, expected):
    """Keras turns and zooms with matrices in float32."""
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    y = run(getattr(layers, name)(**given), np.array(KERAS["x"]), training=True)
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_light():
    brighter = run(RandomBrightness((0.1, 0.1), (0, 10)), np.full((1, 2, 2, 1), 9.5), True)
    assert (brighter == 10).all()
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(run(RandomContrast((0.5, 0.0)), x, True).mean(), 1.5)
    bytes_ = run(RandomBrightness((0.5, 0.5)), np.full((1, 2, 2, 1), 7, np.uint8), True)
    assert (bytes_ == 7 + 127.5).all()


def test_sizes():
    np.testing.assert_array_equal(run(CenterCrop(4, 3), PICTURES), PICTURES[:, 1:5, 2:5])
    np.testing.assert_allclose(run(Resizing(3, 4), PICTURES), PICTURES.reshape(5, 3, 2, 4, 2, 3).mean((2, 4)))
    np.testing.assert_array_equal(
        run(Resizing(12, 16, "nearest"), PICTURES), PICTURES.repeat(2, axis=1).repeat(2, axis=2)
    )
    np.testing.assert_allclose(run(Resizing(6, 8), PICTURES), PICTURES)
    np.testing.assert_allclose(run(CenterCrop(12, 16), PICTURES), run(Resizing(12, 16), PICTURES))
    bytes_ = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    assert run(CenterCrop(6, 8), bytes_).dtype == np.float64
    for training in (False, True):
        small = run(RandomCrop(7, 3), PICTURES, training)
        np.testing.assert_array_equal(small, run(CenterCrop(7, 3), PICTURES))
    for layer in (Resizing(2, 2), RandomRotation(0.1), RandomCrop(1, 1)):
        with pytest.raises(ValueError, match="expects pictures"):
            Sequential([layer]).build((None, 4))


def test_numbers_that_stand_for_things():
    x = np.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(run(CategoryEncoding(3), x), [[1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(run(CategoryEncoding(3, "count"), x), [[1, 0, 1], [0, 2, 0]])
    np.testing.assert_array_equal(run(CategoryEncoding(3, "one_hot"), x), np.eye(3)[x])
    np.testing.assert_array_equal(run(CategoryEncoding(3, "one_hot"), x[:, :1]), np.eye(3)[x[:, 0]])
    np.testing.assert_array_equal(CategoryEncoding(3, "one_hot")(x[:, 0]), np.eye(3)[x[:, 0]])
    np.testing.assert_array_equal(CategoryEncoding(3, "one_hot")(x[:1, 0]), np.eye(3)[x[:1, 0]])
    layer = Embedding(3, 4)
    y = run(layer, x)
    np.testing.assert_array_equal(y, layer.embeddings.value[x])
    assert np.abs(layer.embeddings.value).max() <= 0.05
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=rf"whole numbers from 0 to 2, got {wrong}"):
            run(Embedding(3, 4), np.array([[0, wrong]]))


@pytest.mark.parametrize("layer", [Embedding(3, 4), CategoryEncoding(3, "one_hot")])
def test_numbers_that_are_not_whole_are_refused(layer):
    inner = Sequential([layer])
    models = [[copy.deepcopy(layer)], [inner], [Reshape((1,)), copy.deepcopy(layer)]]
    for model in (Sequential([*each, Flatten()]) for each in models):
        assert len(model(np.array([[0.0], [2.0]]))) == 2
        with pytest.raises(ValueError, match=r"takes whole numbers, but x holds 0.5 at index \(1, 0\)"):
            model.predict(np.array([[0.0], [0.5]]), verbose=0)


@pytest.mark.parametrize("layer", [Embedding(3, 4), CategoryEncoding(3, "one_hot")])
@pytest.mark.parametrize("before", [ReLU, GaussianNoise, Dense, CategoryEncoding, Sequential])
def test_what_a_layer_has_computed_is_not_taken_for_whole_numbers(layer, before):
    first = before([Rescaling(0.5)]) if before is Sequential else before(1)
    with pytest.raises(ValueError, match="takes whole numbers, which layers before it would compute with"):
        Sequential([first, copy.deepcopy(layer)]).build((None, 2))


def test_whole_numbers_that_float32_does_not_hold_are_refused():
    many = 2**24 + 1
    with pytest.raises(ValueError, match="takes 16,777,217 whole numbers, but float32 holds those up to"):
        Sequential([Embedding(many, 1)]).build((None, 2))
    with pytest.raises(ValueError, match="float32 holds those up to 16,777,216 only"):
        Sequential([CategoryEncoding(many)]).build((None, 2))
    model = Sequential([Embedding(many, 1)], dtype="float64", seed=1)
    expected = model(np.array([[many - 1]]))
    assert expected == model.layers[0].embeddings.value[-1]


def test_embeddings_are_learnt_where_they_occur(kernels):
    model = compiled([Embedding(5, 2, input_shape=(3,)), Flatten(), Dense(1)], kernels=kernels)
    before = model.get_weights()[0]
    model.fit(np.array([[0, 2, 2]] * 4), np.ones((4, 1)), verbose=0)
    changed = (model.get_weights()[0] != before).any(axis=1)
    assert changed.tolist() == [True, False, True, False, False]


def test_slopes():
    layer = PReLU("ones", shared_axes=[1, 2], alpha_constraint="non_neg")
    np.testing.assert_array_equal(run(layer, PICTURES), PICTURES)
    assert layer.alpha.shape == (1, 1, 3) and layer.alpha.constraint is layer.alpha_constraint
    np.testing.assert_array_equal(run(PReLU(), PICTURES), np.maximum(PICTURES, 0))
    with pytest.raises(ValueError, match="shared_axes names axis 3"):
        run(PReLU(shared_axes=3), np.ones((2, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomRotation(0.1, fill_mode="somehow"), "fill_mode must be one of"),
        (lambda: RandomZoom(2.0), "height_factor must be a share"),
        (lambda: RandomZoom(0.1, interpolation="cubic"), "interpolation must be one of"),
        (lambda: RandomContrast(1.5), "factor"),
        (lambda: RandomBrightness(0.1, (3, 1)), "value_range"),
        (lambda: Resizing(0, 1), "height"),
        (lambda: GaussianNoise(-1), "stddev"),
        (lambda: CategoryEncoding(3, "many"), "Unknown output_mode"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_saved(tmp_path):
    model = compiled(
        [Resizing(4, 4, input_shape=(6, 8, 3)), RandomRotation(0.2), Flatten(), PReLU(), Dense(2)], "mse"
    )
    model.fit(PICTURES, np.ones((5, 2)), verbose=0)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    for net in (model, loaded):
        net.fit(PICTURES, np.ones((5, 2)), epochs=2, initial_epoch=1, verbose=0)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    assert (
        layers.from_config({"class_name": "Embedding", "config": Embedding(3, 2).get_config()}).input_dim == 3
    )


def test_layers_without_weights_may_be_called_on_data_before_they_are_in_a_model():
    layer = Normalization()
    layer.adapt(PICTURES)
    y = layer(PICTURES)
    assert y.dtype == np.float64 and not layer.built
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(run(layer, PICTURES), y)
    np.testing.assert_array_equal(CategoryEncoding(3, "one_hot")(np.array([[0], [2]])), np.eye(3)[[0, 2]])
    assert Resizing(3, 4)(PICTURES).shape == (5, 3, 4, 3)
    with pytest.raises(ValueError, match="expects pictures"):
        Resizing(3, 4)(PICTURES[:, 0, 0])
    with pytest.raises(RuntimeError, match="Embedding '' is not built: its weights are made when"):
        Embedding(3, 4)(np.array([[0]]))
