"""Pictures of what a convolutional network makes of one picture, and of where it looks."""

import copy

import numpy as np
import pytest
from matplotlib.figure import Figure
from small import compiled

from npnet import plotting
from npnet.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Rescaling,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)


def network(*layers):
    return compiled([Rescaling(1 / 255, input_shape=(8, 9, 3)), *layers, Dense(3, "softmax")])


@pytest.fixture
def model():
    return network(
        Conv2D(4, 3, padding="same", use_bias=False), BatchNormalization(), Activation("relu"), Dropout(0.5),
        MaxPooling2D(), Conv2D(5, 3, activation="tanh"), Flatten(),
    )  # fmt: skip


class Corner:
    """Is the surer of class 1 the brighter the upper left pixel is."""

    def predict(self, x, batch_size, verbose):
        bright = np.asarray(x, float)[:, 0, 0].reshape(len(x), -1).mean(axis=1) / 255
        return np.stack([1 - bright, bright], axis=1)


def spot(shape=(8, 8, 3)):
    image = np.zeros(shape, np.uint8)
    image[0, 0] = 255
    return image


# --- filters


def test_filters_are_drawn_as_they_are_strongest_first():
    weight = np.zeros((3, 2, 3, 2))
    weight[2, 1, 0, 0], weight[0, 0, 2, 1] = 1, -4
    figure = plotting.first_layer_weights(weight, (32, 32, 3))
    assert "the 2 of 2 filters" in figure.get_label()
    first, second = (np.asarray(image.get_array()) for image in figure.axes[0].images)
    assert first.shape == (3, 2, 3) and first[0, 0, 2] == 0 and second[2, 1, 0] == 1
    assert np.sum(first == 0.5) == np.sum(second == 0.5) == 17


def test_the_filters_of_a_network_are_those_of_its_first_convolution(model):
    images, noun, total = plotting.first_layer_images(model, (8, 9, 3), count=3)
    assert (images.shape, noun, total) == ((3, 3, 3, 3), "filter", 4)


def test_filters_of_other_things_than_colours_are_refused():
    with pytest.raises(ValueError, match="pictures of 1 or 3 channels first, got filters of 5 channels"):
        plotting.first_layer_weights(np.ones((3, 3, 5, 4)), (8, 8, 5))


# --- feature maps


def test_each_layer_that_looks_has_a_row_and_takes_in_what_follows_it(model):
    rows = plotting.feature_map_images(model, IMAGES[0], count=3)
    assert [(row.name, row.shape) for row in rows] == [
        ("conv2d", (8, 9, 4)), ("max_pooling2d", (4, 4, 4)), ("conv2d_1", (2, 2, 5)),
    ]  # fmt: skip
    assert all(row.images.shape == (3, *row.shape[:2]) for row in rows)
    assert all(row.images.min() >= 0 and row.images.max() == 1 for row in rows)


def test_maps_are_what_the_layers_answer_most_contrast_first(model):
    (row, *_) = plotting.feature_map_images(model, IMAGES[0], count=4)
    x = IMAGES[:1] / 255
    for layer in model.layers[1:4]:
        x = layer(x)
    maps = sorted(np.moveaxis(x[0], -1, 0), key=lambda y: -y.std())
    for shown, expected in zip(row.images, maps, strict=True):
        np.testing.assert_allclose(shown, expected / expected.max(), atol=1e-6)


def test_negative_answers_are_darker_than_black_is_for_others():
    model = network(Conv2D(1, 1, use_bias=False), GlobalAveragePooling2D())
    model.set_weights([np.full((1, 1, 3, 1), -1.0), *model.get_weights()[1:]])
    (row,) = plotting.feature_map_images(model, spot((8, 9, 3)), count=1)
    assert row.images[0, 0, 0] == 0 and row.images[0, 1, 1] == 1, "zero is the largest number here"


def test_the_figure_shows_the_picture_and_a_row_a_layer(model, tmp_path):
    figure = plotting.feature_maps(model, IMAGES[0], count=3, path=tmp_path / "maps.png")
    assert isinstance(figure, Figure) and (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes[0].images) == 1 + 3 * 3
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written[::2] == ["the picture", "conv2d", "max_pooling2d", "conv2d_1"]
    assert written[1::2] == ["", "8 x 9 x 4", "4 x 4 x 4", "2 x 2 x 5"]
    assert "the 3 maps of each layer" in figure.get_label()


def test_the_network_trains_on_as_if_no_map_had_been_drawn(model):
    twin = copy.deepcopy(model)
    plotting.feature_maps(model, IMAGES[0])
    for net in (model, twin):
        net.fit(IMAGES, np.eye(3), epochs=2, verbose=0)
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_network_without_convolutions_has_no_feature_maps():
    with pytest.raises(ValueError, match="model must have a convolution before it flattens its pictures"):
        plotting.feature_maps(network(Flatten(), Dense(3)), IMAGES[0])


def test_a_picture_of_another_size_is_refused(model):
    with pytest.raises(ValueError, match="8, 9, 3"):
        plotting.feature_maps(model, IMAGES[0, :5])


# --- where it looks


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 12, 1), (5, 7, 3), (3, 3, 3)])
def test_covering_costs_where_the_network_looks_and_nowhere_else(shape):
    look = plotting.occlude(Corner(), spot(shape), 1)
    assert look.probability == 1 and look.lowest == pytest.approx(1 / np.prod(shape[:2]), abs=0.01)
    assert look.drops.shape == shape[:2] and look.drops.argmax() == 0 and look.drops[0, 0] > 0.85
    side = min(shape[:2]) // 4 or 1
    assert np.all(look.drops[side:] == 0) and np.all(look.drops[:, side:] == 0)


def test_where_covering_helps_is_dark():
    look = plotting.occlude(Corner(), spot(), 0)
    assert look.drops.min() < -0.9 and look.drops.max() == 0
    np.testing.assert_allclose(look.spotlight, 0.12 * spot() / 255)


def test_the_picture_is_lit_where_the_network_looks():
    image = np.full((8, 8, 3), 200, np.uint8)
    image[0, 0] = 250
    look = plotting.occlude(Corner(), image, 1)
    np.testing.assert_allclose(look.spotlight[0, 0], 250 / 255)
    np.testing.assert_allclose(look.spotlight[4:, 4:], 0.12 * 200 / 255)


def test_pictures_stand_above_what_is_looked_at(tmp_path):
    names = ["dark", "bright"]
    figure = plotting.occlusion(Corner(), np.stack([spot(), spot() // 2]), [1, 1], names, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "bright, 100%", "bright, 50%", "down to 1%", "down to <1%",
    ]  # fmt: skip
    tops = [image.get_extent()[3] for image in figure.axes[0].images]
    assert tops[0] == tops[1] < tops[2] == tops[3]


def test_labels_that_do_not_fit_the_pictures_are_refused():
    with pytest.raises(ValueError, match="images and labels must hold the same number of samples"):
        plotting.occlusion(Corner(), spot()[None], [0, 1], ["dark", "bright"])
