"""What comes before a network: pictures varied at random, samples standardised, bytes as long as can be."""

import copy
import dataclasses
import itertools
import warnings

import numpy as np
import pytest

import npnet
from npnet.kernels import parallel, reference
from npnet.kernels.reference.more_pictures import places
from npnet.layers import (
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
    Normalization,
    RandomFlip,
    RandomTranslation,
    Rescaling,
)
from npnet.models import Sequential, load_model
from npnet.runs import recipes

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.eye(4, dtype=np.float32)[RNG.integers(0, 4, 40)]
MOVERS = {
    "flip": lambda: RandomFlip(),
    "horizontal": lambda: RandomFlip("horizontal", seed=3),
    **{
        mode: lambda mode=mode: RandomTranslation((-0.4, 0.2), 0.4, fill_mode=mode)
        for mode in ("constant", "mirror", "nearest", "reflect", "wrap")
    },
    "alternate": lambda: RandomFlip("horizontal", alternate=True),
    "grey": lambda: RandomTranslation(0.5, 0.0, "constant", fill_value=127.0),
}


def built(layer, shape=PICTURES.shape[1:], seed=1, kernels=reference):
    layer.build(shape, np.random.default_rng(seed), np.dtype(np.float32))
    layer.kernels, layer.input_shape, layer.built = kernels, shape, True
    return layer


def model(*before, dropout=0.0, fused=True, kernels="numba", seed=2):
    """A small network behind some layers, trained on bytes."""
    layers = [*before, Flatten(), Dense(33, "relu"), Dropout(dropout), Dense(4, "softmax")]
    net = Sequential(layers, seed=seed)
    net.compile("adam", "categorical_crossentropy", ["accuracy"], kernels=kernels, fused=fused)
    return net


def trained(net, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bytes up to 255
        net.fit(PICTURES, LABELS, **{"epochs": 2, "batch_size": 16, "verbose": 0} | options)
    return net


def standardise():
    return Normalization(mean=[100.0, 120.0, 140.0], variance=[900.0, 1600.0, 2500.0])


# --- Normalization -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("set_of_kernels", [reference, parallel])
def test_normalization_is_the_formula(dtype, set_of_kernels):
    layer = built(standardise(), kernels=set_of_kernels)
    y = layer.forward(PICTURES.astype(dtype))
    assert y.dtype == (np.float64 if dtype is np.float64 else np.float32)
    expected = (PICTURES - np.array([100, 120, 140])) / np.array([30, 40, 50])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def test_adapt_finds_each_features_mean_and_variance(monkeypatch):
    monkeypatch.setattr("npnet.internal.checks.CHUNK", 1000)  # several pieces
    layer = Normalization()
    layer.adapt(PICTURES)
    np.testing.assert_allclose(layer.mean, PICTURES.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(layer.variance, PICTURES.var(axis=(0, 1, 2)), rtol=1e-12)
    y = built(layer).forward(PICTURES).astype(np.float64)
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axis=(0, 1, 2)), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="data must have 3 features, got 90"):
        layer.adapt(PICTURES.reshape(40, -1))
    flat = Normalization()
    flat.adapt(PICTURES.reshape(40, -1))
    assert flat.mean.shape == (90,)


def test_adapting_again_takes_effect_in_a_built_layer():
    layer = built(standardise())
    layer.adapt(PICTURES // 2)
    assert abs(layer.forward(PICTURES // 2).mean()) < 1e-5


def test_numbers_close_together_far_from_zero_keep_their_variance():
    x = (1e6 + RNG.standard_normal((500, 1))).astype(np.float64)
    layer = Normalization()
    layer.adapt(x)
    np.testing.assert_allclose(layer.variance, x.var(axis=0), rtol=1e-9)


def test_a_division_by_255_has_the_bits_of_a_division_by_255():
    layer = built(Normalization(mean=0.0, variance=255.0**2), kernels=parallel)
    assert (layer.forward(PICTURES) == PICTURES / np.float32(255)).all()


@pytest.mark.parametrize("set_of_kernels", [reference, parallel])
def test_a_feature_that_never_varies_becomes_0_as_in_keras(set_of_kernels):
    x = np.stack([np.full(50, 0.1), np.full(50, 255.0), RNG.standard_normal(50)], axis=1).astype(np.float32)
    layer = Normalization()
    layer.adapt(x)
    y = built(layer, (3,), kernels=set_of_kernels).forward(x)
    assert (y[:, :2] == 0).all() and abs(y[:, 2].std() - 1) < 1e-5
    given = built(Normalization(mean=[1.0, 2.0, 0.0], variance=[0.0, 1e-20, 4.0]), (3,))
    np.testing.assert_allclose(given.forward(np.array([[1.0, 3.0, 1.0]])), [[0, 1e7, 0.5]])


def test_a_layer_used_on_samples_of_another_shape_follows_them():
    layer = built(standardise())
    assert layer.forward(PICTURES).shape == PICTURES.shape
    np.testing.assert_array_equal(layer.forward(PICTURES[:, :2]), layer.forward(PICTURES)[:, :2])
    flip = built(RandomFlip(seed=0))
    assert flip.forward(PICTURES, training=True).shape == PICTURES.shape
    assert flip.forward(PICTURES[:, :2], training=True).shape == PICTURES[:, :2].shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": 1}, "axis must be -1"),
        ({"mean": 1.0}, "given together"),
        ({"mean": 1.0, "variance": [1.0, -2.0]}, "variance must be at least 0, got -2.0"),
        ({"mean": np.nan, "variance": 1.0}, "mean must be a finite number"),
        ({"mean": [[1.0]], "variance": [[1.0]]}, "one for each feature"),
    ],
)
def test_wrong_normalizations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Normalization(**arguments)


def test_normalization_needs_its_numbers_and_as_many_as_there_are_features():
    with pytest.raises(RuntimeError, match=r"call its adapt\(data\)"):
        built(Normalization())
    with pytest.raises(ValueError, match=r"expects 5 means and variances.*got 3 and 3"):
        built(standardise(), (4, 5))
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        Normalization().adapt([1.0, 2.0, 3.0])


def test_statistics_set_on_a_built_layer_fit_its_samples():
    layer = built(standardise(), (4, 3))
    before = layer.mean
    with pytest.raises(ValueError, match=r"expects 3 means and variances.*got 5 and 5"):
        layer.set_statistics(np.zeros(5), np.ones(5))
    assert layer.mean is before
    layer.set_statistics([1.0, 2.0, 3.0], 4.0)
    x = np.ones((2, 4, 3))
    np.testing.assert_array_equal(layer.forward(x), (x - [1.0, 2.0, 3.0]) / 2)


# --- pictures moved ----------------------------------------------------------------------------------------


def shifted(picture, down, right, mode, value=0):
    """The picture shifted by padding and cutting, the fill mode being numpy.pad's."""
    margin = 4
    names = {"constant": "constant", "nearest": "edge", "mirror": "reflect"}
    names |= {"reflect": "symmetric", "wrap": "wrap"}
    more = {"constant_values": value} if mode == "constant" else {}
    padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), names[mode], **more)
    height, width = picture.shape[:2]
    return padded[margin - down : margin - down + height, margin - right : margin - right + width]


@pytest.mark.parametrize("mode", ["constant", "mirror", "nearest", "reflect", "wrap"])
@pytest.mark.parametrize("set_of_kernels", [reference, parallel])
def test_translation_by_whole_pixels(mode, set_of_kernels):
    layer = RandomTranslation((-2 / 6, 1 / 6), 2 / 5, mode, fill_value=9.0)
    y = built(layer, kernels=set_of_kernels).forward(PICTURES, training=True)
    assert y.dtype == np.uint8
    seen = set()
    for before, after in zip(PICTURES, y, strict=True):
        moves = [
            (down, right)
            for down in range(-2, 2)
            for right in range(-2, 3)
            if (shifted(before, down, right, mode, 9) == after).all()
        ]
        assert len(moves) == 1
        seen |= set(moves)
    assert {down for down, _ in seen} == {-2, -1, 0, 1}
    assert {right for _, right in seen} == {-2, -1, 0, 1, 2}


def test_a_positive_factor_moves_down_and_right():
    x = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    y = built(RandomTranslation((0.5, 0.5), (0.5, 0.5), "constant"), (2, 2, 1)).forward(x, training=True)
    assert y.reshape(-1).tolist() == [0, 0, 0, 0]
    down = built(RandomTranslation((0.5, 0.5), 0.0, "constant"), (2, 2, 1)).forward(x, training=True)
    assert down.reshape(-1).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("mode", ["horizontal", "vertical", "horizontal_and_vertical"])
def test_flips_mirror_about_half_of_the_pictures(mode):
    x = np.repeat(PICTURES[:1], 400, axis=0)
    y = built(RandomFlip(mode), kernels=parallel).forward(x, training=True)
    ways = [x[0], x[0, :, ::-1], x[0, ::-1], x[0, ::-1, ::-1]]
    counts = [int((y == way).all(axis=(1, 2, 3)).sum()) for way in ways]
    possible = {"horizontal": (0, 1), "vertical": (0, 2), "horizontal_and_vertical": (0, 1, 2, 3)}[mode]
    assert sum(counts[i] for i in possible) == 400
    assert all(abs(counts[i] - 400 / len(possible)) < 60 for i in possible)


@pytest.mark.parametrize("make", MOVERS.values(), ids=MOVERS)
def test_both_kernel_sets_move_alike_and_only_in_training(make):
    results = [built(make(), kernels=k).forward(PICTURES, training=True) for k in (reference, parallel)]
    assert (results[0] == results[1]).all()
    assert not (results[0] == PICTURES).all()
    layer = built(make())
    assert layer.forward(PICTURES) is PICTURES
    assert layer.backward(PICTURES) is PICTURES
    assert PICTURES.tobytes() == np.random.default_rng(0).integers(0, 256, PICTURES.shape, np.uint8).tobytes()


def test_every_batch_is_drawn_anew_and_the_seed_decides():
    first, second = (built(RandomFlip(), seed=5) for _ in range(2))
    draws = [[layer.forward(PICTURES, training=True) for _ in range(2)] for layer in (first, second)]
    assert (draws[0][0] == draws[1][0]).all() and (draws[0][1] == draws[1][1]).all()
    assert not (draws[0][0] == draws[0][1]).all()
    own = [built(RandomFlip(seed=7), seed=seed).forward(PICTURES, training=True) for seed in (1, 2)]
    assert (own[0] == own[1]).all()


def test_mirrors_far_beyond_the_edge_and_of_a_single_pixel():
    indices = np.arange(-7, 8)
    assert places(indices, 3, "mirror").tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert places(indices, 1, "mirror").tolist() == [0] * 15


@pytest.mark.parametrize("mode", ["horizontal", "vertical", "horizontal_and_vertical"])
def test_alternating_flips_show_each_picture_both_ways_in_any_two_epochs(mode):
    layer = built(RandomFlip(mode, alternate=True))
    orders = [np.arange(40), *(np.random.default_rng(seed).permutation(40) for seed in range(3))]
    seen = []
    for epoch, order in enumerate(orders):
        layer.on_epoch_begin(epoch)
        halves = [layer.forward(PICTURES[half], training=True) for half in np.split(order, 4)]
        seen.append(np.empty_like(PICTURES))
        seen[-1][order] = np.concatenate(halves)
    ways = [np.s_[:, ::-1], np.s_[::-1], np.s_[::-1, ::-1]]
    turned = ways[("horizontal", "vertical", "horizontal_and_vertical").index(mode)]
    for first, second in itertools.pairwise(seen):
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other[turned])
    as_they_are = (seen[0] == PICTURES).all(axis=(1, 2, 3)).sum()
    assert 5 <= as_they_are <= (15 if mode == "horizontal_and_vertical" else 35), "coins, not a rule"


def test_an_alternating_flip_depends_on_the_seed_and_on_nothing_drawn_before():
    def flipped(seed, calls=1):
        layer = built(RandomFlip("horizontal", alternate=True), seed=seed)
        return [layer.forward(PICTURES, training=True) for _ in range(calls)][-1]

    np.testing.assert_array_equal(flipped(1), flipped(1, calls=3))
    assert (flipped(1) != flipped(2)).any()


@pytest.mark.parametrize("fused", [True, False])
def test_fit_tells_the_layers_which_epoch_it_is(fused, tmp_path):
    def kept(net):
        return [w.tobytes() for w in net.get_weights()]

    whole = trained(model(RandomFlip("horizontal", alternate=True), standardise(), fused=fused), epochs=3)
    net = trained(model(RandomFlip("horizontal", alternate=True), standardise(), fused=fused), epochs=1)
    assert whole.layers[0].epoch == 2
    net.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    trained(again, epochs=3, initial_epoch=1)
    assert kept(again) == kept(whole)
    assert kept(trained(model(standardise(), fused=fused), epochs=3)) != kept(whole)


def test_a_fill_value_that_bytes_cannot_hold_is_not_rounded():
    layer = built(RandomTranslation((0.5, 0.5), 0.0, "constant", fill_value=-0.5))
    y = layer.forward(PICTURES, training=True)
    assert y.dtype == np.float32
    assert (y[:, :3] == -0.5).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFlip("sideways"), "mode must be one of horizontal, vertical, .*got 'sideways'"),
        (lambda: RandomTranslation(1.5, 0.0), "height_factor must be a share from 0 to 1"),
        (lambda: RandomTranslation(0.0, (0.2, 0.1)), r"width_factor must be .*got \(0.2, 0.1\)"),
        (lambda: RandomTranslation(0.0, 0.0, "edge"), "fill_mode must be one of constant, mirror"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pictures_are_asked_for():
    with pytest.raises(
        ValueError, match=r"'random_flip' expects pictures .*got \(batch, 8\).*before Flatten"
    ):
        Sequential([Dense(8, input_shape=(4,)), RandomFlip()])
    with pytest.raises(RuntimeError, match="no random numbers before it is built"):
        RandomFlip(name="r").forward(PICTURES, training=True)


# --- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [*MOVERS.values(), standardise], ids=[*MOVERS, "normalization"])
def test_gradients_pass_back_through_them(make):
    net = Sequential([make(), Flatten(), Dense(4)], dtype="float64", seed=0)
    net.compile("sgd", "mse", kernels="numpy")
    x = RNG.standard_normal((6, 4, 5, 2 if isinstance(net.layers[0], (RandomFlip, RandomTranslation)) else 3))
    assert npnet.check_gradients(net, x, RNG.standard_normal((6, 4)), verbose=False).passed


# --- in models ---------------------------------------------------------------------------------------------

BEFORE = {
    "all": lambda: [RandomFlip("horizontal"), RandomTranslation(0.3, 0.4, "nearest"), standardise()],
    "scaled first": lambda: [Rescaling(1 / 255), RandomTranslation(0.3, 0.4, "constant"), RandomFlip()],
    "dropped": lambda: [standardise(), Dropout(0.3)],
    "grey": lambda: [RandomTranslation(0.3, 0.4, "constant", fill_value=0.5), Rescaling(0.01, -1.0)],
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_network_behind_them_is_fused_and_trains_alike(before, dropout):
    models = [trained(model(*before(), dropout=dropout, fused=fused)) for fused in (True, False)]
    assert models[0].setup.step().current().start.prefix
    for a, b in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_the_thread_count_changes_no_bit():
    threads = npnet.get_threads()
    results = []
    try:
        for count in {1, threads}:
            npnet.set_threads(count)
            results.append([w.tobytes() for w in trained(model(*BEFORE["all"]())).get_weights()])
    finally:
        npnet.set_threads(threads)
    assert all(result == results[0] for result in results)


def test_saved_and_loaded_it_goes_on_with_the_same_draws(tmp_path):
    net = trained(model(*BEFORE["all"](), dropout=0.2))
    net.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in net.layers]
    for one in (net, again):
        trained(one, epochs=3, initial_epoch=2)
    assert [w.tobytes() for w in net.get_weights()] == [w.tobytes() for w in again.get_weights()]


def test_nothing_is_moved_when_the_model_is_asked():
    net = trained(model(*BEFORE["all"]()))
    assert (net.predict(PICTURES, verbose=0) == net.predict(PICTURES, verbose=0)).all()
    assert np.isfinite(net.evaluate(PICTURES, LABELS, verbose=0)).all()


def test_a_copy_has_its_own_stream():
    net = model(*BEFORE["all"]())
    net.build((None, *PICTURES.shape[1:]))
    twin = copy.deepcopy(net)
    assert (twin(PICTURES, training=True) == net(PICTURES, training=True)).all()


# --- recipes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_the_tutorials_recipe_trains_to_the_bits_of_the_tutorial(kernels):
    recipe = recipes.Recipe(hidden=(33, 20), batch_size=16)
    net = trained(recipes.build(recipe, (6, 5, 3), 4, 3, seed=0, kernels=kernels))
    tutorial = Sequential(seed=0)
    tutorial.add(Dense(units=33, activation="relu", input_shape=(90,)))
    tutorial.add(Dense(units=20, activation="relu"))
    tutorial.add(Dense(units=4, activation="softmax"))
    tutorial.compile(loss="categorical_crossentropy", metrics=["accuracy"], kernels=kernels)
    x = np.reshape(PICTURES, (len(PICTURES), 90)) / np.float32(255)
    tutorial.fit(x, LABELS, epochs=2, batch_size=16, verbose=0)
    assert net.history.history == tutorial.history.history
    assert [w.tobytes() for w in net.get_weights()] == [w.tobytes() for w in tutorial.get_weights()]


def test_the_convolutional_recipe_is_keras_s_network():
    net = recipes.build(recipes.CNN, (32, 32, 3), 10, 3, seed=0)
    block = ["Conv2D", "Conv2D", "MaxPooling2D", "Dropout"]
    assert [type(layer).__name__ for layer in net.layers] == [
        "Normalization", *block, *block, "Flatten", "Dense", "Dropout", "Dense",
    ]  # fmt: skip
    assert net.count_params() == 1_250_858
    assert [layer.rate for layer in net.layers if isinstance(layer, Dropout)] == [0.25, 0.25, 0.5]
    assert recipes.widths(recipes.CNN, (32, 32, 3), 10) == "32x32x3-32-32-pool-64-64-pool-512-10"
    assert recipes.widths(recipes.TUTORIAL, (32, 32, 3), 10) == "3072-512-512-10"


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_the_convolutional_recipe_trains_to_the_bits_of_the_network_written_out(kernels):
    recipe = dataclasses.replace(recipes.CNN, filters=(4,), hidden=(9,), batch_size=16)
    net = trained(recipes.build(recipe, (6, 5, 3), 4, 3, seed=0, kernels=kernels))
    written_out = Sequential(seed=0)
    written_out.add(Conv2D(4, 3, padding="same", activation="relu", input_shape=(6, 5, 3)))
    written_out.add(Conv2D(4, 3, activation="relu"))
    for layer in (MaxPooling2D(2), Dropout(0.25), Flatten(), Dense(9, "relu"), Dropout(0.5)):
        written_out.add(layer)
    written_out.add(Dense(4, activation="softmax"))
    written_out.compile("adam", "categorical_crossentropy", metrics=["accuracy"], kernels=kernels)
    written_out.fit(PICTURES / np.float32(255), LABELS, epochs=2, batch_size=16, verbose=0)
    assert net.history.history == written_out.history.history
    assert [w.tobytes() for w in net.get_weights()] == [w.tobytes() for w in written_out.get_weights()]


def test_convolutions_are_normalised_before_their_activation():
    recipe = recipes.Recipe(filters=(4,), hidden=(), batch_norm=True)
    net = recipes.build(recipe, (6, 5, 3), 4, 3, seed=0)
    normalised = ["Conv2D", "BatchNormalization", "Activation"]
    assert [type(layer).__name__ for layer in net.layers] == [
        "Normalization", *normalised, *normalised, "MaxPooling2D", "Flatten", "Dense",
    ]  # fmt: skip
    assert net.layers[1].count_params() == 3 * 3 * 3 * 4, "no bias, which the normalisation would take away"


def test_filters_for_samples_that_are_no_pictures_are_refused():
    with pytest.raises(ValueError, match=r"filters are for pictures, got samples of shape \(2,\)"):
        recipes.build(recipes.CNN, (2,), 4, 3, seed=0)


def test_the_best_recipe_builds_and_trains():
    net = recipes.build(recipes.BEST, (6, 5, 3), 4, 3, seed=0, mean=[120.0] * 3, variance=[5000.0] * 3)
    trained(net)
    assert np.isfinite(net.history.history["loss"]).all()
    assert [type(layer).__name__ for layer in net.layers[:4]] == [
        "RandomFlip", "RandomTranslation", "Normalization", "Flatten",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": "standardised"}, "needs mean and variance"),
        ({"inputs": "unti"}, "inputs must be one of raw, unit, standardised, got 'unti'"),
        ({"schedule": "cosin"}, "schedule must be one of constant, linear, cosine, onecycle, got 'cosin'"),
        ({"optimizer": "adm"}, 'Did you mean "adam"'),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        recipes.build(recipes.Recipe(**settings), (6, 5, 3), 4, 3, seed=0)
