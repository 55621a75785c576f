"""What holds for every network, batch and array, tried on shapes, layouts and mixtures nobody thought of."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import npnet
from npnet import Sequential, losses, optimizers, schedules
from npnet.kernels import parallel, reference
from npnet.layers import BatchNormalization, Dense, Dropout, Flatten, ReLU, Rescaling
from npnet.models import load_model

SMALL = st.integers(0, 70)
DTYPES = st.sampled_from([np.float32, np.float64])
SEEDS = st.integers(0, 2**32)
ACTIVATIONS = st.sampled_from([None, "relu", "elu", "selu", "sigmoid", "tanh", "softplus", "silu", "gelu"])


def laid_out(x, how):
    """The same numbers, otherwise in memory."""
    match how:
        case "C":
            return x
        case "Fortran":
            return np.asfortranarray(x)
        case "reversed":
            return np.flip(np.flip(x).copy())
        case "strided":
            wide = np.repeat(np.repeat(x, 2, axis=0), 3, axis=-1)
            return wide[::2, ..., ::3]
        case "big-endian":
            return x.astype(x.dtype.newbyteorder(">"))
        case "read-only":
            x = x.copy()
            x.setflags(write=False)
            return x


LAYOUTS = st.sampled_from(["C", "Fortran", "reversed", "strided", "big-endian", "read-only"])
NATIVE = LAYOUTS.filter(lambda how: how != "big-endian")


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory):
    global PLACE
    PLACE = tmp_path_factory.mktemp("models")


# --- kernels -----------------------------------------------------------------------------------------------


@given(SMALL, SMALL, SMALL, DTYPES, NATIVE, NATIVE, SEEDS)
def test_products_of_small_integers_are_exact(n, d, m, dtype, layout, other, seed):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((n, d), (d, m), (n, m)))
    x, w, dy = laid_out(x, layout), laid_out(w, other), laid_out(dy, layout)
    np.testing.assert_array_equal(parallel.dense_forward(x, w, None), x @ w)
    np.testing.assert_array_equal(parallel.dense_backward_input(dy, w), dy @ w.T)
    np.testing.assert_array_equal(parallel.dense_backward_parameters(x, dy)[0], x.T @ dy)


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(-700, 700)),
    st.floats(-700, 700),
    st.sampled_from([parallel, reference]),
)
def test_softmax(x, shift, kernels):
    y = kernels.softmax_forward(x)
    assert np.isfinite(y).all() and (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-13)
    np.testing.assert_allclose(kernels.softmax_forward(x + shift), y, rtol=1e-11, atol=1e-300)
    assert (y[np.arange(len(x)), x.argmax(axis=-1)] == y.max(axis=-1)).all()


# --- networks ----------------------------------------------------------------------------------------------


@st.composite
def networks(draw, inputs=None, smooth=False):
    """Make a function that makes the same layers again and again, and give the shape of a sample."""
    shape = draw(st.sampled_from([(1,), (4,), (2, 3), (2, 2, 2)])) if inputs is None else inputs
    head = [lambda: Rescaling(0.5, 0.1)] if draw(st.booleans()) else []
    hidden = []
    for units in draw(st.lists(st.integers(1, 9), max_size=3)):
        activation = draw(ACTIVATIONS.filter(lambda name: not (smooth and name == "relu")))
        bias, regularizer = draw(st.booleans()), draw(st.sampled_from([None, None, "l2"]))
        hidden.append(
            lambda u=units, a=activation, b=bias, r=regularizer: Dense(u, a, use_bias=b, kernel_regularizer=r)
        )
        if draw(st.booleans()):
            hidden.append(draw(st.sampled_from([BatchNormalization, lambda: Dropout(0.3), lambda: ReLU(6)])))
    outputs = draw(st.integers(1, 4))
    loss, last = draw(
        st.sampled_from(
            [("mse", None), ("mae", "tanh"), ("binary_crossentropy", "sigmoid")]
            + [(f"{kind}categorical_crossentropy", "softmax") for kind in ("", "sparse_")] * (outputs > 1)
        )
    )

    def make():
        return [layer() for layer in [*head, Flatten, *hidden]] + [Dense(outputs, last)]

    return make, shape, loss, outputs


def samples(n, shape, loss, outputs, seed):
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((n, *shape)), rng.integers(0, outputs, n)
    if loss.startswith("sparse"):
        return x, labels
    return x, np.eye(outputs)[labels] if "crossentropy" in loss else rng.standard_normal((n, outputs))


OPTIMIZERS = st.sampled_from(
    [
        lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True, clipvalue=1.0),
        lambda: optimizers.SGD(0.01, weight_decay=0.1, global_clipnorm=1.0),
        lambda: optimizers.RMSprop(centered=True, momentum=0.5),
        lambda: optimizers.Adagrad(0.01),
        lambda: optimizers.Adam(schedules.ExponentialDecay(0.01, 5, 0.9), amsgrad=True),
        lambda: optimizers.AdamW(),
    ]
)


def model(network, optimizer="rmsprop", dtype="float64", kernels="numpy", **options):
    make, _, loss, _ = network
    net = Sequential(make(), seed=7, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.compile(optimizer() if callable(optimizer) else optimizer, loss, kernels=kernels, **options)
    return net


def bits(net):
    return [w.tobytes() for w in net.get_weights()]


@given(networks(smooth=True), st.integers(2, 6), SEEDS)
def test_every_gradient_is_right(network, n, seed):
    net = model(network)
    x, y = samples(n, *network[1:], seed)
    net(x)  # so that batch normalisation has seen something
    assume(not any(isinstance(layer, Dropout) for layer in net.layers))
    # Two samples leave batch normalisation almost nothing to pass back: differences then keep few digits.
    assert npnet.check_gradients(net, x, y, tolerance=1e-5, entries=10, verbose=False).passed


@given(networks(), st.integers(1, 20), st.integers(1, 25), OPTIMIZERS, LAYOUTS, LAYOUTS, SEEDS)
def test_layout_and_history_do_not_matter(network, n, batch_size, optimizer, layout, other, seed):
    """Arrays of any layout, saved and loaded in the middle: the bits of the plain run."""
    x, y = samples(n, *network[1:], seed)
    plain = model(network, optimizer)
    history = plain.fit(x, y, batch_size=batch_size, epochs=2, verbose=0).history
    strange_x, strange_y = laid_out(x, layout), laid_out(y, other) if y.ndim > 1 else y
    net = model(network, optimizer)
    first = net.fit(strange_x, strange_y, batch_size=batch_size, epochs=1, verbose=0).history
    np.testing.assert_array_equal(strange_x, x)
    np.testing.assert_array_equal(strange_y, y)
    if all(np.isfinite(w).all() for w in net.get_weights()):
        net.save(PLACE / "m")
        net = load_model(PLACE / "m")
    second = net.fit(
        strange_x, strange_y, batch_size=batch_size, epochs=2, initial_epoch=1, verbose=0
    ).history
    assert bits(net) == bits(plain)
    assert first["loss"] + second["loss"] == history["loss"]


@given(networks(), st.integers(1, 30), st.integers(1, 40), st.integers(1, 40), SEEDS)
def test_batches_do_not_matter_where_nothing_is_learnt(network, n, one, other, seed):
    net = model(network)
    x, y = samples(n, *network[1:], seed)
    net(x)
    losses_seen = [net.evaluate(x, y, batch_size=size, verbose=0) for size in (one, other)]
    np.testing.assert_allclose(*losses_seen, rtol=1e-9)
    outputs = [net.predict(x, batch_size=size, verbose=0) for size in (one, other)]
    np.testing.assert_allclose(*outputs, rtol=1e-9, atol=1e-12)


UNITS = st.integers(1, 70)


@settings(max_examples=settings().max_examples // 10)
@given(st.tuples(UNITS, UNITS), UNITS, UNITS, SEEDS)
def test_fused_training_is_training(units, n, batch_size, seed):
    def make():
        return [Dense(u, "relu") for u in units] + [Dense(5, "softmax")]

    network = make, (19,), "categorical_crossentropy", 5
    x, y = samples(n, *network[1:], seed)
    x = x.astype(np.float32)
    fused, plain = (model(network, "rmsprop", "float32", "numba", fused=fused) for fused in (True, False))
    for net in (fused, plain):
        net.fit(x, y, batch_size=batch_size, epochs=2, verbose=0)
    for ours, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


# --- parts -------------------------------------------------------------------------------------------------

PROBABILITIES = arrays(np.float64, (4, 3), elements=st.floats(1e-6, 1))
KINDS = st.sampled_from(
    [
        losses.CategoricalCrossentropy,
        losses.BinaryCrossentropy,
        losses.MeanSquaredError,
        losses.MeanAbsoluteError,
    ]
)


FOUR_LABELS = st.lists(st.integers(0, 2), min_size=4, max_size=4)
FOUR_WEIGHTS = arrays(np.float64, 4, elements=st.floats(0, 9))


@given(KINDS, PROBABILITIES, FOUR_LABELS, FOUR_WEIGHTS)
def test_losses(kind, y_pred, labels, weight):
    """Not negative, linear in the weights, the mean of one value a sample, one-hot the same as sparse."""
    t = np.eye(3)[labels]
    values = kind(reduction=None)(t, y_pred)
    assert (values >= 0).all()
    assert kind()(t, y_pred) == pytest.approx(values.mean(), rel=1e-12)
    assert kind()(t, y_pred, weight) == pytest.approx((values * weight).mean(), rel=1e-12)
    assert kind(reduction="sum")(t, y_pred, weight) == pytest.approx((values * weight).sum(), rel=1e-12)
    if kind is losses.CategoricalCrossentropy:
        assert losses.SparseCategoricalCrossentropy()(labels, y_pred) == kind()(t, y_pred)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.1, 1000), st.floats(0, 1))
def test_schedules_give_rates(step, rate, steps, share):
    for schedule in (
        schedules.ExponentialDecay(rate, steps, share),
        schedules.ExponentialDecay(rate, steps, share, staircase=True),
        schedules.PiecewiseConstantDecay([steps, 2 * steps], [rate, rate / 2, 0]),
        schedules.CosineDecay(rate, steps, alpha=share),
        schedules.CosineDecay(0.0, steps, warmup_target=rate, warmup_steps=7),
        schedules.OneCycle(rate, 2 + steps),
    ):
        value = schedule(step)
        assert 0 <= value <= max(rate, rate * share) * (1 + 1e-12), schedule


@given(st.lists(st.integers(0, 8), min_size=1, max_size=20), st.integers(9, 12))
def test_one_hot_rows_are_labels(labels, classes):
    rows = npnet.utils.to_categorical(labels, classes)
    assert rows.shape == (len(labels), classes)
    assert rows.argmax(axis=1).tolist() == labels
    assert rows.sum() == len(labels)
