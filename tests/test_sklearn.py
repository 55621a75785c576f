"""The scikit-learn estimator: scikit-learn's own checks, and what they do not look at."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from npnet.optimizers import Adam, AdamW
from npnet.sklearn import MLPClassifier

X, Y = make_blobs(200, centers=3, n_features=4, random_state=0)
LABELS = np.array(["north", "east", "south"])[Y]


def small(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (8,), "random_state": 0, "kernels": "numpy", **options})


def fitted(x=X, y=LABELS, sample_weight=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return small(**options).fit(x, y, sample_weight)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([MLPClassifier(max_iter=20, kernels="numpy")])
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
    with pytest.raises(ValueError, match="at least two classes, got one class"):
        small().fit(X, np.zeros(200))


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
