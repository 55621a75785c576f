"""The gate: what users pass by mistake, what it says, and that nothing has changed afterwards."""

import re
import weakref

import numpy as np
import pytest

import npnet
from npnet import Sequential
from npnet.internal import checks
from npnet.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    ReLU,
    Rescaling,
    Softmax,
    from_config,
)
from npnet.losses import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from npnet.optimizers import SGD, Adam, AdamW, RMSprop
from npnet.training.batches import gather

RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 6))
LABELS = np.arange(12) % 3
Y = np.eye(3)[LABELS]


def bad(value, row, column, array=X):
    """Return the array with one number replaced."""
    changed = array.copy()
    changed[row, column] = value
    return changed


def model(loss="categorical_crossentropy", built=True, units=3, dtype="float32", last="softmax"):
    shape = {"input_shape": (6,)} if built else {}
    net = Sequential([Dense(5, "relu", **shape), Dropout(0.2), Dense(units, last)], seed=1, dtype=dtype)
    net.compile("adam", loss, metrics=["accuracy"], kernels="numpy")
    return net


def state(net):
    return (
        net.built,
        net.input_shape,
        [(layer.built, layer.input_shape) for layer in net.layers],
        [(p.value.tobytes(), {k: v.tobytes() for k, v in p.slots.items()}) for p in net.parameters],
        net.optimizer.iterations,
        [layer.rng.bit_generator.state for layer in net.layers if layer.rng],
    )


def everywhere(net, x, y):
    """The public calls that take x and y."""
    return [
        lambda: net.fit(x, y, verbose=0),
        lambda: net.fit(X, Y, validation_data=(x, y), verbose=0),
        lambda: net.evaluate(x, y, verbose=0),
        lambda: net.train_on_batch(x, y),
        lambda: net.test_on_batch(x, y),
    ]


# --- x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[:, :5], ValueError, "Dense 'dense' expects (batch, 6), got (12, 5)."),
        (X.reshape(12, 2, 3), ValueError, "got (12, 2, 3). Flatten first:"),
        (X[:, 0], ValueError, "must be (batch, features), got shape (12,)."),
        (X[0], ValueError, "For one sample write"),
        (5.0, ValueError, "must have one row a sample, got the single number 5.0."),
        (None, ValueError, "is None"),
        (X + 0j, TypeError, "must hold numbers (bool, integers or floats), got dtype complex128."),
        (X.astype(object), TypeError, "got dtype object"),
        (X.astype(str), TypeError, "got dtype <U"),
        ([["a", "b"]], TypeError, "got dtype <U1"),
        ([[1, 2], [3]], ValueError, "cannot be made an array"),
        (np.array(["2020-01-01"], "M8[D]"), TypeError, "dtype datetime64"),
        ({"a": 1}, TypeError, "dtype object"),
        (bad(np.nan, 4, 2), ValueError, "must be finite, got nan at index (4, 2)."),
        (bad(np.inf, 0, 5), ValueError, "must be finite, got inf at index (0, 5)."),
        (bad(-np.inf, 11, 0), ValueError, "must be finite, got -inf at index (11, 0)."),
        (bad(1e39, 2, 3), ValueError, "must be finite, got 1e+39 at index (2, 3)."),
        (bad(np.nan, 2, 3).astype("f2"), ValueError, "nan at index (2, 3)."),
    ],
)
def test_wrong_x(x, error, message):
    net = model()
    before = state(net)
    for call in [
        *everywhere(net, x, Y),
        lambda: net.predict(x, verbose=0),
        lambda: net.predict_on_batch(x),
        lambda: net(x),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            call()
    assert state(net) == before


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_a_sparse_matrix_says_how_to_give_it(method):
    class Sparse:  # as SciPy's
        shape, nnz = (12, 6), 3

        def toarray(self):
            return X

        def __iter__(self):
            return iter([self] * 12)

    with pytest.raises(TypeError, match=r"x is a sparse matrix. .* x.toarray\(\)"):
        getattr(model(), method)(Sparse(), *([Y] if method != "predict" else []))
    if method != "predict":
        with pytest.raises(TypeError, match=r"y is a sparse matrix. .* y.toarray\(\)"):
            getattr(model(), method)(X, Sparse())


def test_the_first_of_several_bad_numbers_is_named_in_large_arrays(monkeypatch):
    monkeypatch.setattr("npnet.internal.checks.CHUNK", 24)
    x = X.copy()
    x[9, 1] = x[9, 4] = x[10, 0] = np.nan
    with pytest.raises(ValueError, match=r"nan at index \(9, 1\)"):
        model().predict(x, verbose=0)


def test_float64_models_take_what_only_float64_can_hold():
    assert np.isfinite(model(dtype="float64").predict(X * 1e39, verbose=0)).all()


def test_an_unbuilt_model_is_still_unbuilt_after_a_refusal():
    net = Sequential([ReLU(), Dropout(0.1), Dense(3, "softmax")], seed=1)
    net.compile("adam", "categorical_crossentropy", kernels="numpy")
    before = state(net)
    for x, y, options in [
        (X.reshape(12, 2, 3), Y, {}),
        (X, Y[:, :2], {}),
        (X, LABELS, {}),
        (X, Y[:5], {}),
        (X, Y, {"batch_size": 0}),
        (X, Y, {"callbacks": [3]}),
        (X, Y, {"callbacks": npnet.callbacks.History}),
        (X, Y, {"validation_data": (X[:, :3], Y)}),
        (X, Y, {"validation_split": 1.5}),
        (X, Y, {"class_weight": {7: 1}}),
        (X, Y, {"verbose": 3}),
        (np.full_like(X, np.nan), Y, {}),
    ]:
        with pytest.raises((ValueError, TypeError)):
            net.fit(x, y, **{"verbose": 0, **options})
        assert state(net) == before
    net.fit(X, Y, verbose=0)


@pytest.mark.parametrize("x", [X[:0], []])
def test_nothing_to_learn_or_to_measure(x):
    net = model()
    before = state(net)
    for call in [*everywhere(net, x, Y), lambda: net(x)]:
        with pytest.raises(ValueError, match="holds no samples"):
            call()
    assert state(net) == before


@pytest.mark.parametrize(
    ("x_val", "message"),
    [
        (X[:, :3], r"validation x must hold samples of shape \(6,\) like x, got \(3,\)"),
        (X.reshape(12, 2, 3), "Flatten"),
    ],
)
def test_validation_data_must_have_the_shape_of_x_before_the_model_is_built_too(x_val, message):
    net = model(built=False)
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y, validation_data=(x_val, Y), verbose=0)
    assert not net.built


# --- y


@pytest.mark.parametrize(
    ("loss", "y", "error", "message"),
    [
        ("categorical_crossentropy", LABELS, ValueError, "Integer labels? Either make them one-hot, npnet."),
        ("categorical_crossentropy", LABELS[:, None], ValueError, 'loss="sparse_categorical_crossentropy"'),
        ("categorical_crossentropy", Y[:, :2], ValueError, "shape of the output, (12, 3), got (12, 2)"),
        ("categorical_crossentropy", Y[:, :1], ValueError, "(12, 3), got (12, 1)"),
        ("categorical_crossentropy", Y * 2, ValueError, "must hold probabilities, 0 to 1, for CategoricalC"),
        ("categorical_crossentropy", Y - 0.5, ValueError, "got -0.5"),
        ("categorical_crossentropy", bad(np.nan, 0, 1, Y), ValueError, "got nan at index (0, 1)"),
        ("categorical_crossentropy", Y[:5], ValueError, "x and y must hold the same number of samples"),
        ("categorical_crossentropy", None, ValueError, "y is None"),
        ("categorical_crossentropy", Y.astype(object), TypeError, "y must hold numbers"),
        ("categorical_crossentropy", Y + 0j, TypeError, "y must hold numbers"),
        ("sparse_categorical_crossentropy", Y, ValueError, 'use loss="categorical_crossentropy"'),
        ("sparse_categorical_crossentropy", LABELS + 1, ValueError, "label 3, but the last layer with"),
        ("sparse_categorical_crossentropy", LABELS - 1, ValueError, "y holds the label -1"),
        ("sparse_categorical_crossentropy", LABELS * 50, ValueError, "the label 100"),
        ("sparse_categorical_crossentropy", LABELS + 0.5, ValueError, "whole class labels, got 0.5"),
        ("sparse_categorical_crossentropy", LABELS + np.nan, ValueError, "must be finite"),
        ("sparse_categorical_crossentropy", np.full(12, 2**63, "u8"), ValueError, "the label"),
        ("sparse_categorical_crossentropy", ["a"] * 12, TypeError, "got dtype <U1"),
        ("mse", LABELS, ValueError, "(12, 3), got (12,)"),
        ("mse", LABELS[:, None], ValueError, "(12, 3), got (12, 1)"),
        ("mse", bad(np.inf, 3, 2, Y), ValueError, "must be finite"),
        ("mae", Y.T, ValueError, "(3, 12)"),
        ("mae", Y[:, None], ValueError, "(12, 1, 3)"),
        ("binary_crossentropy", Y * 3, ValueError, "probabilities"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*expects probabilities")
def test_wrong_y(loss, y, error, message):
    net = model(loss)
    before = state(net)
    for call in (
        lambda: net.fit(X, y, verbose=0),
        lambda: net.evaluate(X, y, verbose=0),
        lambda: net.train_on_batch(X, y),
        lambda: net.test_on_batch(X, y),
    ):
        with pytest.raises(error, match=re.escape(message)):
            call()
    assert state(net) == before


def test_one_output_takes_a_flat_y_but_nothing_is_broadcast():
    net = model("mse", units=1, last=None)
    assert net.test_on_batch(X, X[:, 0]) == net.test_on_batch(X, X[:, :1])
    for wrong in (X[:, :2], X[:1, :1], np.zeros((12, 12))):
        with pytest.raises(ValueError, match="y"):
            net.fit(X, wrong, verbose=0)


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "i4", "i8", "f2", "f4", "f8", ">f4", ">i4"])
def test_targets_of_every_dtype_mean_the_same(dtype):
    one_hot, sparse = model(), model("sparse_categorical_crossentropy")
    expected = one_hot.fit(X, Y, verbose=0).history
    assert model().fit(X, Y.astype(dtype), verbose=0).history == expected
    if dtype != "bool":
        assert sparse.fit(X, LABELS.astype(dtype), verbose=0).history == expected


# --- arrays of every kind give the same bits


def layouts(x, folder):
    """The same numbers in many forms."""
    wide = np.zeros((len(x), 2 * x.shape[1]), x.dtype)
    wide[:, ::2] = x
    readonly = x.copy()
    readonly.setflags(write=False)
    file = folder / "x.npy"
    np.save(file, x)
    unaligned = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    return {
        "C": x.copy(),
        "Fortran": np.asfortranarray(x),
        "strided": wide[:, ::2],
        "reversed": np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
        "read-only": readonly,
        "memory-mapped": np.load(file, mmap_mode="r"),
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "unaligned": unaligned,
        "list": x.tolist(),
        "tuple of rows": tuple(x),
        "matrix row view": np.vstack([x, x])[: len(x)],
    }


def test_every_layout_gives_the_same_bits_and_stays_as_it_was(tmp_path, kernels):
    def run(x, y, weight):
        net = Sequential(
            [Dense(5, "relu", input_shape=(6,)), BatchNormalization(), Dense(3, "softmax")], seed=1
        )
        net.compile("adam", "categorical_crossentropy", kernels=kernels)
        history = net.fit(
            x, y, epochs=2, batch_size=5, sample_weight=weight, validation_data=(x, y, weight), verbose=0
        ).history
        loss = net.evaluate(x, y, sample_weight=weight, batch_size=5, verbose=0)
        of_one_batch = net.evaluate(x, y, sample_weight=weight, verbose=0)
        return history, loss, of_one_batch, net.predict(x, batch_size=5, verbose=0).tobytes()

    weight = np.linspace(0.5, 2, 12)[:, None]
    (tmp_path / "w").mkdir()
    (tmp_path / "y").mkdir()
    forms = zip(
        layouts(X, tmp_path).items(),
        layouts(Y, tmp_path / "y").values(),
        layouts(weight, tmp_path / "w").values(),
        strict=True,
    )
    expected = run(X, Y, weight)
    for (name, x), y, w in forms:
        before = np.array(x, copy=True), np.array(y, copy=True), np.array(w, copy=True)
        assert run(x, y, w) == expected, name
        for array, copied in zip((x, y, w), before, strict=True):
            np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "g"])
def test_samples_of_every_dtype_are_the_numbers_they_hold(dtype):
    x = (X > 0).astype(dtype)
    np.testing.assert_array_equal(model().predict(x, verbose=0), model().predict(x.astype("f4"), verbose=0))
    assert model().fit(x, Y, verbose=0).history == model().fit((X > 0).astype("f4"), Y, verbose=0).history


@pytest.mark.parametrize("dtype", ["u1", "f8", ">f4", "?", "i8", "f4"])
@pytest.mark.parametrize("count", [0, 1, 31, 32, 100])
def test_the_rows_of_a_batch_are_a_new_array(dtype, count):
    rng = np.random.default_rng(0)
    x = (9 * rng.random((200, 2, 3))).astype(dtype)[::2]
    rows = rng.permutation(100)[:count]
    batch = gather(x, rows, np.float32)
    assert batch.dtype == np.float32 and batch.flags.c_contiguous and batch.flags.owndata
    np.testing.assert_array_equal(batch, x[rows].astype(np.float32))


def test_bytes_do_not_wrap_around():
    net = Sequential([Rescaling(2.0, -1.0, input_shape=(6,)), Flatten()])
    x = np.full((2, 6), 200, np.uint8)
    np.testing.assert_array_equal(net(x), 399.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda net, x, y, w: net.fit(
            x, y, sample_weight=w, validation_data=(x, y, w), batch_size=12, verbose=0
        ),
        lambda net, x, y, w: net.evaluate(x, y, sample_weight=w, batch_size=12, verbose=0),
        lambda net, x, y, w: net.evaluate(x, y, sample_weight=w, verbose=0),
        lambda net, x, y, w: net.predict(x, batch_size=12, verbose=0),
        lambda net, x, y, w: net.predict_on_batch(x),
        lambda net, x, y, w: net.train_on_batch(x, y, w),
        lambda net, x, y, w: net.test_on_batch(x, y, w),
        lambda net, x, y, w: net(x, training=True),
    ],
)
def test_no_array_of_the_users_is_kept(call):
    net = model(dtype="float64")
    arrays = [X.copy(), Y.copy(), np.ones(12)]
    alive = [weakref.ref(array) for array in arrays]
    call(net, *arrays)
    arrays.clear()
    assert [reference() for reference in alive] == [None] * 3


# --- numbers


@pytest.mark.parametrize("name", ["batch_size", "epochs", "validation_batch_size", "validation_freq"])
@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, "3", True, float("nan")])
def test_numbers_that_are_no_positive_integers(name, value):
    if (name, value) == ("epochs", 0):
        value = -2  # no epochs are fine
    net = model()
    before = state(net)
    with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
        net.fit(X, Y, verbose=0, validation_data=(X, Y), **{name: value})
    if name == "batch_size":
        for call in (net.evaluate, lambda x, y, **o: net.predict(x, **o)):
            with pytest.raises((TypeError, ValueError), match="batch_size must be"):
                call(X, Y, verbose=0, batch_size=value)
    assert state(net) == before


def test_numpys_integers_are_integers():
    net = model()
    net.fit(X, Y, batch_size=np.int32(5), epochs=np.uint8(2), initial_epoch=np.int64(1), verbose=0)
    assert net.history.epoch == [1]


@pytest.mark.parametrize("value", [-1, 1.0, None])
def test_wrong_initial_epoch(value):
    with pytest.raises((TypeError, ValueError), match="initial_epoch must be"):
        model().fit(X, Y, initial_epoch=value, verbose=0)


@pytest.mark.parametrize("value", [3, -1, "1", "loud", None])
def test_wrong_verbose(value):
    net = model()
    for call in (net.fit, net.evaluate, lambda x, y, **o: net.predict(x, **o)):
        with pytest.raises(ValueError, match='verbose must be 0, 1, 2 or "auto"'):
            call(X, Y, verbose=value)


# --- names


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sequential().compile("admm", "mse"), "Unknown optimizer 'admm'. Did you mean \"adam\"?"),
        (lambda: Sequential().compile("RMSProp", "mse"), 'Did you mean "rmsprop"?'),
        (lambda: Sequential().compile("sgd", "categorical_crossentrop"), 'mean "categorical_crossentropy"?'),
        (lambda: Sequential().compile("sgd", "mse", ["acuracy"]), 'Did you mean "accuracy"?'),
        (lambda: Sequential().compile("sgd", "mse", kernels="cuda"), 'kernels must be "numba" or "numpy"'),
        (lambda: Dense(3, "rellu"), "Unknown activation 'rellu'. Did you mean \"relu\"?"),
        (lambda: Activation("sofmax"), 'Did you mean "softmax"?'),
        (lambda: Dense(3, kernel_initializer="glorot"), "Known: zeros, ones"),
        (lambda: Dense(3, kernel_initializer="he_norml"), 'Did you mean "he_normal"?'),
        (lambda: Dense(3, kernel_regularizer="l3"), "Unknown regularizer 'l3'"),
        (lambda: from_config({"class_name": "elu", "config": {}}), 'Did you mean "ELU"?'),
        (lambda: Sequential().compile(loss="qqqq"), "Known: categorical_crossentropy, sparse_"),
    ],
)
def test_unknown_names_come_with_the_nearest_and_the_list(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("thing", [3, 2.5, [], {"a": 1}, object(), np.zeros(3)])
def test_what_is_neither_name_nor_object(thing):
    for call in (
        lambda: Sequential().compile(thing, "mse"),
        lambda: Sequential().compile("sgd", thing),
        lambda: Sequential().compile("sgd", "mse", [thing]),
        lambda: Dense(3, activation=thing),
        lambda: Dense(3, kernel_initializer=thing),
    ):
        with pytest.raises(TypeError, match="must be a name or an instance"):
            call()


def test_a_plain_function_as_activation_says_how_to_write_a_layer():
    with pytest.raises(TypeError, match="forward and backward"):
        Dense(3, activation=lambda x: x)


@pytest.mark.parametrize("metrics", ["accuracy", {"a": "accuracy"}, 3])
def test_metrics_must_be_a_list(metrics):
    with pytest.raises(TypeError, match="metrics must be a list"):
        Sequential().compile(loss="mse", metrics=metrics, kernels="numpy")


def test_two_metrics_of_one_name_are_refused():
    for options in (
        {"metrics": ["accuracy", "accuracy"]},
        {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
        {"metrics": [npnet.metrics.CategoricalAccuracy(name="loss")]},
    ):
        with pytest.raises(ValueError, match="a second time"):
            Sequential().compile(loss="mse", kernels="numpy", **options)


# --- orders


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_what_needs_compile_says_so(method):
    net = Sequential([Dense(3, input_shape=(6,))])
    with pytest.raises(RuntimeError, match=rf"{method} needs a compiled model: call model\.compile"):
        getattr(net, method)(X, Y)


@pytest.mark.parametrize("method", ["evaluate", "test_on_batch"])
def test_evaluating_weights_that_were_never_made_is_refused(method):
    with pytest.raises(RuntimeError, match=f"{method} needs a built model"):
        getattr(model(built=False), method)(X, Y)


def test_an_empty_model_says_so():
    net = Sequential()
    net.compile(loss="mse", kernels="numpy")
    for call in (lambda: net.fit(X, Y), lambda: net.predict(X), lambda: net(X)):
        with pytest.raises(RuntimeError, match=r"no layers: add some first, model\.add"):
            call()


def test_compile_needs_a_loss_that_gives_one_number():
    with pytest.raises(ValueError, match="compile needs a loss"):
        model().compile()
    with pytest.raises(ValueError, match="reduction"):
        model().compile(loss=CategoricalCrossentropy(reduction=None), kernels="numpy")


# --- warnings


@pytest.mark.parametrize(
    ("last", "loss", "message"),
    [
        ("softmax", CategoricalCrossentropy(from_logits=True), "softmax to an output that had it already"),
        ("softmax", SparseCategoricalCrossentropy(from_logits=True), "had it already"),
        ("sigmoid", BinaryCrossentropy(from_logits=True), "sigmoid to an output that had it already"),
        (
            None,
            "categorical_crossentropy",
            'activation="softmax", or use CategoricalCrossentropy\\(from_logits=True',
        ),
        (None, "sparse_categorical_crossentropy", "use SparseCategoricalCrossentropy\\(from_logits=True"),
        (None, "binary_crossentropy", 'activation="sigmoid"'),
    ],
)
def test_losses_and_last_layers_that_do_not_belong_together(last, loss, message):
    net = Sequential([Dense(3, last, input_shape=(6,))])
    with pytest.warns(UserWarning, match=message) as caught:
        net.compile(loss=loss, kernels="numpy")
    assert [warning.filename for warning in caught] == [__file__]


ONE = r"with one unit: the probability of the only class is 1.*sigmoid"


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse", "mae", "binary_crossentropy"])
@pytest.mark.parametrize(
    "layers",
    [
        [Dense(1, "softmax")],
        [Dense(1, "log_softmax")],
        [Dense(1), Dropout(0.1), Activation("softmax")],
        [Dense(1), Softmax()],
        [Dense(1, "softmax"), Dense(3, "sigmoid")],
    ],
)
@pytest.mark.filterwarnings("ignore:.*expects probabilities")
def test_a_softmax_of_one_unit_learns_nothing_and_is_warned_of(layers, loss):
    with pytest.warns(UserWarning, match=f"^(Log)?Softmax after a layer {ONE}") as caught:
        Sequential(layers).compile(loss=loss, kernels="numpy")
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("loss", [CategoricalCrossentropy(from_logits=True), SparseCategoricalCrossentropy()])
def test_a_cross_entropy_of_one_unit_is_warned_of(loss):
    with pytest.warns(UserWarning, match=f"^{type(loss).__name__} of a last layer {ONE}"):
        Sequential([Dense(1)]).compile(loss=loss, kernels="numpy")


def test_one_unit_with_its_own_activation_is_fine():
    Sequential([Dense(1, "sigmoid")]).compile(loss="binary_crossentropy", kernels="numpy")
    Sequential([Dense(1)]).compile(loss="mse", kernels="numpy")
    Sequential([Dense(1), Dense(2, "softmax")]).compile(loss="categorical_crossentropy", kernels="numpy")


def test_pixels_get_one_hint_at_the_callers_line():
    net, pixels = model(), np.arange(72, dtype=np.uint8).reshape(12, 6)
    with pytest.warns(UserWarning, match=r"integers up to 71.*divide by 255, or.*Rescaling") as caught:
        net.fit(pixels, Y, verbose=0)
    assert [warning.filename for warning in caught] == [__file__]
    net.fit(pixels / 255, Y, verbose=0)
    net.fit(pixels > 7, Y, verbose=0)
    scaled = Sequential([Rescaling(1 / 255, input_shape=(6,)), Dense(3)])
    scaled.compile(loss="mse", kernels="numpy")
    scaled.fit(pixels, Y, verbose=0)


# --- arguments of layers, losses, optimizers


@pytest.mark.parametrize(
    "call",
    [
        lambda: Dense(0), lambda: Dense(-3), lambda: Dense(2.5), lambda: Dense("3"), lambda: Dense(True),
        lambda: Dense(3, input_shape=3), lambda: Dense(3, input_shape=()), lambda: Dense(3, input_shape=(0,)),
        lambda: Dense(3, input_shape=(2.5,)), lambda: Dense(3, input_dim=0), lambda: npnet.Input((-1,)),
        lambda: Dropout(1), lambda: Dropout(-0.1), lambda: Dropout(float("nan")),
        lambda: BatchNormalization(momentum=2), lambda: BatchNormalization(axis=0),
        lambda: CategoricalCrossentropy(label_smoothing=2), lambda: CategoricalCrossentropy(reduction="men"),
        lambda: SGD(-1), lambda: SGD(float("nan")), lambda: SGD(float("inf")), lambda: SGD(momentum=1),
        lambda: SGD(momentum=-0.1),
        lambda: RMSprop(rho=1.0), lambda: RMSprop(epsilon=0), lambda: Adam(beta_1=1),
        lambda: Adam(clipnorm=0), lambda: Adam(clipnorm=1, clipvalue=1), lambda: AdamW(weight_decay=-1),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_refused_at_once(call):
    with pytest.raises(ValueError, match=r"must|Unknown|Only one"):
        call()


@pytest.mark.parametrize("value", ["fast", None, [1]])
def test_a_learning_rate_is_a_number(value):
    with pytest.raises(TypeError, match="learning_rate must be a number"):
        SGD(value)


class Frame:
    """What npnet looks at in a data frame."""

    def __init__(self, **columns):
        self.columns, self.values = list(columns), list(columns.values())
        self.dtypes = [column.dtype for column in self.values]
        self.shape = len(self.values[0]), len(self.values)

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return np.stack([column.astype(object) for column in self.values], axis=1)

    def to_numpy(self, dtype, na_value):
        return np.stack([column.astype(dtype) for column in self.values], axis=1)


def test_columns_of_a_data_frame_may_be_numbers_of_several_kinds():
    columns = {"age": np.array([30, 41]), "rent": np.array([9.5, 7.0]), "owns": np.array([True, False])}
    numbers = checks.array("x", Frame(**columns))
    np.testing.assert_array_equal(numbers, [[30, 9.5, 1], [41, 7, 0]])
    assert numbers.dtype == np.float64
    with pytest.raises(TypeError, match="got 1 of 4 columns of other dtypes, the first of them 'city'"):
        checks.array("x", Frame(**columns, city=np.array(["Rome", "Bari"])))
    another = Frame(**columns)  # of a library whose dtypes say nothing of their kind
    another.dtypes = ["Int64", "Float64", "Boolean"]
    with pytest.raises(TypeError, match=r"x must hold numbers .* got dtype object"):
        checks.array("x", another)
