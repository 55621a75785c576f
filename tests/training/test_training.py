"""compile, fit, evaluate, predict: what Keras's users expect of them."""

import random
import textwrap

import numpy as np
import pytest

import npnet
from npnet import Sequential, losses, metrics
from npnet.activations import Softmax
from npnet.callbacks import LambdaCallback
from npnet.layers import BatchNormalization, Dense, Dropout
from npnet.optimizers import SGD, Adam, RMSprop
from npnet.training import step

RNG = np.random.default_rng(7)
X = RNG.normal(size=(23, 6)).astype("f4")
LABELS = RNG.integers(0, 3, 23)
Y = np.eye(3)[LABELS]
WEIGHT = RNG.uniform(0.5, 2, 23)


def model(*, loss="categorical_crossentropy", optimizer="rmsprop", seed=1, dtype="float32", **options):
    result = Sequential([Dense(7, "relu", input_shape=(6,)), Dense(3, "softmax")], seed=seed, dtype=dtype)
    result.compile(optimizer, loss, **{"metrics": ["accuracy"], "kernels": "numpy", **options})
    return result


def frozen_model(**options):
    """Training with learning rate 0 reports the same numbers as evaluating."""
    return model(optimizer=SGD(0.0), dtype="float64", **options)


def cross_entropies(net, x, y):
    return -np.log((net.predict(x, verbose=0) * y).sum(axis=1))


def bits(net):
    return b"".join(w.tobytes() for w in net.get_weights())


# --- the tutorial


def test_the_tutorials_program_as_written(monkeypatch, capsys):
    program = """
    (x_train, y_train), (x_test, y_test) = npnet.datasets.cifar10.load_data()
    y_train = npnet.utils.to_categorical(y_train, 10); y_test = npnet.utils.to_categorical(y_test, 10)
    x_train = np.reshape(x_train, (80, 3072)) / 255; x_test = np.reshape(x_test, (40, 3072)) / 255
    from npnet.models import Sequential; from npnet.layers import Dense
    model = Sequential()
    model.add(Dense(units=512, activation="relu", input_shape=(3072,)))
    model.add(Dense(units=512, activation="relu"))
    model.add(Dense(units=10, activation="softmax"))
    model.summary()
    model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, epochs=2, verbose=1, validation_data=(x_test, y_test))
    """
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for n in (80, 40)]
    labels = [rng.integers(0, 10, (n, 1), np.uint8) for n in (80, 40)]
    monkeypatch.setattr(npnet.datasets.cifar10, "load_data", lambda: tuple(zip(images, labels, strict=True)))
    names = {"np": np, "npnet": npnet}
    exec(textwrap.dedent(program), names)
    history = names["history"]
    assert list(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert history.epoch == [0, 1]
    assert history.params == {"verbose": 1, "epochs": 2, "steps": 3}
    assert all(np.isfinite(values).all() and len(values) == 2 for values in history.history.values())
    assert history.model is names["model"]
    assert names["model"].history is history
    assert type(names["model"].optimizer) is RMSprop
    shown = capsys.readouterr().out
    assert "Total params: 1,841,162 (7.02 MB)" in shown
    line = shown.splitlines()[-1]
    assert line.startswith("Epoch 2/2 - 3/3 - ")
    expected = " - ".join(f"{name}: {values[-1]:.4f}" for name, values in history.history.items())
    assert line.endswith(f"/step - {expected}")


# --- one epoch, by hand


def test_an_epoch_is_the_textbook_written_out(kernels):
    net = model(optimizer=RMSprop(0.01), dtype="float64", kernels=kernels)
    w1, b1, w2, b2 = net.get_weights()
    memory = [np.zeros_like(w) for w in (w1, b1, w2, b2)]
    total = 0.0
    for start in range(0, 23, 5):
        x, t = X[start : start + 5].astype("f8"), Y[start : start + 5]
        h = np.maximum(x @ w1 + b1, 0)
        e = np.exp(h @ w2 + b2)
        p = e / e.sum(axis=1, keepdims=True)
        total -= np.log((p * t).sum(axis=1)).sum()
        dz = (p - t) / len(x)
        dh = dz @ w2.T * (h > 0)
        gradients = [x.T @ dh, dh.sum(0), h.T @ dz, dz.sum(0)]
        for w, g, v in zip((w1, b1, w2, b2), gradients, memory, strict=True):
            v[...] = 0.9 * v + 0.1 * g * g
            w -= 0.01 * g / np.sqrt(v + 1e-7)
    history = net.fit(X, Y, batch_size=5, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(total / 23, rel=1e-12), "the short last batch counts as short"
    for ours, theirs in zip(net.get_weights(), (w1, b1, w2, b2), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    assert net.optimizer.iterations == 5


# --- batches and means


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 1000])
def test_means_are_over_samples_whatever_the_batches(batch_size):
    net = frozen_model()
    loss = cross_entropies(net, X, Y).mean()
    accuracy = (net.predict(X, verbose=0).argmax(1) == LABELS).mean()
    history = net.fit(X, Y, batch_size=batch_size, verbose=0, validation_data=(X[:9], Y[:9])).history
    assert history["loss"] == [pytest.approx(loss, rel=1e-12)]
    assert history["accuracy"] == [pytest.approx(accuracy, rel=1e-12)]
    assert history["val_loss"] == [pytest.approx(cross_entropies(net, X[:9], Y[:9]).mean(), rel=1e-12)]
    assert net.evaluate(X, Y, batch_size=batch_size, verbose=0) == pytest.approx([loss, accuracy], rel=1e-12)
    assert history["loss"][0].__class__ is float


def test_every_batch_is_seen_and_the_last_is_short():
    sizes, reported = [], []

    class Recording(losses.MeanSquaredError):
        def values(self, y_true, y_pred):
            sizes.append(len(y_true))
            return super().values(y_true, y_pred)

    net = model(loss=Recording())
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: reported.append(batch))
    net.fit(
        X, Y, batch_size=10, verbose=0, callbacks=[watch], validation_data=(X, Y), validation_batch_size=20
    )
    assert sizes == [10, 10, 3, 20, 3]
    assert reported == [0, 1, 2]
    assert net.history.params["steps"] == 3
    sizes.clear()
    for n in (32, 33):
        net.fit(np.resize(X, (n, 6)), np.resize(Y, (n, 3)), verbose=0)
    assert sizes == [32, 32, 1], "batch_size is 32 by default"


@pytest.mark.parametrize(("n", "steps"), [(20, 2), (21, 3)])
def test_whoever_watches_is_told_how_many_batches_come(n, steps, capsys):
    told, watch = [], npnet.callbacks.Callback()
    watch.on_test_begin = watch.on_predict_begin = lambda logs: told.append(watch.params["steps"])
    net = model()
    net.fit(X, Y, verbose=0)
    net.evaluate(X[:n], Y[:n], batch_size=10, callbacks=[watch], verbose=2)
    net.predict(X[:n], batch_size=10, callbacks=[watch], verbose=2)
    assert told == [steps] * 2
    assert capsys.readouterr().out.count(f"{steps}/{steps}") == 2


def seen_rows(net, **options):
    """Return the number of the row at each place of training, epoch by epoch."""
    rows = []

    class Recording(losses.MeanSquaredError):
        def values(self, y_true, y_pred):
            rows.append(y_true[:, 0].astype(int).tolist())
            return super().values(y_true, y_pred)

    numbers = np.repeat(np.arange(23)[:, None], 3, axis=1)
    net.compile("sgd", Recording(), kernels="numpy")
    net.fit(X, numbers, batch_size=23, verbose=0, **options)
    return rows


def test_shuffling_depends_on_seed_and_epoch_alone():
    first, second, third = seen_rows(model(seed=1), epochs=3)
    assert sorted(first) == sorted(second) == list(range(23))
    assert len({tuple(first), tuple(second), tuple(third), tuple(range(23))}) == 4
    assert seen_rows(model(seed=1), epochs=3, initial_epoch=1) == [second, third]
    assert seen_rows(model(seed=2))[0] != first
    assert seen_rows(model(seed=1), shuffle=False, epochs=2) == [list(range(23))] * 2


def test_validation_split_is_the_tail_before_shuffling():
    rows = seen_rows(model(), validation_split=0.3)
    kept = int(np.floor(23 * 0.7))
    assert sorted(rows[0]) == list(range(kept))
    assert rows[1] == list(range(kept, 23)), "validation is not shuffled"


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, 1e-18, 0.999, float("nan"), True, "a"])
def test_wrong_validation_splits_are_refused(share):
    with pytest.raises((ValueError, TypeError), match="validation_split"):
        model().fit(X, Y, validation_split=share, verbose=0)


def test_validation_data_goes_before_validation_split_as_in_keras():
    rows = seen_rows(model(), validation_split=0.3, validation_data=(X[:2], np.ones((2, 3))))
    assert len(rows[0]) == 23
    assert rows[1] == [1, 1]


@pytest.mark.parametrize(
    ("frequency", "epochs"),
    [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (3, [3]), ([1, 4], [1, 4]), ({5}, [5]), (9, [])],
)
def test_validation_freq(frequency, epochs):
    validated = []
    watch = LambdaCallback(
        on_epoch_end=lambda epoch, logs: validated.append(epoch + 1) if "val_loss" in logs else None
    )
    history = model().fit(
        X, Y, epochs=5, verbose=0, validation_data=(X, Y), validation_freq=frequency, callbacks=[watch]
    )
    assert validated == epochs
    assert len(history.history.get("val_loss", [])) == len(epochs)


def test_validation_has_no_dropout_and_does_not_learn():
    net = Sequential([Dense(50, input_shape=(6,)), Dropout(0.5), BatchNormalization(), Dense(3, "softmax")])
    net.compile(SGD(0.0), "categorical_crossentropy", kernels="numpy")
    net.fit(X, Y, verbose=0)
    before, state = bits(net), net.layers[1].rng.bit_generator.state
    history = net.fit(X, Y, verbose=0, validation_data=(X, Y)).history
    during = net.evaluate(X, Y, verbose=0)
    assert history["val_loss"] == [during]
    assert history["val_loss"] != history["loss"]
    assert bits(net) != before, "training moves the averages of BatchNormalization"
    before, state = bits(net), net.layers[1].rng.bit_generator.state
    net.evaluate(X, Y, verbose=0)
    net.predict(X, verbose=0)
    net.test_on_batch(X, Y)
    assert bits(net) == before
    assert net.layers[1].rng.bit_generator.state == state


# --- weights of samples


def test_sample_weight_multiplies_and_divides_by_the_number_of_samples():
    net = frozen_model(metrics=["acc"], weighted_metrics=["categorical_accuracy"])
    values = cross_entropies(net, X, Y)
    right = net.predict(X, verbose=0).argmax(1) == LABELS
    expected = {
        "acc": right.mean(),
        "categorical_accuracy": np.average(right, weights=WEIGHT),
        "loss": (WEIGHT * values).sum() / 23,
    }
    history = net.fit(
        X, Y, batch_size=4, sample_weight=WEIGHT, verbose=0, validation_data=(X, Y, WEIGHT)
    ).history
    for name, value in expected.items():
        assert history[name] == [pytest.approx(value, rel=1e-12)]
        assert history[f"val_{name}"] == [pytest.approx(value, rel=1e-12)]
    got = net.evaluate(X, Y, sample_weight=WEIGHT[:, None], batch_size=6, verbose=0, return_dict=True)
    assert got == pytest.approx(expected, rel=1e-12)
    assert net.test_on_batch(X, Y, WEIGHT, return_dict=True) == pytest.approx(expected, rel=1e-12)
    assert net.train_on_batch(X, Y, WEIGHT, return_dict=True) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["one-hot", "labels", "column"])
def test_class_weight_is_a_sample_weight_by_class(kind):
    y = {"one-hot": Y, "labels": LABELS, "column": LABELS[:, None]}[kind]
    loss = "categorical_crossentropy" if kind == "one-hot" else "sparse_categorical_crossentropy"
    by_class, by_sample = model(loss=loss), model(loss=loss)
    by_class.fit(X, y, class_weight={0: 2.0, 2: 0.25}, verbose=0, epochs=2, batch_size=5)
    by_sample.fit(X, y, sample_weight=np.array([2, 1, 0.25])[LABELS], verbose=0, epochs=2, batch_size=5)
    assert bits(by_class) == bits(by_sample)
    plain = model(loss=loss)
    plain.fit(X, y, verbose=0, epochs=2, batch_size=5)
    assert bits(plain) != bits(by_class)


@pytest.mark.parametrize("filters", [1, 2])
def test_class_weight_of_pictures_is_refused(filters):
    """A picture has no one class; a weight of pixels would go to other samples."""
    x = np.random.default_rng(0).random((6, 4, 4, 1))
    net = npnet.Sequential([npnet.layers.Conv2D(filters, 1, activation="sigmoid", input_shape=(4, 4, 1))])
    net.compile("sgd", "binary_crossentropy")
    y = np.repeat((x > 0.5) * 1.0, filters, axis=-1)
    before = net.get_weights()
    for call in (net.fit, net.train_on_batch):
        with pytest.raises(ValueError, match=r"one class that each has.*Give sample_weight"):
            call(x, y, class_weight={0: 1.0, 1: 10.0})
    assert all(map(np.array_equal, before, net.get_weights()))


def test_class_weight_does_not_weigh_validation():
    net = frozen_model()
    history = net.fit(X, Y, class_weight={0: 50.0}, validation_split=0.4, verbose=0).history
    assert history["val_loss"] == [pytest.approx(cross_entropies(net, X[13:], Y[13:]).mean(), rel=1e-12)]


def test_sample_weight_is_split_with_the_samples():
    net = frozen_model()
    history = net.fit(X, Y, sample_weight=WEIGHT, validation_split=0.4, verbose=0).history
    values = WEIGHT * cross_entropies(net, X, Y)
    assert history["loss"] == [pytest.approx(values[:13].mean(), rel=1e-12)]
    assert history["val_loss"] == [pytest.approx(values[13:].mean(), rel=1e-12)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sample_weight": WEIGHT, "class_weight": {0: 1}}, ValueError, "not both"),
        ({"class_weight": {3: 1.0}}, ValueError, "label 3; labels are 0..2"),
        ({"class_weight": {"a": 1.0}}, ValueError, "label 'a'"),
        (
            {"class_weight": {0: -1.0}},
            ValueError,
            r"class_weight\[0\] must be finite and at least 0, got -1.0",
        ),
        ({"class_weight": {0: float("nan")}}, ValueError, r"class_weight\[0\]"),
        ({"class_weight": {0: None}}, TypeError, r"class_weight\[0\] must be a number, got None"),
        ({"class_weight": [1, 2, 3]}, TypeError, "must be a dict"),
        ({"sample_weight": WEIGHT[:-1]}, ValueError, r"sample_weight.*shape \(23,\), got \(22,\)"),
        ({"sample_weight": np.ones((23, 2))}, ValueError, r"sample_weight.*\(23, 2\)"),
        ({"sample_weight": -WEIGHT}, ValueError, "sample_weight must not be negative"),
        ({"sample_weight": np.where(WEIGHT > 1, np.nan, 1)}, ValueError, "sample_weight must be finite"),
        ({"validation_data": X}, ValueError, r"validation_data must be \(x, y\)"),
        ({"validation_data": (X,)}, ValueError, r"validation_data must be \(x, y\)"),
        ({"validation_data": (X[:, :5], Y)}, ValueError, r"expects \(batch, 6\), got \(23, 5\)"),
        ({"validation_data": (X, Y[:5])}, ValueError, "validation x and validation y.*23 and 5"),
        ({"validation_data": (X, Y, WEIGHT[:5])}, ValueError, "validation sample_weight"),
    ],
)
def test_wrong_weights_and_validation_change_nothing(arguments, error, message):
    net = model()
    before = bits(net)
    with pytest.raises(error, match=message):
        net.fit(X, Y, verbose=0, **arguments)
    assert bits(net) == before
    assert net.optimizer.iterations == 0


# --- what comes back


def test_return_forms():
    alone, two = model(metrics=None), model(metrics=["accuracy", "top_k_categorical_accuracy"])
    for call in (
        lambda net, **o: net.evaluate(X, Y, verbose=0, **o),
        lambda net, **o: net.test_on_batch(X, Y, **o),
        lambda net, **o: net.train_on_batch(X, Y, **o),
    ):
        assert type(call(alone)) is float
        assert list(call(alone, return_dict=True)) == ["loss"]
        values = call(two)
        assert [type(v) for v in values] == [float] * 3
        named = call(two, return_dict=True)
        assert set(named) == {"loss", "accuracy", "top_k_categorical_accuracy"}
    values, named = two.evaluate(X, Y, verbose=0), two.evaluate(X, Y, verbose=0, return_dict=True)
    assert values == [named["loss"], named["accuracy"], named["top_k_categorical_accuracy"]]
    predicted = two.predict(X, batch_size=4, verbose=0)
    assert predicted.shape == (23, 3)
    np.testing.assert_allclose(predicted, two(X), rtol=1e-5)
    np.testing.assert_array_equal(two.predict_on_batch(X), two(X))


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("categorical_crossentropy", Y),
        ("sparse_categorical_crossentropy", LABELS),
        ("sparse_categorical_crossentropy", LABELS[:, None]),
        ("mse", Y),
    ],
)
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_one_batch_that_nobody_watches_is_evaluated_as_the_loop_does(loss, y, weight):
    net = Sequential([Dense(7, "relu", kernel_regularizer="l2", input_shape=(6,)), Dense(3, "softmax")])
    net.compile(loss=loss, metrics=["mae", "acc"] if y is Y else ["acc"], weighted_metrics=["accuracy"])
    watched = net.evaluate(X, y, sample_weight=weight, verbose=0, callbacks=[LambdaCallback()])
    alone = net.evaluate(X, y, sample_weight=weight, verbose=0)
    assert [number.hex() for number in alone] == [number.hex() for number in watched]
    assert net.test_on_batch(X, y, weight) == watched
    named = net.evaluate(X, y, sample_weight=weight, verbose=0, return_dict=True)
    assert [named[name] for name in net.metrics_names] == watched


def test_train_on_batch_takes_the_step_of_fit():
    one, other = model(), model()
    first = one.train_on_batch(X, Y)
    assert first == other.evaluate(X, Y, batch_size=23, verbose=0), "loss and metrics from before the step"
    other.fit(X, Y, batch_size=23, shuffle=False, verbose=0)
    assert bits(one) == bits(other)
    assert one.optimizer.iterations == 1


def test_what_predict_returns_belongs_to_the_user():
    net = model()
    first = net.predict(X, verbose=0)
    kept = first.copy()
    first[...] = 0
    np.testing.assert_array_equal(net.predict(X, verbose=0), kept)
    second = net.predict(X, verbose=0)
    net.predict(-X, verbose=0)
    np.testing.assert_array_equal(second, kept)


@pytest.mark.parametrize("x", [X[:1], X[:0], X[:1].astype(int), X, np.full((2, 6), np.nan), X[0], X[:, :2]])
def test_a_prediction_that_nobody_watches_is_the_same(x):
    net, results = model(), []
    for options in ({}, {"batch_size": 32}, {"callbacks": [LambdaCallback()]}):
        try:
            y = net.predict(x, verbose=0, **options)
            results.append((y.shape, y.dtype, y.tobytes()))
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", ["accuracy", "acc"])
@pytest.mark.parametrize(
    ("loss", "units", "y", "kind"),
    [
        ("categorical_crossentropy", 3, Y, metrics.CategoricalAccuracy),
        ("sparse_categorical_crossentropy", 3, LABELS, metrics.SparseCategoricalAccuracy),
        ("sparse_categorical_crossentropy", 3, LABELS[:, None], metrics.SparseCategoricalAccuracy),
        ("binary_crossentropy", 1, LABELS[:, None] > 0, metrics.BinaryAccuracy),
        ("binary_crossentropy", 1, LABELS > 0, metrics.BinaryAccuracy),
    ],
)
def test_accuracy_means_what_the_shapes_say(name, loss, units, y, kind):
    net = Sequential([Dense(units, "sigmoid" if units == 1 else "softmax", input_shape=(6,))], seed=1)
    net.compile(loss=loss, metrics=[name], kernels="numpy")
    predicted = net.predict(X, verbose=0)
    right = (predicted[:, 0] > 0.5) == np.ravel(y) if units == 1 else predicted.argmax(1) == LABELS
    assert net.evaluate(X, y, verbose=0, return_dict=True)[name] == pytest.approx(right.mean())
    assert set(net.fit(X, y, verbose=0, validation_data=(X, y)).history) == {
        name,
        f"val_{name}",
        "loss",
        "val_loss",
    }


def test_every_fit_begins_where_it_was_told():
    net, begun = model(), []
    watch = LambdaCallback(on_train_batch_begin=lambda batch, logs: begun.append(net.position[:2]))
    for options in ({"epochs": 2}, {"epochs": 1}, {"epochs": 5, "initial_epoch": 4}):
        net.fit(X, Y, batch_size=1000, verbose=0, callbacks=[watch], **options)
    assert begun == [(0, 0), (1, 0), (0, 0), (4, 0)]


def test_no_epochs_are_an_empty_history_as_in_keras():
    net, calls = model(), []
    watch = LambdaCallback(on_train_begin=lambda logs: calls.append("begin"), on_train_end=calls.append)
    before = net.get_weights()
    history = net.fit(X, Y, epochs=0, verbose=1, callbacks=watch, validation_data=(X, Y))
    assert (history.history, history.epoch, calls) == ({}, [], ["begin", {}])
    assert all((a == b).all() for a, b in zip(before, net.get_weights(), strict=True))
    assert "0 epochs" in history._repr_html_()


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_no_rows_have_no_outputs_as_in_keras(kernels, verbose, monkeypatch):
    monkeypatch.setattr("npnet.internal.progress.is_watched", lambda stream: True)
    net = model(kernels=kernels)
    for predict in (net.predict, net.predict_on_batch):
        options = {"verbose": verbose} if predict == net.predict else {}
        y = predict(X[:0], **options)
        assert (y.shape, y.dtype) == ((0, *net.output_shape), np.float32)
    with pytest.raises(ValueError, match="x holds no samples"):
        net.evaluate(X[:0], Y[:0], verbose=0)
    with pytest.raises(ValueError, match="expects"):
        net.predict(np.zeros((0, 99)))


def test_initial_epoch_goes_on_counting():
    net = model()
    history = net.fit(X, Y, epochs=5, initial_epoch=3, verbose=0)
    assert history.epoch == [3, 4]
    assert net.fit(X, Y, epochs=2, initial_epoch=2, verbose=0).epoch == []
    assert net.fit(X, Y, epochs=1, verbose=0).epoch == [0], "each fit has a History of its own"
    assert history.epoch == [3, 4]


# --- the same seed, the same bits


def deep(seed=3, kernels="numpy"):
    net = Sequential(
        [Dense(9, "relu", input_shape=(6,)), Dropout(0.4), BatchNormalization(), Dense(3, "softmax")],
        seed=seed,
    )
    net.compile("adam", "categorical_crossentropy", metrics=["accuracy"], kernels=kernels)
    return net


def test_the_same_seed_gives_the_same_bits_and_global_generators_are_left_alone(kernels):
    np.random.seed(5)  # noqa: NPY002 (the global generator is what this is about)
    random.seed(5)
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    one, other = deep(kernels=kernels), deep(kernels=kernels)
    histories = [net.fit(X, Y, epochs=3, batch_size=5, verbose=0).history for net in (one, other)]
    assert bits(one) == bits(other)
    assert histories[0] == histories[1]
    assert bits(deep(4)) != bits(deep(3))
    after = np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert (before[0] == after[0]).all()
    assert before[1] == after[1]


def test_a_run_in_pieces_is_the_unbroken_run(kernels):
    whole, pieces = deep(kernels=kernels), deep(kernels=kernels)
    history = whole.fit(X, Y, epochs=4, batch_size=5, verbose=0).history
    first = pieces.fit(X, Y, epochs=1, batch_size=5, verbose=0).history
    pieces.predict(X, verbose=0)
    rest = pieces.fit(X, Y, epochs=4, initial_epoch=1, batch_size=5, verbose=0).history
    assert bits(whole) == bits(pieces)
    assert history == {name: first[name] + rest[name] for name in history}


def test_watching_does_not_change_training(capsys, kernels):
    quiet, watched = deep(kernels=kernels), deep(kernels=kernels)
    quiet.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    look = LambdaCallback(on_train_batch_end=lambda batch, logs: watched.predict(X, verbose=0))
    watched.fit(X, Y, epochs=2, batch_size=5, verbose=2, callbacks=[look], validation_data=(X, Y))
    assert bits(quiet) == bits(watched)


def test_callbacks_may_look_at_and_change_everything_between_steps(kernels, tmp_path):
    """Fused or not, whoever asks sees the weights of the present step, and what is set is what trains on."""

    def meddle(net, batch):
        if batch == 1:
            net.set_weights([w * 0.5 for w in net.get_weights()])
        elif batch == 2:
            net.optimizer.learning_rate = 0.05
        elif batch == 3:
            net.layers[0].trainable = not net.layers[0].trainable
        elif batch == 4:
            net.save(tmp_path / "m")
            net.load_weights(tmp_path / "m")
        return [w.copy() for w in net.get_weights()]

    seen = []
    for fused in (True, False):
        net, weights = model(kernels=kernels, fused=fused, dtype="float64", optimizer="adam"), []
        watch = LambdaCallback(
            on_train_batch_end=lambda batch, logs, net=net, weights=weights: weights.append(
                meddle(net, batch)
            )
        )
        net.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[watch], validation_data=(X, Y))
        assert bits(net) == b"".join(w.tobytes() for w in weights[-1])
        seen.append(weights)
    for fused, plain in zip(*seen, strict=True):
        for ours, theirs in zip(fused, plain, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_set_random_seed_fixes_models_without_a_seed(monkeypatch):
    def fresh():
        return Sequential([Dense(4, input_shape=(3,))])

    assert bits(fresh()) != bits(fresh())
    monkeypatch.setattr("npnet.utils.seeds._default_seed", None)
    npnet.utils.set_random_seed(11)
    first, second = bits(fresh()), bits(fresh())
    assert first == bits(Sequential([Dense(4, input_shape=(3,))], seed=11))
    assert first != second  # the members of an ensemble differ
    npnet.utils.set_random_seed(11)
    assert [bits(fresh()), bits(fresh())] == [first, second]


def test_fused_and_plain_agree_and_so_do_the_kernel_sets():
    runs = [
        model(kernels=k, fused=f, dtype="float64", optimizer="adam")
        for k, f in (("numpy", True), ("numpy", False), ("numba", True), ("numba", False))
    ]
    for net in runs:
        net.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    for net in runs[1:]:
        for ours, theirs in zip(net.get_weights(), runs[0].get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


# --- frozen layers, compiling again


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_layers_stay_and_the_rest_learns(frozen):
    def make(trainable=True):
        net = Sequential([Dense(5, "tanh", input_shape=(6,)), Dense(4, "tanh"), Dense(3)], seed=2)
        net.layers[frozen].trainable = trainable
        net.compile(Adam(0.01, weight_decay=0.1), "mse", kernels="numpy")
        return net

    free, partly = make(), make(trainable=False)
    before = partly.get_weights()
    free.train_on_batch(X, Y)
    partly.train_on_batch(X, Y)
    for i, (old, new, other) in enumerate(zip(before, partly.get_weights(), free.get_weights(), strict=True)):
        if i // 2 == frozen:
            np.testing.assert_array_equal(old, new)
        else:
            np.testing.assert_array_equal(new, other)
            assert (old != new).any()


def test_freezing_between_two_fits_takes_effect(kernels):
    net = model(kernels=kernels)
    net.fit(X, Y, verbose=0)
    before = net.get_weights()
    net.layers[0].trainable = False
    net.fit(X, Y, verbose=0)
    after = net.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[2] != after[2]).any()


def test_a_frozen_batch_normalization_keeps_its_averages():
    net = Sequential([BatchNormalization(input_shape=(6,), trainable=False), Dense(3)], seed=1)
    net.compile("sgd", "mse", kernels="numpy")
    before = net.layers[0].get_weights()
    net.fit(X, Y, verbose=0)
    for old, new in zip(before, net.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nothing_to_train_is_said():
    net = Sequential([Dense(3, input_shape=(6,), trainable=False)])
    net.compile(loss="mse", kernels="numpy")
    with pytest.raises(RuntimeError, match="nothing to train"):
        net.fit(X, Y, verbose=0)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_compiling_again_starts_with_a_fresh_optimizer(optimizer):
    used, fresh = model(optimizer="adam"), model(optimizer=optimizer)
    used.fit(X, Y, epochs=3, verbose=0)
    fresh.set_weights(used.get_weights())
    used.compile(optimizer, "categorical_crossentropy", kernels="numpy")
    for net in (used, fresh):
        net.train_on_batch(X, Y)
    assert bits(used) == bits(fresh)


def test_compiling_again_with_the_same_optimizer_object_goes_on():
    unbroken, again = model(optimizer="adam"), model(optimizer="adam")
    unbroken.fit(X, Y, epochs=4, verbose=0)
    again.fit(X, Y, epochs=2, verbose=0)
    again.compile(again.optimizer, "categorical_crossentropy", kernels="numpy")
    again.fit(X, Y, epochs=4, initial_epoch=2, verbose=0)
    assert bits(unbroken) == bits(again)


def test_a_refused_compile_leaves_the_old_one():
    net = model()
    with pytest.raises(ValueError, match="Unknown metric"):
        net.compile("sgd", "mse", metrics=["acuracy"], kernels="numpy")
    assert type(net.optimizer) is RMSprop
    assert type(net.loss) is losses.CategoricalCrossentropy
    net.fit(X, Y, verbose=0)


# --- someone's own parts


def test_a_loss_and_a_metric_of_ones_own():
    class Cubic(losses.Loss):
        def values(self, y_true, y_pred):
            return (np.abs(y_pred - y_true) ** 3).mean(axis=-1)

        def gradient(self, y_true, y_pred):
            difference = y_pred - y_true
            return 3 * difference * np.abs(difference) / difference.shape[-1]

    class Largest(metrics.Metric):
        key = "largest"

        def values(self, y_true, y_pred):
            return y_pred.max(axis=-1)

    net = model(loss=Cubic(), metrics=[Largest(), "mse"], dtype="float64")
    history = net.fit(X, Y, epochs=30, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert list(history) == ["largest", "loss", "mse"]
    assert npnet.check_gradients(net, X[:5], Y[:5], verbose=False).passed


def test_a_focal_loss_derived_from_cross_entropy_gets_its_own_gradient():
    class Focal(losses.CategoricalCrossentropy):
        def values(self, y_true, y_pred):
            return -(y_true * (1 - y_pred) ** 2 * np.log(y_pred)).sum(axis=-1)

        def gradient(self, y_true, y_pred):
            miss = 1 - y_pred
            return y_true * (2 * miss * np.log(y_pred) - miss**2 / y_pred)

    net = model(loss=Focal(), dtype="float64")
    assert not step.joined(net, net.loss)
    assert npnet.check_gradients(net, X[:5], Y[:5], verbose=False).passed


def test_a_softmax_of_ones_own_is_not_taken_for_the_plain_one():
    class Warm(Softmax):
        def forward(self, x, training=False):
            return super().forward(x / 2, training)

        def backward(self, dy):
            return super().backward(dy) / 2

    net = Sequential([Dense(3, Warm(), input_shape=(6,))], seed=1, dtype="float64")
    net.compile("sgd", "categorical_crossentropy", kernels="numpy")
    assert npnet.check_gradients(net, X[:5], Y[:5], verbose=False).passed


def test_a_confident_mistake_still_learns():
    net = Sequential([Dense(3, "softmax", input_shape=(2,))], seed=1)
    net.compile(SGD(1.0), "categorical_crossentropy", kernels="numpy")
    net.set_weights([np.array([[500.0, 0, 0], [0, 0, 0]]), np.zeros(3)])
    x, y = np.array([[1.0, 0]]), np.array([[0, 1.0, 0]])
    loss = net.train_on_batch(x, y)
    assert loss == pytest.approx(-np.log(1e-7), rel=1e-5)
    np.testing.assert_allclose(net.get_weights()[1], [-1, 1, 0], atol=1e-6)


def test_regularizers_are_part_of_every_reported_loss():
    net = Sequential([Dense(3, input_shape=(6,), kernel_regularizer="l2")], seed=1, dtype="float64")
    net.compile(SGD(0.0), "mse", kernels="numpy")
    penalty = 0.01 * (net.get_weights()[0] ** 2).sum()
    expected = ((net.predict(X, verbose=0) - Y) ** 2).mean() + penalty
    assert net.fit(X, Y, batch_size=4, verbose=0).history["loss"] == [pytest.approx(expected, rel=1e-12)]
    assert net.evaluate(X, Y, batch_size=4, verbose=0) == pytest.approx(expected, rel=1e-12)
    assert net.test_on_batch(X, Y) == pytest.approx(expected, rel=1e-12)


def test_a_small_network_learns(kernels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    net = Sequential([Dense(16, "relu", input_shape=(2,)), Dense(2, "softmax")], seed=1)
    net.compile(Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"], kernels=kernels)
    history = net.fit(x, y, epochs=40, verbose=0).history
    assert history["accuracy"][-1] > 0.95
