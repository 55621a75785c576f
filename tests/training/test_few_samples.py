"""The outputs for one to three samples: Dense layers in a row are one call, the same as link by link."""

import gc
import weakref

import numpy as np
import pytest

from npnet import Sequential, layers
from npnet.kernels import rules
from npnet.kernels.fused import few_rows
from npnet.kernels.machine import threads
from npnet.layers import Activation, Dense, Dropout, Input, activations

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 600)).astype(np.float32)
LABELS = np.eye(3)[np.arange(8) % 3]


def built(*links, dtype="float32", kernels="numba", inputs=600):
    """A network of these layers with biases that are not 0."""
    model = Sequential([Input((inputs,)), *links], dtype=dtype, seed=1)
    model.compile(loss="mse", kernels=kernels)
    rng = np.random.default_rng(2)
    for parameter in model.parameters:
        if parameter.name == "bias":
            parameter.value[...] = rng.normal(size=parameter.shape)
    return model


def small(activation="relu", **options):
    return built(Dense(7, activation, **options), Dense(3, "softmax"))


@pytest.fixture
def calls(monkeypatch):
    """How many layers each call of the kernel computed."""
    counts = []

    def counted(network, x):
        counts.append(len(network.table))
        return original(network, x)

    original = few_rows.forward
    monkeypatch.setattr(few_rows, "forward", counted)
    return counts


def assert_close(model, x, rtol=1e-5):
    """The outputs are those of NumPy's kernels in float64, to rounding."""
    exact = Sequential.from_config(model.get_config() | {"dtype": "float64"})
    exact.build((None, *x.shape[1:]))
    exact.set_weights(model.get_weights())
    exact.compile(loss="mse", kernels="numpy")
    np.testing.assert_allclose(model(x), exact.forward(x.astype(np.float64)), rtol, atol=rtol)


@pytest.mark.parametrize("name", activations.NAMES)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_every_activation(name, rows, calls):
    model = built(Dense(33, name), Dense(7), Dense(5, name))
    assert_close(model, X[:rows])
    assert calls == [3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("widths", [(1, 7), (7, 1, 100), (513, 100, 1), (1031, 257)])
def test_widths_that_fill_no_register(widths, rows, dtype, calls):
    model = built(*(Dense(width, "tanh", use_bias=width != 100) for width in widths), dtype=dtype)
    assert_close(model, X[:rows].astype(dtype), 1e-5 if dtype == "float32" else 1e-12)
    assert calls == [len(widths)]


def test_rules_with_constants(calls):
    model = built(
        Dense(40, layers.ReLU(max_value=0.5, negative_slope=0.1, threshold=0.2)),
        Dense(30, layers.LeakyReLU(0.3)), Dense(20), layers.ELU(0.7), Dense(5),
    )  # fmt: skip
    assert_close(model, X[:2])
    assert calls == [4]


def test_all_ways_to_predict(calls):
    model = small()
    expected = model.forward(X[:1])
    results = model(X[:1]), model.predict(X[:1], verbose=0), model.predict_on_batch(X[:1])
    for result in (*results, model.predict(X[:1], batch_size=1, verbose=0)):
        np.testing.assert_allclose(result, expected, 1e-5)
    for loss in (model.test_on_batch(X[:3], LABELS[:3]), model.evaluate(X[:3], LABELS[:3], verbose=0)):
        assert loss == pytest.approx(np.square(model.forward(X[:3]) - LABELS[:3]).mean(), rel=1e-4)
    assert calls == [2] * 6


def test_each_result_is_an_array_of_its_own():
    model = small()
    first = model(X[:1])
    before = first.copy()
    model(X[1:2])
    np.testing.assert_array_equal(first, before)
    assert first.base is None


def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    model = built(Dense(515, "gelu"), Dense(300, "relu"), Dense(10, "softmax"))
    results = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "_chosen", count)
        results.append(model(X[:3]).tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softmax", "log_softmax", "gelu"])
def test_what_is_not_a_number_stays_where_it_belongs(number, activation, calls):
    x = X[:3].copy()
    x[1, 5] = number
    model, twin = (
        built(Dense(20, "relu"), Dense(5, activation), kernels=kernels) for kernels in ("numba", "numpy")
    )
    with np.errstate(invalid="ignore"):  # NumPy says so when infinities make NaN
        np.testing.assert_allclose(model.outputs(x), twin.outputs(x), 1e-4, 1e-6)
        for each in (model, twin):
            each.layers[0].weight.value[3, 4] = number
        np.testing.assert_allclose(model.outputs(X[:2]), twin.outputs(X[:2]), 1e-4, 1e-6)
    assert calls == [2, 2]


# --- what is one call, and what is not -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "links"),
    [
        ([2], lambda: [layers.Flatten(), layers.Rescaling(0.5), Dense(9, "relu"), Dense(3)]),
        ([2], lambda: [Dropout(0.5), Dense(9, "relu"), Dropout(0.5), Dense(3, "softmax"), Dropout(0.1)]),
        ([2, 3], lambda: [
            Dense(9), Dense(9), layers.BatchNormalization(), Dense(9), Dense(9), Activation("relu"), Dense(3),
        ]),
        ([2, 2], lambda: [Dense(9), Dense(9, "relu"), Activation("tanh"), Dense(9), Dense(3)]),
        ([], lambda: [Dense(9, "relu"), layers.BatchNormalization(), Dense(3, "softmax")]),
    ],
)  # fmt: skip
def test_what_stands_between(expected, links, calls):
    assert_close(built(*links()), X[:2])
    assert calls == expected


def test_the_dense_layers_behind_convolutions(calls):
    x = X[:2].reshape(2, 10, 10, 6)
    model = Sequential([
        Input((10, 10, 6)), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(),
        Dense(20, "relu"), Dense(3, "softmax"),
    ], seed=1)  # fmt: skip
    model.compile(loss="mse", kernels="numba")
    np.testing.assert_allclose(model(x), model.forward(x), 1e-4, 1e-6)
    assert calls == [2]


def test_more_samples_go_from_link_to_link(calls):
    model = small()
    assert model(X[:4]).tobytes() == model.forward(X[:4]).tobytes()
    assert calls == []


@pytest.mark.parametrize("options", [{"kernels": "numpy"}, {"kernels": "numba", "fused": False}])
def test_who_asks_for_other_kernels_gets_them(options, calls):
    model = small()
    model.compile(loss="mse", **options)
    assert model(X[:1]).tobytes() == model.forward(X[:1]).tobytes()
    assert calls == []


@pytest.mark.filterwarnings("ignore:mixed_bfloat16 is no faster")
def test_layers_in_mixed_precision_round_as_ever(calls):
    model = built(Dense(9, "relu"), Dense(9, "relu"), Dense(9, dtype="float32"), Dense(3, dtype="float32"),
                  dtype="mixed_bfloat16")  # fmt: skip
    np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5)
    assert calls == [2]


# --- as the objects say now ------------------------------------------------------------------------------


class Doubled(Dense):
    """A subclass with a formula of its own."""

    def forward(self, x, training=False):
        return 2 * super().forward(x, training)


class Smooth(activations.ReLU):
    """Another."""

    rule = staticmethod(rules.softplus)


@pytest.mark.parametrize("own", [lambda: Doubled(7), lambda: Dense(7, Smooth())])
def test_subclasses_run_as_they_are_written(own, calls):
    model = built(own(), Dense(5), Dense(3))
    np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5, 1e-6)
    assert calls in ([2], [3])


def test_methods_of_an_object_are_called(calls):
    model = small()
    model(X[:1])
    model.layers[0].forward = lambda x, training=False: np.ones((len(x), 7), np.float32)
    assert model(X[:1]).tobytes() == model.forward(np.zeros_like(X[:1])).tobytes()
    del model.layers[0].forward
    model.layers[1].activation.forward = lambda x, training=False: 5 * x
    np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5)
    assert calls == [2, 2]


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (Dense, "forward", lambda self, x, training=False: x[:, :1] * np.ones(self.units, x.dtype)),
        (activations.ReLU, "rule", property(lambda self: rules.softplus)),
        (activations.Elementwise, "forward", lambda self, x, training=False: -x),
        (activations.Softmax, "forward", lambda self, x, training=False: 3 * x),
    ],
)
def test_a_class_that_was_rewritten_is_heard(cls, name, value, monkeypatch, calls):
    model = small()
    before = model(X[:1])
    with monkeypatch.context() as patched:
        patched.setattr(cls, name, value)
        rewritten = model(X[:1])
        assert rewritten.tobytes() == model.forward(X[:1]).tobytes() != before.tobytes()
    assert model(X[:1]).tobytes() == before.tobytes()
    assert calls == [2, 2]


@pytest.mark.parametrize("fused", [True, False])
def test_weights_are_those_of_the_last_step(fused, calls):
    model = small()
    model.compile("adam", "mse", kernels="numba", fused=fused)
    model.compile("adam", "mse", kernels="numba")
    for _ in range(3):
        before = model(X[:1])
        model.train_on_batch(X, LABELS)
        after = model(X[:1])
        assert np.abs(after - before).max() > 1e-4
        np.testing.assert_allclose(after, model.forward(X[:1]), 1e-5)
    model.fit(X, LABELS, epochs=2, verbose=0)
    np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5)


def change_activation(model):
    model.layers[0].activation = activations.Tanh()


def change_slope(model):
    model.layers[0].activation.negative_slope = 0.9


def add_layer(model):
    model.add(Dense(4, "tanh"))


def pop_layer(model):
    model.pop()
    model.add(Dense(2))


def set_weights(model):
    model.set_weights([2 * weight for weight in model.get_weights()])


def replace_weights(model):
    model.layers[0].weight.array = 3 * model.layers[0].weight.value


def replace_bias(model):
    model.layers[1].bias.array = np.ones(3, np.float32)


def transpose_weights(model):
    model.layers[0].weight.array = np.asfortranarray(2 * model.layers[0].weight.value)


@pytest.mark.parametrize(
    "change",
    [
        change_activation, change_slope, add_layer, pop_layer, set_weights, replace_weights, replace_bias,
        transpose_weights,
    ],
)  # fmt: skip
def test_changes_between_two_calls(change):
    model = small("leaky_relu")
    before = model(X[:1])
    change(model)
    after = model(X[:1])
    assert before.shape != after.shape or np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, model.forward(X[:1]), 1e-5)


def test_weights_that_are_strided_may_change_in_place(calls):
    model = small()
    weight = model.layers[0].weight
    weight.array = np.asfortranarray(weight.value)
    for factor in (1, 2):
        weight.value[...] *= factor
        np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5)
    assert calls == []


def test_weights_may_be_read_only(calls):
    model = small()
    for parameter in model.parameters:
        parameter.value.flags.writeable = False
    np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5)
    assert calls == [2]


@pytest.mark.parametrize("index", range(4))
def test_weights_of_another_dtype_are_not_read_as_floats(index, calls):
    model = small()
    parameter = model.parameters[index]
    parameter.array = parameter.value.astype(np.float64)
    np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5)
    assert calls == []


class InFloat64(layers.Layer):
    """A layer that does not keep its input's dtype."""

    def forward(self, x, training=False):
        return x.astype(np.float64)


def test_inputs_of_another_dtype_are_not_read_as_floats(calls):
    model = built(InFloat64(), Dense(7), Dense(3))
    np.testing.assert_allclose(model(X[:1]), model.forward(X[:1]), 1e-5)
    assert calls == []


def test_weights_that_do_not_fit_are_refused(calls):
    model = small()
    for index, cut in ((0, np.s_[:, :1]), (1, np.s_[:1])):
        weight = model.layers[index].weight
        before, weight.array = weight.value, weight.value[cut].copy()
        with pytest.raises(ValueError, match=r"shape|mismatch"):
            model(X[:1])
        weight.array = before
    assert calls == []


@pytest.mark.parametrize("trains", [False, True])
def test_what_was_made_goes_with_the_model(trains):
    model = small()
    if trains:
        model.fit(X, LABELS, verbose=0)
    model(X[:1])
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None
