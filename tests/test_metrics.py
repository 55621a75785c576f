"""Metrics: worked examples, ties, weights, running means, and which accuracy "accuracy" is."""

import numpy as np
import pytest
from small import compiled, one_hot, random

from npnet import metrics
from npnet.layers import Dense
from npnet.metrics import (
    BinaryAccuracy,
    CategoricalAccuracy,
    MeanAbsoluteError,
    Means,
    MeanSquaredError,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)

P = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.4, 0.5, 0.1]])
LABELS = np.array([1, 2, 2, 0])


def value(metric, y_true, y_pred, weight=None):
    metric.reset_state()
    metric.update_state(y_true, y_pred, weight)
    return metric.result()


def test_accuracy():
    assert value(CategoricalAccuracy(), np.eye(3)[LABELS], P) == 0.5
    assert value(SparseCategoricalAccuracy(), LABELS, P) == 0.5
    assert value(SparseCategoricalAccuracy(), LABELS[:, None], P) == 0.5
    assert value(CategoricalAccuracy(), [[0, 0, 1]], [[0.1, 0.9, 0.8]]) == 0


def test_ties_go_to_the_first():
    assert value(SparseCategoricalAccuracy(), [0, 1], [[0.5, 0.5], [0.5, 0.5]]) == 0.5


def test_binary_accuracy():
    y, p = [[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]]  # Keras's docstring
    assert value(BinaryAccuracy(), y, p) == 0.75
    assert value(BinaryAccuracy(), [1, 1, 0, 0], p) == 0.75
    assert value(BinaryAccuracy(), y, p, [1, 0, 0, 1]) == 0.5
    assert value(BinaryAccuracy(threshold=0.7), y, p) == 1
    assert value(BinaryAccuracy(), [[1, 0], [1, 1]], [[0.9, 0.8], [0.5, 0.6]]) == 0.5  # 0.5 is not above 0.5


def test_top_k():
    assert [value(SparseTopKCategoricalAccuracy(k), LABELS, P) for k in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert [value(TopKCategoricalAccuracy(k), np.eye(3)[LABELS], P) for k in (1, 2)] == [0.5, 1.0]
    assert value(TopKCategoricalAccuracy(), np.eye(3)[LABELS], P) == 1  # 5 of 3
    assert value(SparseTopKCategoricalAccuracy(1), [0, 1, 2], np.full((3, 3), 0.5)) == 1  # ties count
    assert value(SparseTopKCategoricalAccuracy(2), [2], [[0.5, 0.4, 0.1]]) == 0
    for k in (0, 1.5, -1):
        with pytest.raises((ValueError, TypeError), match="k must be"):
            TopKCategoricalAccuracy(k)


def test_nan_is_no_hit():
    nan = np.full((1, 10), np.nan)
    assert value(SparseTopKCategoricalAccuracy(5), [3], nan) == 0
    assert value(BinaryAccuracy(), [[1]], [[np.nan]]) == 0
    assert np.isnan(value(MeanSquaredError(), [[1]], [[np.nan]]))


def test_errors():
    y, p = [[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 3.0]]  # errors 1, 0, 1, 3
    assert value(MeanSquaredError(), y, p) == 11 / 4
    assert value(MeanAbsoluteError(), y, p) == 5 / 4
    assert value(MeanSquaredError(), y, p, [1.0, 3.0]) == (0.5 + 3 * 5) / 4  # divided by the weights


def test_weights():
    assert value(SparseCategoricalAccuracy(), LABELS, P, [1, 2, 3, 4]) == 0.4
    assert value(SparseCategoricalAccuracy(), LABELS, P, [[1], [2], [3], [4]]) == 0.4
    assert value(SparseCategoricalAccuracy(), LABELS, P, [0, 0, 0, 0]) == 0
    for weight in ([1, 2], [[1, 2, 3, 4]], [1, 2, 3, -4]):
        with pytest.raises(ValueError, match="sample_weight"):
            value(SparseCategoricalAccuracy(), LABELS, P, weight)


def test_running_mean_over_unequal_batches():
    metric = SparseCategoricalAccuracy()
    assert metric.result() == 0
    metric.update_state(LABELS[:3], P[:3])
    assert metric.result() == pytest.approx(2 / 3)
    metric.update_state(LABELS[3:], P[3:])
    assert metric.result() == 0.5
    metric.reset_state()
    assert metric.result() == 0


@pytest.mark.parametrize(
    ("metric", "y_true"),
    [
        (CategoricalAccuracy(), LABELS),
        (CategoricalAccuracy(), LABELS[:, None]),
        (MeanSquaredError(), LABELS),
        (MeanAbsoluteError(), np.eye(3)),
        (BinaryAccuracy(), P.T),
    ],
)
def test_targets_of_another_shape_are_refused(metric, y_true):
    with pytest.raises(ValueError, match="y_true must have the shape of y_pred"):
        value(metric, y_true, P)


@pytest.mark.parametrize(
    ("units", "last", "loss", "y", "kind"),
    [
        (3, "softmax", "categorical_crossentropy", one_hot(6, 3), CategoricalAccuracy),
        (3, "softmax", "sparse_categorical_crossentropy", np.arange(6) % 3, SparseCategoricalAccuracy),
        (
            3,
            "softmax",
            "sparse_categorical_crossentropy",
            np.arange(6)[:, None] % 3,
            SparseCategoricalAccuracy,
        ),
        (1, "sigmoid", "binary_crossentropy", np.arange(6) % 2, BinaryAccuracy),
        (3, "sigmoid", "binary_crossentropy", one_hot(6, 3), CategoricalAccuracy),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "acc"])
def test_accuracy_means_what_the_targets_need(units, last, loss, y, kind, name):
    model = compiled([Dense(units, last, input_shape=(2,))], loss, metrics=[name])
    x = random(0, 6, 2)
    history = model.fit(x, y, verbose=0).history
    assert set(history) == {name, "loss"}
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    assert evaluated[name] == pytest.approx(value(kind(), y, model.predict(x, verbose=0)))


def test_the_string_given_is_the_key():
    given = ["mse", "mae", "top_k_categorical_accuracy", TopKCategoricalAccuracy(2, name="top2")]
    layers = [Dense(3, "softmax", input_shape=(2,))]
    model = compiled(layers, "categorical_crossentropy", metrics=given, weighted_metrics=["accuracy"])
    history = model.fit(random(0, 6, 2), one_hot(6, 3), verbose=0).history
    assert list(history) == ["accuracy", "loss", "mae", "mse", "top2", "top_k_categorical_accuracy"]


def test_means_of_an_epoch_weigh_batches_by_their_samples():
    means = Means([SparseCategoricalAccuracy("plain")], [SparseCategoricalAccuracy("weighted")])
    means.update(2.0, LABELS[:3], P[:3], np.array([1.0, 0.0, 1.0]))
    means.update(6.0, LABELS[3:], P[3:], np.array([2.0]))
    assert means.logs() == {"loss": 3.0, "plain": 0.5, "weighted": 0.5}


def test_names():
    assert metrics.get("acc").name == "acc"
    assert isinstance(metrics.get("TopKCategoricalAccuracy"), TopKCategoricalAccuracy)
    with pytest.raises(ValueError, match=r"Unknown metric 'acuracy'. Did you mean \"accuracy\"\?"):
        metrics.get("acuracy")


def test_described_by_their_arguments():
    for metric in (BinaryAccuracy(threshold=0.7), TopKCategoricalAccuracy(3, name="top3")):
        assert type(metric)(**metric.get_config()).get_config() == metric.get_config()
