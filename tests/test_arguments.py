"""Arguments that cannot be: refused at once, by name, before anything has changed."""

import re

import numpy as np
import pytest
from small import compiled

import npnet
from npnet import Sequential
from npnet.callbacks import (
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from npnet.layers import ELU, BatchNormalization, Dense, Dropout, Flatten, LeakyReLU, ReLU, Rescaling
from npnet.losses import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from npnet.optimizers import SGD, Adagrad, Adam, RMSprop
from npnet.regularizers import L1L2
from npnet.schedules import CosineDecay, ExponentialDecay, OneCycle, PiecewiseConstantDecay

X = np.random.default_rng(3).normal(size=(12, 6))
LABELS = np.arange(12) % 3
Y = np.eye(3)[LABELS]


def model():
    layers = [Dense(5, "relu", input_shape=(6,)), Dense(3, "softmax")]
    return compiled(layers, "categorical_crossentropy", "float32")


def given(value):
    """None may be left out, so try something else."""
    return b"x" if value is None else value


ARGUMENTS = {  # of every constructor: what it may be, and who takes it
    "number": [
        lambda v: Rescaling(v), lambda v: Rescaling(1.0, v), lambda v: LeakyReLU(v), lambda v: ELU(v),
        lambda v: npnet.initializers.Constant(v), lambda v: npnet.metrics.BinaryAccuracy(threshold=v),
        lambda v: EarlyStopping(min_delta=v), lambda v: EarlyStopping(baseline=given(v)),
        lambda v: ModelCheckpoint("m", initial_value_threshold=given(v)),
        lambda v: PiecewiseConstantDecay([v], [1, 2]),
    ],
    "number of at least 0": [
        lambda v: ReLU(max_value=given(v)), lambda v: ReLU(negative_slope=v), lambda v: ReLU(threshold=v),
        lambda v: SGD(v), lambda v: SGD(weight_decay=given(v)),
        lambda v: Adagrad(initial_accumulator_value=v),
        lambda v: L1L2(l1=v), lambda v: L1L2(l2=v), lambda v: ExponentialDecay(v, 10, 0.5),
        lambda v: ExponentialDecay(1, 10, v), lambda v: PiecewiseConstantDecay([1], [1, v]),
        lambda v: CosineDecay(v, 10), lambda v: CosineDecay(1, 10, alpha=v),
        lambda v: CosineDecay(1, 10, warmup_target=given(v)), lambda v: CosineDecay(1, 10, warmup_steps=v),
        lambda v: OneCycle(v, 10), lambda v: ReduceLROnPlateau(min_lr=v),
    ],
    "positive number": [
        lambda v: BatchNormalization(epsilon=v), lambda v: RMSprop(epsilon=v), lambda v: Adagrad(epsilon=v),
        lambda v: Adam(epsilon=v), lambda v: SGD(clipnorm=given(v)), lambda v: SGD(clipvalue=given(v)),
        lambda v: SGD(global_clipnorm=given(v)), lambda v: ExponentialDecay(1, v, 0.5),
        lambda v: CosineDecay(1, v), lambda v: OneCycle(1, v), lambda v: OneCycle(1, 9, div_factor=v),
        lambda v: OneCycle(1, 9, final_div_factor=v), lambda v: npnet.initializers.VarianceScaling(v),
    ],
    "share": [
        lambda v: Dropout(v), lambda v: BatchNormalization(momentum=v), lambda v: SGD(momentum=v),
        lambda v: RMSprop(rho=v), lambda v: RMSprop(momentum=v), lambda v: Adam(beta_1=v),
        lambda v: Adam(beta_2=v), lambda v: CategoricalCrossentropy(label_smoothing=v),
        lambda v: BinaryCrossentropy(label_smoothing=v), lambda v: OneCycle(1, 9, pct_start=v),
        lambda v: ReduceLROnPlateau(factor=v),
    ],
    "integer": [lambda v: SparseCategoricalCrossentropy(ignore_class=given(v))],
    "integer of at least 0": [
        lambda v: Dropout(0.5, seed=given(v)), lambda v: npnet.initializers.GlorotUniform(given(v)),
        lambda v: EarlyStopping(patience=v), lambda v: EarlyStopping(start_from_epoch=v),
        lambda v: ReduceLROnPlateau(patience=v), lambda v: ReduceLROnPlateau(cooldown=v),
        lambda v: npnet.utils.set_random_seed(v), lambda v: Sequential(seed=given(v)),
    ],
    "positive integer": [
        lambda v: npnet.metrics.TopKCategoricalAccuracy(v), lambda v: ModelCheckpoint("m", save_freq=v),
        lambda v: Dense(v), lambda v: npnet.utils.to_categorical([0], given(v)),
    ],
    "flag": [
        lambda v: Dense(3, use_bias=v), lambda v: Dense(3, trainable=v),
        lambda v: BatchNormalization(center=v), lambda v: BatchNormalization(scale=v),
        lambda v: Sequential().compile("sgd", "mse", fused=v),
        lambda v: model().fit(X, Y, shuffle=v, verbose=0),
    ],
    "text": [
        lambda v: Dense(3, name=given(v)), lambda v: Sequential(name=given(v)),
        lambda v: npnet.metrics.MeanSquaredError(name=given(v)), lambda v: EarlyStopping(monitor=v),
    ],
    "function": [lambda v: LearningRateScheduler(v), lambda v: LambdaCallback(on_epoch_end=given(v))],
}  # fmt: skip
NO_NUMBERS = ["a", None, [1], float("nan"), float("inf"), True, 1j, np.array([1.0, 2.0])]
WRONG = {
    "number": NO_NUMBERS,
    "number of at least 0": [*NO_NUMBERS, -1e-9],
    "positive number": [*NO_NUMBERS, -1.0, 0.0],
    "share": [*NO_NUMBERS, -1e-9, 1.0000001],
    "integer": ["a", None, 1.5, 2.0, float("nan"), True],
    "integer of at least 0": ["a", None, 1.5, 2.0, float("nan"), True, -1],
    "positive integer": ["a", None, 1.5, 2.0, float("nan"), True, -1, 0],
    "flag": ["False", None, 0, 1, 0.5],
    "text": [3, None, b"a", ["a"]],
    "function": [3, None, "a"],
}


@pytest.mark.parametrize(
    ("kind", "make"), [(kind, make) for kind, makers in ARGUMENTS.items() for make in makers]
)
def test_every_argument_that_cannot_be_is_refused_at_once_by_name(kind, make):
    for value in WRONG[kind]:
        with pytest.raises((ValueError, TypeError), match=r"^\w+ must "):
            make(value)


def test_names_of_layers_and_parameters_that_files_could_confuse_are_refused():
    with pytest.raises(ValueError, match="name must not hold any of '/'"):
        Dense(3, name="a/kernel")
    layer, rng = Flatten(), np.random.default_rng()
    with pytest.raises(ValueError, match="name must not hold any of '/'"):
        layer.add_parameter("a/b", (2,), "zeros", rng, np.float32)
    layer.add_parameter("a", (2,), "zeros", rng, np.float32)
    with pytest.raises(ValueError, match="Flatten has a parameter named 'a' already"):
        layer.add_parameter("a", (2,), "zeros", rng, np.float32)


def test_masked_arrays_are_refused_where_something_is_masked():
    """NumPy drops the mask: what was masked would be trained on."""
    masked = np.ma.array(X, mask=X > 1)
    for call in (
        lambda: model().predict(masked, verbose=0),
        lambda: model().fit(X, np.ma.array(Y, mask=Y > 0), verbose=0),
        lambda: model().fit(X, Y, sample_weight=np.ma.array(X[:, 0], mask=X[:, 0] < 0), verbose=0),
        lambda: npnet.utils.to_categorical(np.ma.array([0, 1], mask=[0, 1])),
        lambda: npnet.losses.MeanSquaredError()(masked, X),
    ):
        with pytest.raises(TypeError, match="is a masked array"):
            call()
    unmasked = np.ma.array(X, mask=False)
    np.testing.assert_array_equal(model().predict(unmasked, verbose=0), model().predict(X, verbose=0))


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (lambda w: None, TypeError, "weights must be a list of arrays, got NoneType"),
        (lambda w: dict(enumerate(w)), TypeError, "weights must be a list of arrays, got dict"),
        (lambda w: [*w[:3], w[3] * np.nan], ValueError, "weights[3] (bias) must be finite, got nan at"),
        (lambda w: [w[0] - np.inf, *w[1:]], ValueError, "weights[0] (kernel) must be finite, got -inf"),
        (lambda w: [w[0] + 1e39, *w[1:]], ValueError, "weights[0] (kernel) must be finite, got 1e+39"),
        (lambda w: [w[0] + 0j, *w[1:]], TypeError, "weights[0] must hold numbers"),
    ],
)  # fmt: skip
def test_weights_that_are_none_change_nothing(weights, error, message):
    net = model()
    before = [w.tobytes() for w in net.get_weights()]
    with pytest.raises(error, match=re.escape(message)):
        net.set_weights(weights([w.astype(np.float64) for w in net.get_weights()]))
    assert [w.tobytes() for w in net.get_weights()] == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: npnet.losses.MeanSquaredError()(X, X + 0j), "y_pred must hold numbers"),
        (lambda: npnet.losses.MeanSquaredError()(X + 0j, X), "y_true must hold numbers"),
        (lambda: npnet.losses.MeanSquaredError()(X.astype(str), X), "y_true must hold numbers"),
        (lambda: npnet.losses.MeanSquaredError()(X, X.astype(object)), "y_pred must hold numbers"),
        (lambda: npnet.losses.MeanSquaredError()(X[:0], X[:0]), "with a sample at least, got shape (0, 6)"),
        (lambda: npnet.losses.MeanSquaredError()(X[0], X[0]), "got shape (6,). For one output"),
        (lambda: npnet.losses.MeanSquaredError()(1.0, 2.0), "y_true must have one row a sample"),
        (lambda: SparseCategoricalCrossentropy()(LABELS + 0.5, Y), "y_true must hold whole class labels"),
        (lambda: SparseCategoricalCrossentropy()(LABELS[None], Y), "one label a sample, shape (1,) or"),
        (lambda: npnet.metrics.SparseCategoricalAccuracy().update_state([0], Y), "same number"),
        (lambda: npnet.metrics.SparseTopKCategoricalAccuracy().update_state([0], Y), "same number"),
        (lambda: npnet.metrics.TopKCategoricalAccuracy().update_state(Y[:1], Y), "the shape of y_pred"),
        (lambda: npnet.metrics.MeanSquaredError().update_state(X + 0j, X), "y_true must hold numbers"),
        (lambda: npnet.metrics.MeanSquaredError().update_state(X[:0], X[:0]), "with a sample at least"),
        (lambda: npnet.utils.to_categorical([1e19]), "must hold whole class labels, got 1e+19"),
        (lambda: npnet.utils.to_categorical([[1], [1, 2]]), "x cannot be made an array"),
        (lambda: Sequential(Dense(3)), "layers must be a list of layers"),
        (lambda: Sequential(dtype=3), 'dtype must be "float32", "float64" or "mixed_bfloat16", got 3'),
        (lambda: Sequential(dtype="nonsense"), '"float64" or "mixed_bfloat16", got \'nonsense\''),
        (lambda: Dense(3, input_shape=(4,), input_dim=4), "Give input_shape or input_dim, not both"),
        (lambda: model().fit(X, Y, class_weight={0: 1e300}), "class_weight must be finite, got 1e+300"),
    ],
)  # fmt: skip
def test_what_was_once_taken_without_a_word(call, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()


def test_metrics_of_bytes_do_not_wrap_around():
    metric = npnet.metrics.MeanSquaredError()
    metric.update_state(np.array([[200]], np.uint8), np.array([[30]], np.uint8))
    assert metric.result() == 170**2


def test_a_label_that_is_no_class_is_no_hit():
    for label in (-1, 3, 10**12):
        metric = npnet.metrics.SparseTopKCategoricalAccuracy(k=3)
        metric.update_state([label, 0], np.eye(3)[:2])
        assert metric.result() == 0.5
