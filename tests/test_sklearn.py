"""The scikit-learn estimators: scikit-learn's own checks, and what they do not look at."""

import pickle
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_array
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import npnet
from npnet import Sequential
from npnet.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from npnet.optimizers import Adam, AdamW
from npnet.sklearn import MLPClassifier, MLPRegressor, ModelClassifier, ModelRegressor

X, Y = make_blobs(200, centers=3, n_features=4, random_state=0)
LABELS = np.array(["north", "east", "south"])[Y]


def small(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (8,), "random_state": 0, "kernels": "numpy", **options})


def fitted(x=X, y=LABELS, sample_weight=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return small(**options).fit(x, y, sample_weight)


def many_labels(input_shape, outputs):
    model = Sequential([Input(input_shape), Dense(16, "relu"), Dense(outputs, "sigmoid")], dtype="float64")
    model.compile(Adam(0.05), "binary_crossentropy", kernels="numpy")
    return model


def regressing(input_shape, outputs):
    model = Sequential([Input(input_shape), Dense(16, "relu"), Dense(outputs)], dtype="float64")
    model.compile(Adam(0.05), "mse", kernels="numpy")
    return model


class Named:
    """A function whose repr holds no address: tests must be called the same in every process."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)

    def __repr__(self):
        return self.function.__name__


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:x holds integers")
@parametrize_with_checks(
    [
        MLPClassifier(max_iter=20, kernels="numpy"),
        MLPRegressor(max_iter=20, kernels="numpy", learning_rate_init=0.02),
        ModelClassifier(Named(many_labels), max_iter=30),
        ModelRegressor(Named(regressing), max_iter=20),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_the_default_learns_labels_of_any_kind():
    x = X.astype(np.float32)
    with pytest.warns(ConvergenceWarning, match="max_iter=30 epochs before the loss settled"):
        estimator = MLPClassifier(max_iter=30, learning_rate_init=0.01, random_state=0).fit(x, LABELS)
    assert estimator.score(x, LABELS) > 0.9
    assert estimator.predict_proba(x).dtype == np.float32
    assert list(estimator.classes_) == ["east", "north", "south"]


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("classes", [2, 3])
def test_weights_mean_what_they_mean_in_scikit_learn(activation, classes):
    y = np.minimum(Y, classes - 1)
    ours = fitted(y=y, activation=activation, max_iter=2, hidden_layer_sizes=(6, 5))
    theirs = Theirs(activation=activation, max_iter=2, hidden_layer_sizes=(6, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X, y)
    theirs.coefs_, theirs.intercepts_ = ours.coefs_, ours.intercepts_
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("adam", {}),
        ("adam", {"alpha": 1.0}),
        ("sgd", {"learning_rate_init": 0.01}),
        ("sgd", {"learning_rate_init": 0.01, "momentum": 0.0}),
        ("sgd", {"learning_rate_init": 0.01, "nesterovs_momentum": False, "alpha": 0.0}),
    ],
)
def test_epochs_are_scikit_learns(solver, options):
    """From the same weights and with the samples in the same order both take the same steps."""
    weight = np.tile([0.5, 1.5], len(X) // 2)
    options = {"hidden_layer_sizes": (6,), "batch_size": 50, "shuffle": False, "max_iter": 3, **options}
    theirs = Theirs(solver=solver, warm_start=True, **options)
    ours = small(solver=Adam(epsilon=1e-8) if solver == "adam" else solver, warm_start=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for estimator in (theirs, ours):
            estimator.partial_fit(X, LABELS, classes=np.unique(LABELS))
        ours.model_.set_weights(
            [w for pair in zip(theirs.coefs_, theirs.intercepts_, strict=True) for w in pair]
        )
        for estimator in (theirs, ours):
            estimator.fit(X, LABELS, weight)
    assert ours.n_iter_ == theirs.n_iter_ == 3
    for w, v in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(w, v, rtol=1e-9, atol=1e-12)


def test_training_ends_when_the_loss_settles():
    estimator = small(max_iter=400, tol=0.01, n_iter_no_change=3, learning_rate_init=0.01).fit(X, LABELS)
    assert 4 < estimator.n_iter_ == len(estimator.loss_curve_) < 400  # without a ConvergenceWarning
    assert estimator.loss_ == estimator.loss_curve_[-1] < 0.5 * estimator.loss_curve_[0]
    assert estimator.validation_scores_ is None


def test_early_stopping_keeps_the_weights_that_were_best_on_held_out_samples():
    x, y = make_moons(120, noise=0.3, random_state=0)
    estimator = small(early_stopping=True, max_iter=300, n_iter_no_change=5, learning_rate_init=0.05)
    scores = estimator.fit(x, y, np.where(y, 2.0, 1.0)).validation_scores_
    assert len(scores) == estimator.n_iter_ < 300
    best = int(np.argmax(scores))
    again = fitted(
        x, y, np.where(y, 2.0, 1.0), early_stopping=True, max_iter=best + 1, learning_rate_init=0.05
    )
    assert again.validation_scores_ == scores[: best + 1]
    for weights, others in zip(estimator.coefs_, again.coefs_, strict=True):
        np.testing.assert_array_equal(weights, others)
    with pytest.raises(ValueError, match="least populated class"):  # classes are held out in proportion
        small(early_stopping=True).fit(x, np.arange(120) == 0)
    with pytest.raises(ValueError, match="partial_fit has no early_stopping"):
        small(early_stopping=True).partial_fit(x, y, classes=[0, 1])


def test_partial_fits_are_a_fit():
    whole = fitted(max_iter=4)
    pieces = small()
    for _ in range(4):
        pieces.partial_fit(X, LABELS, classes=["south", "north", "east"])
    assert pieces.loss_curve_ == whole.loss_curve_
    np.testing.assert_array_equal(pieces.predict_proba(X), whole.predict_proba(X))


def test_a_warm_start_goes_on():
    estimator = fitted(max_iter=5, warm_start=True)
    model = estimator.model_
    with pytest.warns(ConvergenceWarning):
        estimator.fit(X, LABELS)
    assert estimator.model_ is model
    assert len(estimator.loss_curve_) == 10
    assert estimator.loss_curve_[5] < estimator.loss_curve_[4]
    with pytest.raises(ValueError, match="warm_start needs the classes of the last fit"):
        estimator.fit(X, Y)


def test_in_a_pipeline_and_a_grid_search_with_weights():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), small(max_iter=5)),
        {"mlpclassifier__activation": ["gelu", "tanh"], "mlpclassifier__learning_rate_init": [1e-5, 0.1]},
        cv=2,
        error_score="raise",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(X, LABELS, mlpclassifier__sample_weight=np.ones(len(X)))
    assert search.best_params_["mlpclassifier__learning_rate_init"] == 0.1
    assert search.score(X, LABELS) > 0.9


def test_the_optimizer_given_is_copied_and_estimators_can_be_cloned_and_pickled():
    optimizer = AdamW(0.01)
    estimator = fitted(solver=optimizer, max_iter=2)
    assert optimizer.iterations == 0
    twin = fitted(**{**clone(estimator).get_params(), "hidden_layer_sizes": [8]})
    loaded = pickle.loads(pickle.dumps(estimator))
    for other in (twin, loaded):
        np.testing.assert_array_equal(other.predict_proba(X), estimator.predict_proba(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "lbfgs"}, "Unknown solver 'lbfgs'"),
        ({"activation": "rellu"}, 'Did you mean "relu"'),
        ({"hidden_layer_sizes": (8, 0)}, "units must be a positive integer, got 0"),
        ({"alpha": -1}, "alpha must be finite and at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options).fit(X, LABELS)


def test_labels_are_checked():
    with pytest.raises(ValueError, match="classes must list all labels in the first call"):
        small().partial_fit(X, LABELS)
    estimator = small().partial_fit(X, LABELS, classes=["north", "east", "south", "west"])
    assert estimator.predict_proba(X).shape == (200, 4)
    with pytest.raises(ValueError, match=r"labels .*down.* which are not among the classes"):
        estimator.partial_fit(X, np.where(Y, LABELS, "down"))
    with pytest.raises(ValueError, match=r"classes were .* in the first call, got"):
        estimator.partial_fit(X, LABELS, classes=["north", "east"])
    predicted = estimator.predict(X)
    with pytest.raises(ValueError, match="at least two classes, got one class"):
        estimator.fit(X, np.zeros(200))
    np.testing.assert_array_equal(estimator.predict(X), predicted)  # what it has learnt stays


def test_without_the_package_it_says_what_to_install():
    program = "import sys; sys.modules['sklearn.base'] = None; import npnet.sklearn"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1].endswith("pip install 'scikit-learn>=1.6'")


def test_what_scikit_learn_s_own_has_besides():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
    options = {"max_iter": 4, "random_state": 0, "kernels": "numpy"}
    with pytest.warns(ConvergenceWarning):
        first = MLPClassifier((7, 5), **options).fit(X, y)
    assert first.n_layers_ == 4 and first.best_loss_ == min(first.loss_curve_)
    np.testing.assert_array_equal(first.predict_log_proba(X), np.log(first.predict_proba(X)))
    for other in ({"beta_1": 0.5}, {"beta_2": 0.5}, {"epsilon": 0.1}):
        with pytest.warns(ConvergenceWarning):
            assert MLPClassifier((7, 5), **options, **other).fit(X, y).loss_ != first.loss_
    with pytest.warns(ConvergenceWarning):
        assert MLPClassifier(early_stopping=True, **options).fit(X, y).best_loss_ is None


# --- as long as scikit-learn's ----------------------------------------------------------------------------


def same_start(cls, monkeypatch):
    """Return scikit-learn's class and ours such that models of the same shape begin with the same weights."""

    def draw(inputs, units):
        return np.random.default_rng(100 * inputs + units).normal(0, 0.3, (inputs, units)), np.zeros(units)

    def begin(self, *arguments):
        beginning(self, *arguments)
        shapes = [w.shape for w in self.coefs_]
        self.model_.set_weights([array for shape in shapes for array in draw(*shape)])

    ours, theirs = {"classifier": (MLPClassifier, Theirs), "regressor": (MLPRegressor, TheirRegressor)}[cls]
    beginning = ours._begin
    monkeypatch.setattr(ours, "_begin", begin)
    monkeypatch.setattr(theirs, "_init_coef", lambda self, inputs, units, dtype: draw(inputs, units))

    def tail(*arrays, **_):
        return [part for array in arrays for part in (array[:-50], array[-50:])]

    monkeypatch.setattr("npnet.sklearn.train_test_split", tail)
    monkeypatch.setattr("sklearn.neural_network._multilayer_perceptron.train_test_split", tail)
    return ours, theirs


NUMBERS = np.stack([X @ [0.1, -0.2, 0.3, 0.1], np.sin(X[:, 0])], axis=1)
SEVERAL = np.stack([Y == 0, X[:, 0] > 0, Y != 2], axis=1).astype(int)


@pytest.mark.parametrize(
    ("kind", "y"),
    [
        ("classifier", Y),
        ("classifier", Y == 1),
        ("classifier", SEVERAL),
        ("regressor", NUMBERS[:, 0]),
        ("regressor", NUMBERS),
    ],
    ids=["three classes", "two classes", "three labels", "a number", "two numbers"],
)
@pytest.mark.parametrize(
    "options",
    [
        {"tol": 1e-3, "n_iter_no_change": 3},
        {"tol": 0.02, "n_iter_no_change": 1},
        {"tol": 0.01, "n_iter_no_change": 2, "batch_size": 200},
        {"early_stopping": True, "tol": 0.003, "n_iter_no_change": 2},
        {"solver": "sgd", "learning_rate_init": 0.1, "tol": 1e-3, "n_iter_no_change": 2},
    ],
    ids=str,
)
def test_training_ends_at_scikit_learns_epoch(kind, y, options, monkeypatch):
    """From the same weights, with the samples in the same order and the same ones held out."""
    ours, theirs = same_start(kind, monkeypatch)
    options = {
        "hidden_layer_sizes": (6,), "batch_size": 50, "shuffle": False, "learning_rate_init": 0.02,
        "max_iter": 300, "alpha": 0.01, **options,
    }  # fmt: skip
    x = X / 5
    a, b = ours(**options, kernels="numpy").fit(x, y), theirs(**options).fit(x, y)
    assert 2 <= a.n_iter_ == b.n_iter_ < 300
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=1e-6)
    if options.get("early_stopping"):
        np.testing.assert_allclose(a.validation_scores_, b.validation_scores_, rtol=1e-7)
        np.testing.assert_allclose(a.best_validation_score_, b.best_validation_score_, rtol=1e-7)
        assert a.best_loss_ is b.best_loss_ is None
    else:
        np.testing.assert_allclose(a.best_loss_, b.best_loss_, rtol=1e-6)
    for mine, other in zip(a.coefs_, b.coefs_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(a.predict(x), b.predict(x), rtol=1e-7)
    if kind == "classifier":
        np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(x), rtol=1e-6)


def test_a_warm_start_counts_on_and_may_begin_to_hold_out():
    estimator = small(warm_start=True, tol=10.0, n_iter_no_change=2).fit(X, LABELS)
    assert estimator.n_iter_ == 4  # the first epoch is the best, three are not better
    assert estimator.fit(X, LABELS).n_iter_ == 1  # no epoch has been better since
    estimator.set_params(early_stopping=True).fit(X, LABELS)
    assert len(estimator.validation_scores_) == estimator.n_iter_ == 4
    assert len(estimator.loss_curve_) == 9


def test_too_few_samples_to_hold_out():
    with pytest.raises(ValueError, match=r"holds out 1 of 8 samples.* raise validation_fraction=0.1"):
        MLPRegressor(early_stopping=True).fit(X[:8], NUMBERS[:8])


# --- targets and weights of other kinds -------------------------------------------------------------------


def regressor(**options):
    return MLPRegressor(
        **{"hidden_layer_sizes": (16,), "random_state": 0, "kernels": "numpy", "max_iter": 30} | options
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_numbers():
    estimator = regressor(learning_rate_init=0.05, batch_size=20).fit(X, NUMBERS)
    assert estimator.predict(X).shape == (200, 2) and estimator.score(X, NUMBERS) > 0.8
    one = regressor(learning_rate_init=0.05).fit(X.astype("float32"), NUMBERS[:, 0])
    assert one.predict(X.astype("float32")).shape == (200,) and one.predict(X[:2]).dtype == np.float32
    pieces = regressor().partial_fit(X, NUMBERS).partial_fit(X, NUMBERS)
    assert pieces.loss_curve_ == regressor(max_iter=2).fit(X, NUMBERS).loss_curve_
    with pytest.raises(ValueError, match=r"y must have 2 columns as in the first fit, got \(200,\)"):
        pieces.partial_fit(X, Y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_labels_a_sample():
    estimator = fitted(y=SEVERAL, max_iter=60, learning_rate_init=0.05)
    assert estimator.score(X, SEVERAL) > 0.9 and estimator.n_outputs_ == 3
    assert estimator.predict_proba(X).shape == (200, 3)
    sparse = fitted(y=csr_array(SEVERAL), max_iter=60, learning_rate_init=0.05)
    np.testing.assert_array_equal(sparse.predict(X), estimator.predict(X))
    pieces = small().partial_fit(X, SEVERAL)
    assert pieces.loss_curve_ == fitted(y=SEVERAL, max_iter=1).loss_curve_
    with pytest.raises(ValueError, match=r"y must have the shape \(N, 3\) of the first fit"):
        pieces.partial_fit(X, SEVERAL[:, :2])
    with pytest.raises(ValueError, match=r"several classes a column. Wrap the estimator"):
        small().fit(X, np.stack([Y, Y], axis=1))


def test_weights_of_classes():
    weights = {"north": 3.0, "east": 0.5}
    by_class = fitted(max_iter=3, class_weight=weights)
    by_sample = fitted(max_iter=3, sample_weight=[weights.get(label, 1.0) for label in LABELS])
    assert by_class.loss_curve_ == by_sample.loss_curve_ != fitted(max_iter=3).loss_curve_
    rare = np.where(np.arange(200) % 10 == 0, "rare", LABELS)
    share = np.array([np.mean(rare == label) for label in rare])
    balanced = fitted(y=rare, max_iter=3, class_weight="balanced")
    np.testing.assert_allclose(
        balanced.loss_curve_, fitted(y=rare, max_iter=3, sample_weight=0.25 / share).loss_curve_
    )
    both = fitted(max_iter=3, class_weight=weights, sample_weight=np.arange(200.0))
    assert both.loss_ not in (by_class.loss_, fitted(max_iter=3, sample_weight=np.arange(200.0)).loss_)
    with pytest.raises(ValueError, match='partial_fit has no class_weight="balanced"'):
        small(class_weight="balanced").partial_fit(X, LABELS, classes=np.unique(LABELS))
    with pytest.raises(ValueError, match="zero for every sample"):
        fitted(class_weight=dict.fromkeys(np.unique(LABELS), 0.0))


# --- sparse samples ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("make", [csr_array, csc_matrix])
@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (small(max_iter=4, batch_size=32), LABELS),
        (small(max_iter=40, early_stopping=True, tol=0.1), LABELS),
        (regressor(max_iter=4, batch_size=32), NUMBERS),
        (ModelRegressor(regressing, max_iter=3, random_state=0), NUMBERS),
    ],
    ids=["classes", "early stopping", "numbers", "a model"],
)
def test_sparse_samples_give_what_an_array_gives(estimator, y, make):
    x = np.where(X > 0, X, 0)
    weight = np.linspace(0.5, 2, 200)
    dense, sparse = clone(estimator).fit(x, y, weight), clone(estimator).fit(make(x), y, weight)
    assert sparse.n_iter_ == dense.n_iter_
    np.testing.assert_allclose(sparse.loss_curve_, dense.loss_curve_, rtol=1e-12)
    np.testing.assert_array_equal(sparse.predict(make(x)), dense.predict(x))


def test_of_sparse_samples_a_batch_at_a_time_is_an_array(monkeypatch, capsys):
    made = []
    to_array = csr_array.toarray
    monkeypatch.setattr(
        csr_array, "toarray", lambda self, *options: made.append(self.shape[0]) or to_array(self, *options)
    )
    fitted(csr_array(X), max_iter=2, batch_size=64, verbose=True).predict(csr_array(np.tile(X, (10, 1))))
    assert made == [64, 64, 64, 8] * 2 + [1024, 976]
    assert "Epoch 2/2" in capsys.readouterr().out
    with np.errstate(all="ignore"), pytest.raises(RuntimeError, match="loss"):
        fitted(csr_array(X), solver="sgd", learning_rate_init=1e200, activation="identity")


# --- models that a function builds ------------------------------------------------------------------------


def convolving(input_shape, outputs, filters=4):
    layers = [Conv2D(filters, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(outputs)]
    model = Sequential([Input(input_shape), *layers])
    loss = npnet.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(Adam(0.01), loss, kernels="numpy")
    return model


def stripes(n):
    """Pictures with vertical, horizontal or no stripes."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    down, across = np.tile([[0, 1]], (8, 4)), np.tile([[0], [1]], (4, 8))
    pictures = np.stack([down, across, np.full((8, 8), 0.5)])[y] + rng.normal(0, 0.2, (n, 8, 8))
    return pictures[..., None].astype("float32"), np.array(["down", "across", "none"])[y]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_convolutional_network_in_a_grid_search():
    pictures, labels = stripes(90)
    builders = [partial(convolving, filters=filters) for filters in (1, 6)]
    estimator = ModelClassifier(convolving, max_iter=15, batch_size=16, random_state=0)
    search = GridSearchCV(estimator, {"build": builders}, cv=2, error_score="raise").fit(pictures, labels)
    assert search.best_params_["build"] is builders[1]
    assert search.score(pictures, labels) > 0.95
    np.testing.assert_allclose(search.predict_proba(pictures).sum(axis=1), 1, rtol=1e-5)
    loaded = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(loaded.predict(pictures), search.predict(pictures))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("y", "outputs", "activation", "loss"),
    [
        (Y == 1, 1, "sigmoid", None),
        (Y == 1, 2, "softmax", None),
        (Y == 1, 2, "softmax", "categorical_crossentropy"),
        (Y == 1, 1, None, npnet.losses.BinaryCrossentropy(from_logits=True)),
        (LABELS, 3, "softmax", None),
        (LABELS, 3, "softmax", "categorical_crossentropy"),
        (LABELS, 3, "sigmoid", "binary_crossentropy"),
        (SEVERAL, 3, "sigmoid", None),
    ],
)
def test_models_compiled_and_not(y, outputs, activation, loss, monkeypatch):
    def build(input_shape, wanted):
        assert (input_shape, wanted) == ((4,), 1 if y.dtype == bool else 3)
        model = Sequential([Input(input_shape), Dense(outputs, activation)], dtype="float64")
        if loss is not None:
            model.compile(Adam(0.05), loss)
        return model

    monkeypatch.setattr(npnet.kernels, "_chosen_by_default", lambda: "numpy")
    epochs = 100 if y is SEVERAL else 30
    estimator = ModelClassifier(build, max_iter=epochs, batch_size=20, random_state=0).fit(X / 10, y)
    assert estimator.score(X / 10, y) > 0.6
    probabilities = estimator.predict_proba(X / 10)
    assert probabilities.shape == (200, 3 if outputs == 3 else 2)
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    if y is not SEVERAL:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    again = ModelClassifier(build, max_iter=epochs, batch_size=20, random_state=0).fit(X / 10, y)
    np.testing.assert_array_equal(again.predict_proba(X / 10), probabilities)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_model_stops_early_and_goes_on():
    estimator = ModelRegressor(regressing, early_stopping=True, batch_size=20, random_state=0)
    estimator.fit(X, NUMBERS)
    assert len(estimator.validation_scores_) == estimator.n_iter_ < 200
    assert estimator.score(X, NUMBERS) > 0.8
    seeds = npnet.utils.seeds._default_seed, npnet.utils.seeds._models
    warm = ModelRegressor(regressing, max_iter=2, warm_start=True).fit(X, NUMBERS)
    model = warm.model_
    assert warm.fit(X, NUMBERS).model_ is model and model.optimizer.iterations == 4
    assert (npnet.utils.seeds._default_seed, npnet.utils.seeds._models) == seeds


def test_what_cannot_be_built_is_refused():
    model = many_labels((4,), 3)
    with pytest.raises(TypeError, match="build must return a Sequential, got 5"):
        ModelClassifier(lambda shape, outputs: 5).fit(X, Y)
    with pytest.raises(TypeError, match="build must be a function, got 'build'"):
        ModelClassifier("build").fit(X, Y)
    with pytest.raises(ValueError, match=r"build\(\(4,\), 3\) must return a model of 3 outputs for this y"):
        ModelClassifier(lambda shape, outputs: many_labels(shape, 2)).fit(X, Y)
    estimator = ModelClassifier(lambda shape, outputs: model, max_iter=1)
    with pytest.warns(ConvergenceWarning):
        estimator.fit(X, Y)
    with pytest.raises(ValueError, match="build must return a new model in each call"):
        estimator.fit(X, Y)


@pytest.mark.parametrize(
    "estimator", [small, lambda **options: ModelClassifier(network, random_state=0, **options)]
)
def test_a_part_of_the_data_need_not_hold_every_weighted_class(estimator):
    net = estimator(class_weight={"north": 5.0})
    net.partial_fit(X, LABELS, classes=np.unique(LABELS))
    net.partial_fit(X[LABELS != "north"], LABELS[LABELS != "north"])
    unweighted = estimator().partial_fit(X, LABELS, classes=np.unique(LABELS))
    weighted = estimator(class_weight={"north": 5.0}).partial_fit(X, LABELS, classes=np.unique(LABELS))
    assert (weighted.predict_proba(X)[:, 1] > unweighted.predict_proba(X)[:, 1]).mean() > 0.6  # of the north
    first = estimator(class_weight={"north": 5.0})
    first.partial_fit(X[LABELS != "north"], LABELS[LABELS != "north"], classes=np.unique(LABELS))
    for call in (first.fit, first.partial_fit):
        first.class_weight = {"north": 5.0, "west": 2.0}
        with pytest.raises(ValueError, match="class_weight names the label 'west'; the classes are"):
            call(X, LABELS)


def test_a_learning_rate_of_0_is_refused():
    net = small(learning_rate_init=0)
    with pytest.raises(ValueError, match="learning_rate_init must be finite and positive, got 0"):
        net.fit(X, LABELS)
    assert not hasattr(net, "model_")


def network(input_shape, outputs):
    return Sequential([Input(input_shape), Dense(outputs, "softmax")])


@pytest.mark.parametrize("build", [Sequential, Sequential([Input((4,)), Dense(3, "softmax")])])
def test_a_model_is_no_function_that_builds_one(build):
    with pytest.raises(TypeError, match=r"build must be a function build\(input_shape, outputs\)"):
        ModelClassifier(build).fit(X, LABELS)
