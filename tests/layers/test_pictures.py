"""Layers of pictures and sequences: shapes, worked examples, what is refused, and networks made of them."""

import copy
import pickle

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet import layers
from npnet.checking.gradient_cases import examples
from npnet.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    Input,
    LayerNormalization,
    MaxPooling1D,
    MaxPooling2D,
    Normalization,
    Permute,
    RandomFlip,
    RandomTranslation,
    Rescaling,
    Reshape,
    SeparableConv2D,
    SpatialDropout2D,
    UpSampling2D,
    ZeroPadding2D,
)

EXAMPLES = {
    f"{cls.__name__} {i}": layer
    for cls in layers.CLASSES.values()
    if cls is not Input
    for i, layer in enumerate(examples(cls))
    if layer.input_shape is not None
}
every_example = pytest.mark.parametrize("name", EXAMPLES)


def model_of(*stack, dtype="float64"):
    """Return a built model with weights that are not 0 or 1 anywhere."""
    model = npnet.Sequential(stack, dtype=dtype, seed=0)
    model.set_weights([0.5 + np.abs(random(i, *w.shape)) for i, w in enumerate(model.get_weights())])
    return model


# --- shapes -------------------------------------------------------------------------------------------------

SHAPES = [
    (Conv2D(5, 3), (32, 32, 3), (30, 30, 5)),
    (Conv2D(5, 3, padding="SAME"), (7, 8, 1), (7, 8, 5)),
    (Conv2D(5, (2, 3), strides=(3, 2), padding="same"), (7, 8, 1), (3, 4, 5)),
    (Conv2D(5, 3, strides=2), (8, 9, 2), (3, 4, 5)),
    (Conv2D(5, 3, dilation_rate=(1, 3)), (8, 9, 2), (6, 3, 5)),
    (Conv2D(17, 9, padding="same"), (1, 2, 3), (1, 2, 17)),
    (Conv1D(5, 3, strides=2), (9, 2), (4, 5)),
    (Conv1D(5, 3, padding="causal", dilation_rate=2), (9, 2), (9, 5)),
    (DepthwiseConv2D(3, depth_multiplier=2), (5, 6, 3), (3, 4, 6)),
    (SeparableConv2D(4, 3, strides=2, padding="same"), (5, 6, 3), (3, 3, 4)),
    (Conv2DTranspose(4, 3), (5, 6, 3), (7, 8, 4)),
    (Conv2DTranspose(4, 2, strides=3), (5, 6, 3), (15, 18, 4)),
    (Conv2DTranspose(4, 3, strides=2, padding="same"), (5, 6, 3), (10, 12, 4)),
    (Conv2DTranspose(4, 3, strides=2, output_padding=(0, 1)), (5, 6, 3), (11, 14, 4)),
    (Conv2DTranspose(4, 3, dilation_rate=2), (5, 6, 3), (9, 10, 4)),
    (MaxPooling2D(), (5, 4, 3), (2, 2, 3)),
    (MaxPooling2D(3, padding="same"), (5, 4, 3), (2, 2, 3)),
    (MaxPooling2D((2, 3), strides=1), (5, 4, 3), (4, 2, 3)),
    (MaxPooling1D(3), (8, 2), (2, 2)),
    (AveragePooling2D(2), (5, 4, 3), (2, 2, 3)),
    (GlobalAveragePooling2D(), (5, 4, 3), (3,)),
    (GlobalMaxPooling2D(keepdims=True), (5, 4, 3), (1, 1, 3)),
    (layers.GlobalMaxPooling1D(), (5, 4), (4,)),
    (ZeroPadding2D(), (5, 4, 3), (7, 6, 3)),
    (ZeroPadding2D((2, 1)), (5, 4, 3), (9, 6, 3)),
    (Cropping2D(((1, 2), (0, 1))), (5, 4, 3), (2, 3, 3)),
    (UpSampling2D((2, 3)), (5, 4, 3), (10, 12, 3)),
    (Reshape((-1, 6)), (4, 3), (2, 6)),
    (Permute((2, 3, 1)), (5, 4, 3), (4, 3, 5)),
]


@pytest.mark.parametrize(("layer", "input_shape", "shape"), SHAPES, ids=lambda value: repr(value)[:60])
def test_shapes_are_keras_s(layer, input_shape, shape):
    assert layer.compute_output_shape(input_shape) == shape
    model = npnet.Sequential([Input(input_shape), copy.deepcopy(layer)])
    assert model.predict(np.zeros((2, *input_shape)), verbose=0).shape == (2, *shape)


def test_the_summary_and_names_are_keras_s():
    lines = []
    stack = [Conv2D(4, 3, input_shape=(32, 32, 3)), Conv2DTranspose(2, 3), MaxPooling2D(), Conv2D(4, 3)]
    npnet.Sequential(stack).summary(print_fn=lines.append)
    text = "\n".join(lines)
    for words in ("conv2d (Conv2D)", "conv2d_transpose (Conv2DTranspose)", "max_pooling2d", "conv2d_1"):
        assert words in text
    assert "(None, 30, 30, 4)" in text and "(None, 16, 16, 2)" in text


def test_kernels_begin_with_keras_s_fans():
    """Glorot: U(-L, L), L = sqrt(6 / (fan_in + fan_out))."""
    for layer, channels, fans in (
        (Conv2D(64, 3), 32, 9 * 32 + 9 * 64),
        (Conv2D(64, 3, groups=4), 32, 9 * 8 + 9 * 64),
        (DepthwiseConv2D((3, 5), depth_multiplier=4), 64, 15 * 64 + 15 * 4),
        (Conv2DTranspose(64, 3), 32, 9 * 64 + 9 * 32),
    ):
        npnet.Sequential([Input((9, 9, channels)), layer])
        largest = np.abs(layer.weight.value).max()
        assert 0.98 * np.sqrt(6 / fans) < largest <= np.sqrt(6 / fans)


# --- worked examples ----------------------------------------------------------------------------------------


def test_a_convolution_by_hand():
    layer = Conv2D(1, 2)
    npnet.Sequential([Input((2, 3, 1)), layer], dtype="float64")
    layer.weight.assign(np.array([[1, 2], [3, 4]]).reshape(2, 2, 1, 1))
    layer.bias.assign([10])
    x = np.array([[1.0, 2, 3], [4, 5, 6]]).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(layer.forward(x).ravel(), [1 + 4 + 12 + 20 + 10, 2 + 6 + 15 + 24 + 10])
    dx = layer.backward(np.array([1.0, -1]).reshape(1, 1, 2, 1))
    np.testing.assert_array_equal(dx.reshape(2, 3), [[1, 2 - 1, -2], [3, 4 - 3, -4]])
    np.testing.assert_array_equal(layer.weight.grad.reshape(2, 2), [[1 - 2, 2 - 3], [4 - 5, 5 - 6]])
    assert layer.bias.grad == [0]


def test_a_window_of_the_picture_s_size_is_a_dense_layer():
    model = model_of(Conv2D(5, (3, 4), input_shape=(3, 4, 2)))
    x = random(0, 6, 3, 4, 2)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(
        model.predict(x, verbose=0)[:, 0, 0], x.reshape(6, -1) @ kernel.reshape(24, 5) + bias, rtol=1e-12
    )


def test_causal_outputs_depend_on_nothing_that_comes_later():
    model = model_of(Conv1D(3, 3, padding="causal", dilation_rate=2, input_shape=(8, 2)))
    x = random(0, 1, 8, 2)
    other = x.copy()
    other[:, 5:] += 1
    before, after = model.predict(x, verbose=0), model.predict(other, verbose=0)
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).all()


def test_depthwise_is_a_convolution_with_a_group_for_each_channel():
    depthwise = model_of(DepthwiseConv2D(3, depth_multiplier=2, input_shape=(5, 6, 3)))
    grouped = model_of(Conv2D(6, 3, groups=3, input_shape=(5, 6, 3)))
    kernel, bias = depthwise.get_weights()
    grouped.set_weights([kernel.reshape(3, 3, 1, 6), bias])
    x = random(0, 2, 5, 6, 3)
    np.testing.assert_allclose(grouped.predict(x, verbose=0), depthwise.predict(x, verbose=0), rtol=1e-12)


def test_separable_is_a_depthwise_and_a_pointwise_convolution():
    separable = model_of(SeparableConv2D(4, 3, depth_multiplier=2, padding="same", input_shape=(5, 6, 3)))
    two = model_of(
        DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False, input_shape=(5, 6, 3)),
        Conv2D(4, 1),
    )
    two.set_weights(separable.get_weights())
    x = random(0, 2, 5, 6, 3)
    np.testing.assert_allclose(two.predict(x, verbose=0), separable.predict(x, verbose=0), rtol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_transposed_convolution_is_the_adjoint_of_a_convolution(padding):
    """<conv(y), x> = <y, conv'(x)> for the convolution from the larger pictures y back to those of x."""
    options = {"strides": 2, "padding": padding, "use_bias": False}
    transposed = model_of(Conv2DTranspose(3, 4, input_shape=(5, 6, 2), **options))
    larger = transposed.output_shape
    conv = model_of(Conv2D(2, 4, input_shape=larger, **options))
    conv.set_weights(transposed.get_weights())
    x, y = random(0, 2, 5, 6, 2), random(1, 2, *larger)
    one, other = (conv.predict(y, verbose=0) * x).sum(), (transposed.predict(x, verbose=0) * y).sum()
    assert one == pytest.approx(other, rel=1e-12)


def test_up_sampling_by_hand():
    x = np.array([[0.0, 4.0]]).reshape(1, 1, 2, 1)
    nearest = UpSampling2D((1, 2)).forward(x)
    np.testing.assert_array_equal(nearest.ravel(), [0, 0, 4, 4])
    bilinear = UpSampling2D((2, 4), interpolation="bilinear").forward(x)
    np.testing.assert_array_equal(bilinear[0, 0].ravel(), [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4])


def test_pooling_leaves_out_what_does_not_fill_a_window_and_padding_never_counts():
    x = -np.arange(1.0, 6).reshape(1, 5, 1)
    np.testing.assert_array_equal(MaxPooling1D(2).forward(x).ravel(), [-1, -3])
    np.testing.assert_array_equal(MaxPooling1D(2, padding="same").forward(x).ravel(), [-1, -3, -5])
    mean = layers.AveragePooling1D(3, strides=2, padding="same").forward(x)
    np.testing.assert_array_equal(mean.ravel(), [-1.5, -3, -4.5])


def test_spatial_dropout_drops_whole_channels():
    layer = SpatialDropout2D(0.25, seed=1)
    npnet.Sequential([Input((3, 4, 50)), layer])
    y = layer.forward(np.full((40, 3, 4, 50), 3.0), training=True)
    assert set(np.unique(y)) == {0.0, 4.0}
    assert (y == y[:, :1, :1]).all()
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.03)


def test_group_and_layer_normalization_normalize_each_sample_by_itself():
    x = 3 * random(0, 4, 5, 6, 4) + 2
    by_group = model_of(GroupNormalization(2, epsilon=1e-9, center=False, scale=False, input_shape=(5, 6, 4)))
    parts = by_group.predict(x, verbose=0).reshape(4, 30, 2, 2)
    np.testing.assert_allclose(parts.mean(axis=(1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(parts.std(axis=(1, 3)), 1, rtol=1e-8)
    by_pixel = model_of(LayerNormalization(epsilon=1e-9, center=False, scale=False, input_shape=(5, 6, 4)))
    np.testing.assert_allclose(by_pixel.predict(x, verbose=0).std(axis=-1), 1, rtol=1e-6)


def test_nan_shows():
    x = np.zeros((1, 4, 4, 1))
    x[0, 3, 3] = np.nan
    for layer in (GlobalMaxPooling2D(), GlobalAveragePooling2D(), MaxPooling2D(4), AveragePooling2D(4)):
        assert np.isnan(layer.forward(x)).all()


# --- what is refused ----------------------------------------------------------------------------------------

ARGUMENTS = [
    (lambda: Conv2D(0, 3), "filters must be at least 1, got 0"),
    (lambda: Conv2D(2.0, 3), r"filters must be an integer, got 2\.0"),
    (lambda: Conv2D(4, 0), "kernel_size must be an integer of at least 1, or a tuple of 2 of them, got 0"),
    (lambda: Conv2D(4, (3, 3, 3)), "kernel_size must be .* tuple of 2"),
    (lambda: Conv2D(4, "3"), "kernel_size must be"),
    (lambda: Conv1D(4, (3, 3)), r"kernel_size must be an integer of at least 1, got \(3, 3\)"),
    (lambda: Conv2D(4, 3, strides=0), "strides must be"),
    (lambda: Conv2D(4, 3, strides=2, dilation_rate=2), "strides must be 1 where dilation_rate is above 1"),
    (lambda: Conv2D(4, 3, dilation_rate=True), "dilation_rate must be"),
    (lambda: Conv2D(4, 3, padding="full"), "padding must be 'valid' or 'same', got 'full'"),
    (lambda: Conv2D(4, 3, padding="causal"), "padding must be"),
    (lambda: Conv2D(4, 3, data_format="channels_first"), r"data_format .*x\.transpose\(0, 2, 3, 1\)"),
    (lambda: MaxPooling2D(data_format="channels_first"), "data_format must be"),
    (lambda: Flatten(data_format="channels_first"), "data_format must be"),
    (lambda: RandomFlip(data_format="channels_first"), "data_format must be"),
    (lambda: RandomTranslation(0.1, 0.1, data_format="channels_first"), "data_format must be"),
    (lambda: Conv2D(5, 3, groups=2), "filters must be a multiple of groups, got 5 and 2"),
    (lambda: Conv2D(4, 3, groups=0), "groups must be at least 1"),
    (lambda: Conv2D(4, 3, kernel_constraint="x"), "kernel_constraint must be None or left out"),
    (lambda: DepthwiseConv2D(3, depth_multiplier=0), "depth_multiplier must be at least 1"),
    (
        lambda: Conv2DTranspose(3, 3, strides=2, output_padding=2),
        "output_padding must be smaller than strides",
    ),
    (lambda: Conv2DTranspose(3, 3, output_padding=-1), "output_padding must be"),
    (lambda: MaxPooling2D(0), "pool_size must be"),
    (lambda: AveragePooling2D((2, 2, 2)), "pool_size must be"),
    (lambda: GlobalMaxPooling2D(keepdims=1), "keepdims must be True or False"),
    (lambda: ZeroPadding2D(-1), "padding must be an integer of at least 0"),
    (lambda: Cropping2D((1, 2, 3)), "cropping must be"),
    (lambda: UpSampling2D(0), "size must be"),
    (lambda: UpSampling2D(interpolation="bicubic"), "interpolation must be 'nearest' or 'bilinear'"),
    (lambda: Reshape(()), "target_shape must hold"),
    (lambda: Reshape((-1, -1)), "target_shape must hold"),
    (lambda: Reshape((0, 3)), "target_shape must hold"),
    (lambda: Permute((0, 1)), "dims must hold 1, 2"),
    (lambda: Permute(1), "dims must hold"),
    (lambda: GroupNormalization(0), "groups must be at least 1"),
    (lambda: GroupNormalization(axis=1), "axis must be -1"),
    (lambda: LayerNormalization(epsilon=0), "epsilon must be finite and positive"),
    (lambda: SpatialDropout2D(1.0), "rate must be"),
]


@pytest.mark.parametrize(("make", "message"), ARGUMENTS)
def test_arguments_are_refused_by_name(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


FITS = [
    (Conv2D(4, 5), (4, 9, 1), r"zero or negative.*5 x 5 has no place in 4 x 9 pixels"),
    (Conv2D(4, 3, dilation_rate=3), (6, 9, 1), "zero or negative"),
    (MaxPooling2D(5), (4, 4, 1), r"MaxPooling2D.* zero or negative.*make it smaller"),
    (Conv2D(4, 3, groups=2), (5, 5, 3), "groups must divide the channels, got groups=2 and 3 channels"),
    (Conv2D(4, 3), (48,), r"Conv2D.* expects \(batch, height, width, channels\), got \(batch, 48\)\. Put"),
    (Conv2D(4, 3), (5, 5), r"Add Reshape\(\(height, width, channels\)\) before it"),
    (Conv1D(4, 3), (5, 5, 3), r"expects \(batch, steps, channels\)"),
    (Conv2DTranspose(4, 2, padding="same", output_padding=0), (1, 1, 1), "would be empty"),
    (GlobalAveragePooling2D(), (5, 5), "expects"),
    (UpSampling2D(), (5,), "expects"),
    (SpatialDropout2D(0.5), (5,), "expects"),
    (ZeroPadding2D(), (5,), "expects"),
    (Cropping2D(2), (4, 5, 1), "cropping .* must leave some of 4 x 5 pixels"),
    (Reshape((5, -1)), (4, 3), r"target_shape .* must hold 12 numbers"),
    (Permute((2, 1)), (4, 3, 2), "dims .* must name each axis"),
    (GroupNormalization(3), (4, 4), "groups must divide the channels"),
]


@pytest.mark.parametrize(("layer", "shape", "message"), FITS, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_refused(layer, shape, message):
    model = npnet.Sequential([Input(shape)])
    with pytest.raises(ValueError, match=message):
        model.add(layer)
    assert not model.layers


def test_other_channels_than_at_build_are_refused():
    layer = Conv2D(4, 3)
    npnet.Sequential([Input((5, 5, 3)), layer])
    with pytest.raises(
        ValueError, match=r"takes samples of shape \(5, 5, 2\), got .*input_shape=\(5, 5, 3\)"
    ):
        npnet.Sequential([Input((5, 5, 2)), layer])
    with pytest.raises(ValueError, match="was built for 3 channels, got 2 in a batch of shape"):
        layer(np.zeros((1, 5, 5, 2)))


# --- networks -----------------------------------------------------------------------------------------------


def network(*first, kernels="numpy", dtype="float32", **options):
    """A small network for pictures (8, 8, 3)."""
    stack = [
        Input((8, 8, 3)), *first, Conv2D(4, 3, padding="same", activation="relu"), BatchNormalization(),
        MaxPooling2D(), Dropout(0.2), DepthwiseConv2D(3, padding="same"), SpatialDropout2D(0.2),
        SeparableConv2D(4, 2, activation="gelu"), GroupNormalization(2), Flatten(), Dense(3, "softmax"),
    ]  # fmt: skip
    return compiled(stack, "categorical_crossentropy", dtype, kernels=kernels, optimizer="adam", **options)


BYTES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
CLASSES = one_hot(24, 3)


def test_a_network_learns_with_both_sets_of_kernels(kernels):
    model = network(Rescaling(1 / 255), kernels=kernels)
    losses = model.fit(BYTES, CLASSES, epochs=8, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(model.predict(BYTES, verbose=0).sum(axis=1), 1, rtol=1e-5)


def test_both_sets_of_kernels_train_alike():
    ways = [network(Rescaling(1 / 255), kernels=kernels) for kernels in ("numpy", "numba")]
    losses = [way.fit(BYTES, CLASSES, epochs=2, batch_size=8, verbose=0).history["loss"] for way in ways]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_pictures_are_varied_and_standardised_in_front_of_a_convolution():
    """In training each step does to whole pictures what it says; otherwise only the scaling acts."""
    standard = Normalization()
    standard.adapt(BYTES)
    model = network(RandomFlip("horizontal"), RandomTranslation(0.25, 0.25, "constant"), standard)
    model.fit(BYTES, CLASSES, epochs=1, batch_size=8, verbose=0)
    pictures = BYTES.astype(np.float32)
    for layer in model.layers[:2]:
        moved = layer.forward(pictures, training=True)
        assert moved.shape == pictures.shape and (moved != pictures).any()
        np.testing.assert_array_equal(layer.forward(pictures), pictures)
    z = standard.forward(pictures)
    np.testing.assert_allclose(z.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(axis=(0, 1, 2)), 1, rtol=1e-4)
    bare = npnet.Sequential([Input((8, 8, 3)), *copy.deepcopy(model.layers[3:])])
    expected = bare.predict((BYTES - standard.mean) / standard.deviation, verbose=0)
    np.testing.assert_allclose(model.predict(BYTES, verbose=0), expected, rtol=1e-4, atol=1e-6)


def test_batch_normalization_of_pictures_is_over_samples_and_pixels():
    layer = BatchNormalization(epsilon=1e-9)
    npnet.Sequential([Input((5, 4, 3)), layer], dtype="float64")
    x = random(0, 6, 5, 4, 3) * [1, 2, 3] + [4, 5, 6]
    y = layer.forward(x, training=True)
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean.value, 0.01 * x.mean(axis=(0, 1, 2)), rtol=1e-12)


@every_example
def test_described_copied_pickled_and_saved(name, tmp_path):
    layer = copy.deepcopy(EXAMPLES[name])
    assert type(layer)(**layer.get_config()).get_config() == layer.get_config()
    model = model_of(layer, dtype="float32")
    x = random(3, 4, *model.input_shape)
    y = model.predict(x, verbose=0)
    model.save(tmp_path / "model")
    for twin in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        npnet.models.load_model(tmp_path / "model"),
    ):
        np.testing.assert_array_equal(twin.predict(x, verbose=0), y)
        assert twin.layers[0].get_config() == model.layers[0].get_config()


@every_example
def test_only_reads_what_it_is_given_and_repeats_its_backward_pass(name):
    model = model_of(copy.deepcopy(EXAMPLES[name]))
    x = random(0, 3, *model.input_shape)
    dy = random(1, 3, *model.output_shape)
    x.flags.writeable = dy.flags.writeable = False
    model.forward(x, training=True)
    once = model.backward(dy), [p.grad.copy() for p in model.trainable_parameters]
    again = model.backward(dy), [p.grad for p in model.trainable_parameters]
    np.testing.assert_array_equal(once[0], again[0])
    for a, b in zip(once[1], again[1], strict=True):
        np.testing.assert_array_equal(a, b)


@every_example
def test_float32_stays_float32_and_empty_batches_pass(name):
    model = model_of(copy.deepcopy(EXAMPLES[name]), dtype="float32")
    for n, training in ((0, False), (2, True)):
        x = random(0, n, *model.input_shape).astype(np.float32)
        y = model.forward(x, training)
        dx = model.backward(y)
        assert y.shape == (n, *model.output_shape) and dx.shape == x.shape
        assert y.dtype == dx.dtype == np.float32
    assert all(p.grad.dtype == np.float32 for p in model.trainable_parameters)
