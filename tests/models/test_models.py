"""Sequential: structure, names, weights, summary."""

import copy
import pickle

import numpy as np
import pytest

import npnet
from npnet import Input, Sequential
from npnet.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    ReLU,
    Rescaling,
    Softmax,
)


def same(weights, others):
    return len(weights) == len(others) and all(
        np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(weights, others, strict=True)
    )


def small(**options):
    return Sequential([Dense(5, "relu", input_shape=(4,)), Dense(3, "softmax")], **{"seed": 1, **options})


# --- every way to build the same network ----------------------------------------------------------------


def test_every_way_to_state_the_input_builds_the_same_network():
    ways = [
        Sequential([Dense(5, "relu", input_shape=(4,)), Dense(3, "softmax")], seed=1),
        Sequential([Dense(5, "relu", input_dim=4), Dense(3, "softmax")], seed=1),
        Sequential([Input((4,)), Dense(5, "relu"), Dense(3, "softmax")], seed=1),
        Sequential([Dense(5, activation="relu"), Dense(3, activation="softmax")], seed=1),
        Sequential(seed=1),
        Sequential([Dense(5), ReLU(), Dense(3), Softmax()], seed=1),
    ]
    ways[3].build((None, 4))
    ways[4].add(Dense(5, "relu"))
    ways[4].add(Dense(3, "softmax"))
    ways[4](np.zeros((2, 4)))
    ways[5].build([None, 4])
    for model in ways[1:5]:
        assert same(model.get_weights(), ways[0].get_weights())
    assert [w.shape for w in ways[5].get_weights()] == [w.shape for w in ways[0].get_weights()]
    assert [layer.name for layer in ways[2].layers] == ["dense", "dense_1"], "Input is not among the layers"


def test_layers_written_as_links_are_the_same_function_as_activations_by_name():
    joined = small()
    links = Sequential([Dense(5, input_shape=(4,)), ReLU(), Dense(3), Activation("softmax")])
    links.set_weights(joined.get_weights())
    x = np.random.default_rng(0).normal(size=(6, 4))
    np.testing.assert_array_equal(joined(x), links(x))


def test_glorot_uniform_stays_in_its_interval_and_biases_start_at_zero():
    model = Sequential([Dense(300, input_shape=(200,))], seed=3)
    kernel, bias = model.get_weights()
    limit = np.sqrt(6 / 500)
    assert np.abs(kernel).max() <= limit
    assert np.abs(kernel).max() > 0.99 * limit
    assert not bias.any()


def test_default_names_are_keras_names_counted_within_the_model():
    for _ in range(2):
        model = Sequential([Dense(2, input_shape=(2,)), ReLU(), Dense(2), BatchNormalization(), LeakyReLU()])
        names = [layer.name for layer in model.layers]
        assert names == ["dense", "re_lu", "dense_1", "batch_normalization", "leaky_re_lu"]
    assert Sequential().name == "sequential"


def test_a_name_that_is_taken_is_refused_and_the_layer_stays_nameless():
    model = Sequential([Dense(2, name="a", input_shape=(2,))])
    with pytest.raises(ValueError, match="'a' is in this model already"):
        model.add(Dense(3, name="a"))
    assert len(model.layers) == 1
    late = Dense(3)
    with pytest.raises(ValueError, match="Flatten"):
        Sequential([Input((2, 2))]).add(late)
    assert (late.name, late.built, late.parameters) == ("", False, [])


def test_the_same_layer_twice_is_refused():
    layer = Dense(2, input_shape=(2,))
    model = Sequential([layer])
    with pytest.raises(ValueError, match="in this model already"):
        model.add(layer)


@pytest.mark.parametrize("thing", [3, "relu", Dense, None])
def test_what_is_no_layer_is_refused(thing):
    with pytest.raises(TypeError, match="add expects a layer"):
        Sequential().add(thing)


def test_input_comes_first_and_once():
    with pytest.raises(ValueError, match="Input must come first"):
        Sequential([Dense(2), Input((3,))])
    with pytest.raises(ValueError, match="Input must come first"):
        Sequential([Input((3,)), Input((3,))])


def test_two_different_input_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\).*input_shape=\(4,\)"):
        Sequential([Input((3,)), Dense(2, input_shape=(4,))])


def test_pop_then_add_builds_at_once_and_the_whole_still_trains():
    model = small()
    model.compile(loss="mse", metrics=["accuracy"], kernels="numpy")
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.eye(3)[np.arange(8) % 3]
    model.fit(x, y, verbose=0)
    popped = model.pop()
    assert popped.name == "dense_1"
    assert model.output_shape == (5,)
    assert model.predict(x, verbose=0).shape == (8, 5)
    model.add(Dense(1, "sigmoid"))
    history = model.fit(x, y[:, :1], verbose=0).history
    assert model.output_shape == (1,)
    accuracy = np.mean((model.predict(x, verbose=0) > 0.5) == y[:, :1])
    assert model.evaluate(x, y[:, :1], verbose=0)[1] == accuracy, "the metric follows the new last layer"
    assert list(history) == ["accuracy", "loss"]


def test_after_pop_alone_metrics_follow_the_new_last_layer_too():
    model = Sequential([Dense(1, "sigmoid", input_shape=(4,)), Dense(3, "softmax")], seed=1)
    model.compile(loss="mse", metrics=["accuracy"], kernels="numpy")
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.eye(3)[np.arange(8) % 3]
    model.fit(x, y, verbose=0)
    model.pop()
    accuracy = np.mean((model.predict(x, verbose=0) > 0.5) == y[:, :1])
    assert model.evaluate(x, y[:, :1], verbose=0)[1] == accuracy < 1


def test_pop_of_everything_and_of_nothing():
    model = small()
    model.pop()
    model.pop()
    assert not model.built
    assert model.layers == []
    with pytest.raises(ValueError, match="no layers to pop"):
        model.pop()
    with pytest.raises(RuntimeError, match="no layers"):
        model.predict(np.zeros((2, 4)))
    model.add(Dense(2))
    assert [w.shape for w in model.get_weights()] == [(4, 2), (2,)]


def test_a_popped_layer_keeps_its_weights_in_another_model_of_the_same_dtype():
    model = small()
    layer = model.pop()
    before = layer.get_weights()
    other = Sequential([Input((5,))], seed=99)
    other.add(layer)
    assert same(other.get_weights(), before)
    with pytest.raises(ValueError, match="dtype"):
        Sequential([Input((5,)), layer], dtype="float64")
    with pytest.raises(ValueError, match=r"built for samples of shape \(5,\), got \(6,\)"):
        Sequential([Input((6,)), Dense(6), layer])


def test_build_needs_layers_and_a_shape():
    with pytest.raises(ValueError, match="no layers"):
        Sequential().build((None, 3))
    for wrong in (3, "ab", 3.5):
        with pytest.raises(TypeError, match=r"shape such as \(None, 3072\)"):
            Sequential([Dense(2)]).build(wrong)
    for wrong in ((None,), (6,), ()):
        with pytest.raises(
            ValueError, match=r"the batch axis and the axes of a sample, for instance \(None, 3072\)"
        ):
            Sequential([Dense(2)]).build(wrong)
    for wrong in ((None, 0), (None, -3), (None, 2.5), (None, None)):
        with pytest.raises(ValueError, match="input_shape must hold positive integers"):
            Sequential([Dense(2)]).build(wrong)
    with pytest.raises(ValueError, match="batch axis"):
        Sequential([Dense(2)]).build()


def test_building_again_is_fine_for_the_same_shape_only():
    model = small()
    before = model.get_weights()
    model.build((None, 4))
    model.build([None, 4])
    model.build()
    assert same(model.get_weights(), before)
    with pytest.raises(ValueError, match=r"built for samples of shape \(4,\), got build\(\(None, 5\)\)"):
        model.build((None, 5))


def test_a_refused_build_leaves_nothing_half_built():
    model = Sequential([ReLU(), Dense(3), Dropout(0.5), Dense(2)], seed=1)
    with pytest.raises(ValueError, match=r"Dense 'dense' expects \(batch, features\), got \(batch, 2, 3\)"):
        model.build((None, 2, 3))
    assert not model.built
    assert not any(layer.built for layer in model.layers)
    model.build((None, 6))
    assert model.output_shape == (2,)


@pytest.mark.parametrize("method", ["get_weights", "count_params", "save"])
def test_what_needs_weights_says_how_to_get_them(method, tmp_path):
    arguments = (tmp_path / "m",) if method == "save" else ()
    with pytest.raises(RuntimeError, match=rf"{method} needs a built model.*input_shape"):
        getattr(Sequential([Dense(3)]), method)(*arguments)


def test_images_need_flatten_and_with_it_work():
    with pytest.raises(ValueError, match=r"\(batch, 8, 8, 3\).*x\.reshape\(len\(x\), 192\).*Flatten"):
        Sequential([Dense(3, input_shape=(8, 8, 3))])
    with pytest.raises(ValueError, match=r"Softmax.*Flatten"):
        Sequential([Activation("softmax", input_shape=(8, 3))])
    x = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    model = Sequential([Flatten(input_shape=(4, 4, 3))])
    np.testing.assert_array_equal(model(x), x.reshape(2, 48))


def test_one_activation_instance_in_two_layers_gives_the_gradient_of_two():
    act = LeakyReLU(0.1)
    shared = Sequential([Dense(6, act, input_shape=(4,)), Dense(6, act), Dense(2)], seed=1, dtype="float64")
    own = Sequential(
        [Dense(6, LeakyReLU(0.1), input_shape=(4,)), Dense(6, LeakyReLU(0.1)), Dense(2)],
        seed=1,
        dtype="float64",
    )
    x, y = np.random.default_rng(0).normal(size=(2, 9, 4))
    for model in (shared, own):
        model.compile("sgd", "mse", kernels="numpy")
        model.fit(x, y[:, :2], verbose=0)
    assert same(shared.get_weights(), own.get_weights())


# --- weights --------------------------------------------------------------------------------------------


def test_weights_come_and_go_as_copies():
    model = small()
    got = model.get_weights()
    kept = copy.deepcopy(got)
    for array in got:
        array += 1
    assert same(model.get_weights(), kept)
    for array in model.layers[0].get_weights():
        array += 1
    assert same(model.get_weights(), kept)
    given = [w + 1 for w in kept]
    model.set_weights(given)
    given[0][...] = 7
    np.testing.assert_array_equal(model.get_weights()[0], kept[0] + 1)


def test_weights_are_in_keras_order_and_layout():
    model = Sequential([Dense(5, input_shape=(4,)), BatchNormalization(), Dense(3, use_bias=False)])
    assert [w.shape for w in model.get_weights()] == [(4, 5), (5,), (5,), (5,), (5,), (5,), (5, 3)]
    gamma, beta, mean, variance = model.get_weights()[2:6]
    assert (gamma.all(), beta.any(), mean.any(), variance.all()) == (True, False, False, True)
    assert model.count_params() == 20 + 5 + 20 + 15


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda w: w[:-1], ValueError, "4 arrays, got 3"),
        (lambda w: [*w, w[0]], ValueError, "4 arrays, got 5"),
        (lambda w: [*w[:3], w[0]], ValueError, r"weights\[3\] \(bias\) must have shape \(3,\), got \(4, 5\)"),
        (lambda w: [*w[:3], np.array(list("abc"))], TypeError, r"weights\[3\] must hold numbers"),
        (lambda w: [*w[:3], w[3] + 1j], TypeError, r"weights\[3\].*complex"),
    ],
)
def test_wrong_weights_change_nothing(change, error, message):
    model = small()
    before = model.get_weights()
    with pytest.raises(error, match=message):
        model.set_weights(change([w + 1 for w in before]))
    assert same(model.get_weights(), before)


def test_float64_models_are_float64_throughout():
    model = small(dtype="float64")
    model.compile("adam", "categorical_crossentropy", kernels="numpy")
    x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("f4"), np.eye(3)[np.arange(8) % 3]
    model.fit(x, y, verbose=0)
    assert {w.dtype for w in model.get_weights()} == {np.dtype("f8")}
    assert {s.dtype for p in model.parameters for s in p.slots.values()} == {np.dtype("f8")}
    assert model.predict(x, verbose=0).dtype == np.float64
    np.testing.assert_allclose(model.predict(x, verbose=0).sum(axis=1), 1, rtol=1e-15)
    assert small().predict(x, verbose=0).dtype == np.float32


def test_layers_all_keep_the_dtype_of_the_model():
    layers = [Flatten(input_shape=(2, 3)), Rescaling(0.5, 1.0), Dense(4), BatchNormalization(), Dropout(0.3)]
    names = ["leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "gelu", "silu", "log_softmax"]
    for dtype in ("float32", "float64"):
        model = Sequential([*layers, *(Activation(n) for n in names), Dense(2)], dtype=dtype, seed=1)
        model.compile("sgd", "mse", kernels="numpy")
        assert model(np.ones((3, 2, 3)), training=True).dtype == dtype
        model.fit(np.ones((3, 2, 3)), np.ones((3, 2)), verbose=0)
        assert {w.dtype for w in model.get_weights()} == {np.dtype(dtype)}
        layers = [type(layer)(**layer.get_config()) for layer in layers]


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match='dtype must be "float32", "float64" or "mixed_bfloat16", got'):
        Sequential(dtype=dtype)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", True])
def test_wrong_seeds_are_refused(seed):
    with pytest.raises((TypeError, ValueError), match="seed"):
        Sequential(seed=seed)


# --- summary --------------------------------------------------------------------------------------------


def test_summary_of_the_tutorials_network():
    model = Sequential()
    model.add(Dense(units=512, activation="relu", input_shape=(3072,)))
    model.add(Dense(units=512, activation="relu"))
    model.add(Dense(units=10, activation="softmax"))
    lines = []
    model.summary(line_length=70, print_fn=lines.append)
    assert lines[0] == 'Model: "sequential"'
    assert [[cell.strip() for cell in line.split("│")[1:4]] for line in lines if "Dense" in line] == [
        ["dense (Dense)", "(None, 512)", "1,573,376"],
        ["dense_1 (Dense)", "(None, 512)", "262,656"],
        ["dense_2 (Dense)", "(None, 10)", "5,130"],
    ]
    assert " Total params: 1,841,162 (7.02 MB)" in lines
    assert " Trainable params: 1,841,162 (7.02 MB)" in lines
    assert " Non-trainable params: 0 (0.00 B)" in lines
    assert len({len(line) for line in lines[1:-3]}) == 1, "the box is straight"
    assert len(lines[1]) <= 70


def test_summary_counts_frozen_and_optimizer_parameters(capsys):
    model = Sequential([Dense(4, input_shape=(3,), trainable=False), BatchNormalization(), Dense(2)])
    model.compile("adam", "mse", kernels="numpy")
    model.fit(np.zeros((2, 3)), np.zeros((2, 2)), verbose=0)
    model.summary()
    text = capsys.readouterr().out
    assert "Total params: 42 " in text
    assert "Trainable params: 18 " in text
    assert "Non-trainable params: 24 " in text
    assert "Optimizer params: 36 " in text


def test_summary_of_an_unbuilt_and_of_an_empty_model(capsys):
    Sequential([Dense(4)]).summary()
    assert "0 (unbuilt)" in capsys.readouterr().out
    Sequential(name="nothing").summary()
    assert 'Model: "nothing"' in capsys.readouterr().out


@pytest.mark.parametrize("line_length", [10, 30, 61, 200])
def test_summary_is_straight_at_every_width(line_length):
    lines = []
    name = "a_layer_with_quite_a_long_name_indeed"
    model = Sequential([Dense(4, name=name, input_shape=(3,)), Dense(2)])
    model.summary(line_length, lines.append)
    assert len({len(line) for line in lines[1:-3]}) == 1
    assert any(name in line for line in lines) == (line_length >= 61 + 30)


def test_summary_fits_the_terminal(monkeypatch, capsys):
    for columns, width in ((60, 56), (300, 88)):
        monkeypatch.setenv("COLUMNS", str(columns))
        small().summary()
        assert max(map(len, capsys.readouterr().out.splitlines())) == width


def test_repr_says_what_it_is():
    assert repr(small()) == "<Sequential 'sequential': <Dense 'dense'>, <Dense 'dense_1'>>"
    assert npnet.models.Sequential is Sequential


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_go_on_with_the_same_bits(kernels, duplicate):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), np.arange(40) % 3
    model = Sequential([Dense(8, "relu", input_shape=(6,)), Dropout(0.3), Dense(3, "softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", kernels=kernels)
    model.fit(x, y, epochs=2, verbose=0)
    twin = duplicate(model)
    for other in (model, twin):
        other.fit(x, y, epochs=4, initial_epoch=2, verbose=0)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["call", "train_step", "compute_loss"])
def test_what_keras_models_write_of_their_own_is_refused(name):
    """It would never be called, without a word."""
    with pytest.raises(TypeError, match=f"npnet never calls Own.{name}, as Keras does"):
        type("Own", (Sequential,), {name: lambda self, *arguments: None})
    mixin = type("Mixin", (), {name: lambda self, *arguments: None})
    with pytest.raises(TypeError, match=f"npnet never calls Own.{name}"):
        type("Own", (mixin, Sequential), {})
