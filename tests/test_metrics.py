"""Metrics: worked examples, ties, weights, running means, and which accuracy "accuracy" is."""

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
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


def test_keras_s_abbreviations_are_names():
    given = ["bce", "BCE", "MSE", "MAE", "MAPE", "MSLE"]
    model = compiled([Dense(1, "sigmoid", input_shape=(2,))], "bce", metrics=[*given, "mse"])
    history = model.fit(random(0, 6, 2), one_hot(6, 2)[:, :1], verbose=0).history
    assert history.keys() == {"loss", "mse", *given}
    assert history["MSE"] == history["mse"] and history["BCE"] == history["bce"]
    assert all(npnet.callbacks.EarlyStopping(f"val_{name}").sign == -1 for name in given)


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


# --- counts, sums, functions -------------------------------------------------------------------------------


def test_what_counts_decisions():
    """Keras's docstrings."""
    y, p = np.array([[0], [1], [1], [1]]), np.array([[1], [0], [1], [1]])
    assert value(metrics.Precision(), y, p) == pytest.approx(2 / 3)
    assert value(metrics.Recall(), y, p) == pytest.approx(2 / 3)
    assert value(metrics.Precision(), y, p, [0, 0, 1, 0]) == 1
    assert value(metrics.TruePositives(), y, p) == 2 and value(metrics.TrueNegatives(), y, p) == 0
    assert value(metrics.FalsePositives(), y, p) == 1 and value(metrics.FalseNegatives(), y, p) == 1
    y, p = np.array([0, 0, 1, 1]), np.array([[0.0], [0.5], [0.3], [0.9]])
    assert value(metrics.AUC(num_thresholds=3), y, p) == pytest.approx(0.75)
    assert value(metrics.AUC(num_thresholds=3), y, p, [1, 0, 0, 1]) == pytest.approx(1)
    y, p = np.array([0, 0, 0, 1, 1]), np.array([[0.0], [0.3], [0.8], [0.3], [0.8]])
    assert value(metrics.SensitivityAtSpecificity(0.5), y, p) == pytest.approx(0.5)
    assert value(metrics.PrecisionAtRecall(0.5), y, p) == pytest.approx(0.5)
    several = value(metrics.Precision(thresholds=[0.5, 0.9, 0.1]), y, p)
    np.testing.assert_allclose(several, [0.5, 0, 0.5])


def test_auc_is_the_share_of_pairs_in_the_right_order():
    y, p = np.arange(400) % 3 == 0, np.random.default_rng(0).random((400, 1)).round(2)
    p[y] = np.sqrt(p[y])
    pairs = p[y] - p[~y].T
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert value(metrics.AUC(num_thresholds=1001), y, p) == pytest.approx(expected, abs=2e-3)
    logits = np.log((p + 0.001) / (1.001 - p))
    assert value(metrics.AUC(1001, from_logits=True), y, logits) == pytest.approx(expected, abs=4e-3)
    assert np.isfinite(value(metrics.AUC(), [1, 0], [[np.nan], [0.5]]))


def test_f1_and_r2():
    y = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    p = np.array([[0.2, 0.6, 0.7], [0.2, 0.6, 0.6], [0.6, 0.8, 0.0]])  # Keras's docstring
    np.testing.assert_allclose(value(metrics.F1Score(threshold=0.5), y, p), [0.5, 0.8, 2 / 3], rtol=1e-6)
    y, p = np.array([[1.0], [4.0], [3.0]]), np.array([[2.0], [4.0], [4.0]])
    assert value(metrics.R2Score(), y, p) == pytest.approx(4 / 7)
    assert value(metrics.R2Score(num_regressors=1), y, p) == pytest.approx(1 - (1 - 4 / 7) * 2 / 1)
    with pytest.warns(UserWarning, match="plain score"):
        assert value(metrics.R2Score(num_regressors=2), y, p) == pytest.approx(4 / 7)


def test_means_of_numbers():
    mean = metrics.Mean()
    assert mean(3) == 3 and mean([5.0, 7.0]) == 5
    mean.reset_state()
    assert mean([1.0, 3.0], sample_weight=[1, 3]) == 2.5


def distance(y_true, y_pred):
    return np.abs(y_true - y_pred).max(axis=-1)


def test_functions_are_metrics(tmp_path):
    layers, x, y = [Dense(3, input_shape=(4,))], random(0, 9, 4), random(1, 9, 3)
    functions = [distance, npnet.losses.mae, lambda t, p: np.float64(len(t))]
    model = compiled(layers, metrics=functions[:2])
    history = model.fit(x, y, batch_size=4, verbose=2).history
    assert set(history) == {"loss", "distance", "mae"}
    p = model.predict(x, verbose=0)
    expected = [distance(y, p).mean(), np.abs(y - p).mean()]
    assert model.evaluate(x, y, batch_size=4, verbose=0)[1:] == pytest.approx(expected)
    model.save(tmp_path / "model")
    loaded = npnet.models.load_model(tmp_path / "model", custom_objects={"distance": distance})
    assert loaded.evaluate(x, y, verbose=0)[1:] == pytest.approx(expected)
    with pytest.raises(ValueError, match="Unknown metric function 'distance'"):
        npnet.models.load_model(tmp_path / "model")
    model = compiled(layers, metrics=[functions[2]])
    assert model.evaluate(x, y, batch_size=4, verbose=0)[1] == pytest.approx((4 + 4 + 1) / 3)
    with pytest.raises(ValueError, match="one number a sample"):
        value(metrics.MeanMetricWrapper(lambda t, p: np.ones(5)), y, p)


def test_whole_numbers_of_samples_do_not_wrap_around():
    y, p, weight = np.zeros((4, 1)), np.ones((4, 1)), np.full(4, 2, np.uint8)
    for shape in ((4,), (4, 3)):
        metric = metrics.MeanMetricWrapper(lambda t, p, shape=shape: np.full(shape, 200, np.uint8))
        assert value(metric, y, p, weight) == 200


def test_every_metric_is_copied_for_each_model_and_evaluation():
    shared = metrics.Precision()
    models = [
        compiled([Dense(1, "sigmoid", input_shape=(4,))], metrics=[shared], seed=seed) for seed in (0, 1)
    ]
    x, y = random(0, 9, 4), (np.arange(9) % 2)[:, None]
    values = [model.evaluate(x, y, verbose=0)[1] for model in models]
    assert [model.evaluate(x, y, verbose=0)[1] for model in models] == values and not shared.sums.any()
    for model, found in zip(models, values, strict=True):
        assert found == value(metrics.Precision(), y, model.predict(x, verbose=0))


@pytest.mark.parametrize("name", [name for name in metrics.NAMES if name not in ("mean",)])
def test_what_was_added_up_is_plain_numbers_to_go_on_from(name):
    required = {"mean_metric_wrapper": {"fn": distance}} | {
        f"{a}_at_{b}": {b: 0.5}
        for a, b in (("precision", "recall"), ("recall", "precision"), ("sensitivity", "specificity"),
                     ("specificity", "sensitivity"))
    }  # fmt: skip
    whole, first, second = (metrics.NAMES[name](**required.get(name, {})) for _ in range(3))
    y = LABELS if name.startswith("sparse") else np.eye(3)[LABELS]
    whole.update_state(y, P)
    first.update_state(y[:2], P[:2])
    second.state = first.state
    second.update_state(y[2:], P[2:])
    np.testing.assert_allclose(second.result(), whole.result(), rtol=1e-12)
    assert whole(y, P) == pytest.approx(whole.result())
    with pytest.raises(ValueError, match="adds up"):
        second.state = [1.0] if len(first.state) % 4 == 0 else []


def test_an_epoch_resumed_in_its_middle_counts_on(tmp_path):
    class Stop(npnet.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    x, y = random(0, 20, 4), (np.arange(20) % 2)[:, None]
    given = ["accuracy", metrics.AUC(curve="PR"), metrics.Recall(), metrics.F1Score()]

    def model():
        return compiled([Dense(1, "sigmoid", input_shape=(4,))], "binary_crossentropy", metrics=given)

    options = {"batch_size": 6, "verbose": 0}
    whole = model().fit(x, y, **options).history
    stopped = model()
    stopped.fit(x, y, callbacks=Stop(), **options)
    stopped.save(tmp_path / "model")
    loaded = npnet.models.load_model(tmp_path / "model")
    resumed = loaded.fit(x, y, initial_epoch=loaded.position, **options).history
    assert resumed == whole and isinstance(whole["f1_score"][0], list)


def test_samples_of_the_ignored_class_do_not_count():
    metric = metrics.SparseCategoricalCrossentropy(ignore_class=255)
    assert value(metric, [1, 255, 2], P[:3]) == pytest.approx(-np.log([0.7, 0.5]).mean())
    assert value(metric, [255], P[:1]) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.Precision(thresholds=1.5), "thresholds"),
        (lambda: metrics.AUC(num_thresholds=1), "num_thresholds"),
        (lambda: metrics.AUC(curve="PRC"), 'Did you mean "PR"'),
        (lambda: metrics.F1Score(average="makro"), 'Did you mean "macro"'),
        (lambda: metrics.FBetaScore(beta=0.0), "beta"),
        (lambda: metrics.R2Score("mean"), "class_aggregation"),
        (lambda: metrics.RecallAtPrecision(2.0), "precision"),
        (lambda: value(metrics.Recall(class_id=3), np.eye(3), np.eye(3)), "class_id is 3, but there are 3"),
        (lambda: value(metrics.Recall(), [0, 1, 2], np.eye(3)), "the shape of y_pred"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mean_takes_one_weight_for_all():
    mean = metrics.Mean()
    mean.update_state([1, 2, 3])
    mean.update_state(5, sample_weight=2)
    assert mean.result() == 3.2  # Keras's


def test_metrics_of_ones_own_that_lack_something_say_what():
    class Empty(metrics.Metric):
        key = "empty"

    class Early(Empty):
        def reset_state(self):
            self.seen *= 0

    class Unnamed(Empty):
        def reset_state(self):
            self.seen = 0

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.seen += len(y_pred)

        def result(self):
            return self.seen

    class Named(Unnamed):
        state_names = ("seen",)

    with pytest.raises(NotImplementedError, match=r"Empty has no values\(y_true, y_pred\)"):
        Empty()(np.ones((2, 1)), np.ones((2, 1)))
    with pytest.raises(AttributeError, match=r"no attribute 'seen'\. Metric's constructor calls reset_state"):
        Early()
    with pytest.raises(AttributeError, match=r"Unnamed has no attribute 'total'\. Name in state_names"):
        Unnamed().state  # noqa: B018
    assert Named().state == [0.0]


@pytest.mark.parametrize("curve", ["ROC", "PR"])
def test_predictions_beyond_0_and_1_count_as_0_and_1_along_a_curve(curve):
    """As in Keras: outputs that separate the classes perfectly have an area of 1 before a sigmoid, too."""
    yes = np.array([[0], [0], [1], [1]])
    logits = np.array([[-2.0], [-1.0], [1.5], [3.0]])
    assert value(metrics.AUC(curve=curve), yes, logits) == pytest.approx(1)
    assert value(metrics.AUC(curve=curve), yes, np.clip(logits, 0, 1)) == pytest.approx(1)
    assert value(metrics.AUC(curve=curve), yes, -logits) < 0.5
    assert value(metrics.SensitivityAtSpecificity(0.5), yes, logits) == 1


@pytest.mark.parametrize("shape", [(4, 3, 5, 1), (3, 3, 3, 2), (4, 4, 2)])
def test_each_place_of_a_picture_or_sequence_counts_with_its_sample_s_weight(shape):
    """As many rows as columns or samples: weights must not go along another axis."""
    rng = np.random.default_rng(0)
    y_true, y_pred, weight = (rng.random(shape) > 0.5) * 1.0, rng.random(shape), rng.random(shape[0])
    units = shape[-1]
    rows = [values.reshape(-1, units) for values in (y_true, y_pred)]
    of_rows = np.repeat(weight, len(rows[0]) // len(weight))
    for metric in (
        metrics.TruePositives(), metrics.Precision(), metrics.Recall(top_k=1), metrics.AUC(),
        metrics.AUC(multi_label=True), metrics.F1Score(threshold=0.5), metrics.R2Score(),
    ):  # fmt: skip
        np.testing.assert_allclose(value(metric, y_true, y_pred, weight), value(metric, *rows, of_rows))
    top = TopKCategoricalAccuracy(k=1)
    assert value(top, y_true, y_pred) == pytest.approx(value(top, *rows))


@pytest.mark.parametrize("name", ["fit", "train_on_batch", "evaluate", "test_on_batch"])
def test_a_metric_that_does_not_fit_is_named_before_a_step(name):
    x, y = random(0, 8, 2), np.arange(8) % 3
    model = compiled(
        [Dense(3, "softmax")], loss="sparse_categorical_crossentropy", metrics=[metrics.Recall()]
    )
    model.build((None, 2))
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"Metric 'recall' of one sample: y_true must have .*one-hot rows.*to_categorical"
    ):
        getattr(model, name)(x, y)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_metric_that_has_seen_other_outputs_starts_anew():
    metric = metrics.F1Score()
    metric.update_state(np.eye(5), np.eye(5))
    model = compiled([Dense(3, "softmax")], loss="categorical_crossentropy", metrics=[metric])
    assert len(model.fit(random(0, 6, 2), one_hot(6, 3), verbose=0).history["f1_score"][0]) == 3
