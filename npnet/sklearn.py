"""npnet as estimators of scikit-learn, for its pipelines, grid searches and scores.

``MLPClassifier`` and ``MLPRegressor`` have scikit-learn's names and parameters. ``ModelClassifier`` and
``ModelRegressor`` train a model that a function of yours builds, convolutions included: Model is what Keras
calls the thing, Classifier and Regressor is what scikit-learn calls its two kinds of estimator.

Not imported by ``import npnet``: write ``from npnet.sklearn import MLPClassifier``.

An estimator is one class of each pair below: where its model comes from, and what its targets are.

    _Perceptron, _Builder       make the model
    _Classifier, _Regressor     turn targets into the model's, and its outputs into predictions
    _Estimator                  the base of all: data, epochs, when to stop
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from npnet.callbacks import LambdaCallback, ProgbarLogger, TerminateOnNaN
from npnet.callbacks.callback import Callback, CallbackList, Logs
from npnet.internal import checks, config, processes
from npnet.layers import Dense, Input, activations
from npnet.losses import Crossentropy, SparseCategoricalCrossentropy
from npnet.models import Sequential
from npnet.optimizers import NAMES, SGD, Adam, Optimizer
from npnet.regularizers import L2
from npnet.training.batches import cut, epoch_order
from npnet.utils.seeds import seeded

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        "npnet.sklearn needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'"
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor", "ModelClassifier", "ModelRegressor"]

THEIR_NAMES = {"identity": "linear", "logistic": "sigmoid"}
ROWS_AT_ONCE = 1024  # of a prediction


@dataclass(repr=False, eq=False, kw_only=True)
class _Estimator(BaseEstimator):
    """Samples are checked, the model is trained epoch by epoch, and training ends by scikit-learn's rule."""

    batch_size: int | str = "auto"
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool = False
    warm_start: bool = False
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10

    _x_options = MappingProxyType[str, Any]({"dtype": (np.float64, np.float32)})  # what X must be
    _numeric = False  # whether targets must be numbers

    def __sklearn_tags__(self) -> Any:
        """Say that X may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # --- what the other classes give ----------------------------------------------------------------------

    def _make_model(self, X: Any, weight: np.ndarray) -> Sequential:
        """Return a new model for samples like X."""
        raise NotImplementedError

    def _compile(self) -> None:
        """Get the model ready for a call of ``fit``."""

    def _learn_targets(self, y: np.ndarray) -> None:
        """Remember what kind of targets y are; set ``n_outputs_``."""
        raise NotImplementedError

    def _check_targets(self, y: np.ndarray) -> None:
        """Refuse targets of another kind than those of the last fit."""
        raise NotImplementedError

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return the model's targets."""
        raise NotImplementedError

    def _decoded(self, outputs: np.ndarray) -> np.ndarray:
        """Return the predictions that outputs of the model stand for."""
        raise NotImplementedError

    def _score(self, y: np.ndarray, predictions: np.ndarray, weight: np.ndarray) -> float:
        """Return how good predictions are."""
        raise NotImplementedError

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        """Return what is to be held out in proportion."""
        return None

    def _weight_of_targets(self, y: np.ndarray, classes: Any) -> Any:
        """Return the weight that each sample has because of its target.

        ``classes``: the labels there are; None: those of y.
        """
        return 1.0

    @property
    def _loss_factor(self) -> float:
        """What the model's loss is multiplied by, to be the one that scikit-learn minimises."""
        return 1.0

    def _loss(self, logs: Logs) -> float:
        """Return the loss of an epoch as scikit-learn reports it."""
        return logs["loss"]

    # --- fit ----------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on samples X and targets y.

        Parameters
        ----------
        X
            Samples (N, D), an array or a sparse matrix, of which a batch at a time is made an array.
        y
            Targets: (N,), or (N, K) for several labels or numbers a sample.
        sample_weight
            One weight a sample, (N,): 2 is a sample given twice, 0 one left out.

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit.
        RuntimeError
            If the loss becomes NaN or infinite.
        """
        go_on = self.warm_start and hasattr(self, "model_")
        X, y = self._check(X, y, first=not go_on)
        weight = self._weight(sample_weight, y)
        epochs = checks.integer("max_iter", self.max_iter)
        random = self._random()
        if go_on:
            self._check_targets(y)
        else:
            self._learn_targets(y)
        held_out = None
        if self.early_stopping:
            rows, held = train_test_split(
                np.arange(len(y)),
                test_size=self.validation_fraction,
                stratify=self._stratify(y),
                random_state=random,
            )
            if len(held) < 2:
                raise ValueError(
                    f"early_stopping holds out {len(held)} of {len(y)} samples, which is too few to score:"
                    f" raise validation_fraction={self.validation_fraction} or give more samples."
                )
            held_out = X[held], y[held], weight[held]
            X, y, weight = X[rows], y[rows], weight[rows]
        if not go_on:
            self._begin(X, weight, random)
        elif self.early_stopping != (self.validation_scores_ is not None):
            self._watch()
        self._compile()
        try:
            self._train(X, y, weight, epochs, held_out)
        finally:
            if self._best_weights is not None:
                self.model_.set_weights(self._best_weights)
        if not self._settled:
            watched = "validation score" if self.early_stopping else "loss"
            warnings.warn(
                f"Training ended after max_iter={epochs} epochs before the {watched} settled."
                " Raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _partial_fit(
        self, X: Any, y: Any, sample_weight: Any, learn_targets: Callable, classes: Any = None
    ) -> Self:
        """Train for one epoch, going on from what was fitted before."""
        if self.early_stopping:
            raise ValueError("partial_fit has no early_stopping: set it to False, or call fit.")
        first = not hasattr(self, "model_")
        X, y = self._check(X, y, first)
        weight = self._weight(sample_weight, y, classes)
        if first:
            learn_targets(y)
            self._begin(X, weight, self._random())
            self._compile()
        self._train(X, y, weight, 1)
        return self

    def _check(self, X: Any, y: Any, first: bool) -> tuple[Any, np.ndarray]:
        """Return samples and targets, checked; the first ones say how many features there are."""
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, y_numeric=self._numeric, reset=first,
            **self._x_options,
        )  # fmt: skip
        if hasattr(y, "toarray"):
            y = y.toarray()
        return X, column_or_1d(y, warn=True) if y.shape[1:] == (1,) else y

    def _weight(self, sample_weight: Any, y: np.ndarray, classes: Any = None) -> np.ndarray:
        """Return one weight a sample."""
        weight = np.ones(len(y))
        if sample_weight is not None:
            weight = checks.sample_weight("sample_weight", sample_weight, len(y))
        weight = weight * self._weight_of_targets(y, classes)
        if not weight.any():
            raise ValueError("The weight is zero for every sample: there is nothing to learn from.")
        return weight

    def _random(self) -> np.random.RandomState:
        """Return where random numbers come from; without a seed the same in all processes of a training."""
        group = processes.group()
        if self.random_state is None and group.size > 1:
            return np.random.RandomState(group.random_seed())
        return check_random_state(self.random_state)

    def _begin(self, X: Any, weight: np.ndarray, random: np.random.RandomState) -> None:
        """Make a new model, of which nothing is known yet."""
        with seeded(random.randint(np.iinfo(np.int32).max)):
            self.model_ = self._make_model(X, weight)
        self.loss_curve_: list[float] = []
        self._watch()

    def _watch(self) -> None:
        """Begin to watch the loss, or the score on samples held out."""
        self.best_loss_: Any = None if self.early_stopping else np.inf
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.best_validation_score_: Any = -np.inf if self.early_stopping else None
        self._best_weights: list[np.ndarray] | None = None
        self._no_improvement_count = 0

    def _batch_size(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(200, n)
        return min(checks.integer("batch_size", self.batch_size), n)

    def _train(
        self, X: Any, y: np.ndarray, weight: np.ndarray, epochs: int, held_out: tuple | None = None
    ) -> None:
        """Train for so many more epochs, or until the loss settles."""
        self.n_iter_ = 0
        begun = len(self.loss_curve_)
        fit = self.model_.fit if isinstance(X, np.ndarray) else self._fit_sparse
        fit(
            X,
            self._targets(y),
            batch_size=self._batch_size(len(y)),
            epochs=begun + epochs,
            initial_epoch=begun,
            verbose=int(self.verbose),
            callbacks=[
                TerminateOnNaN(raise_error=True),
                LambdaCallback(on_epoch_end=lambda _, logs: self._end_epoch(logs, held_out)),
            ],
            shuffle=self.shuffle,
            sample_weight=weight * (self._loss_factor / weight.mean()),
        )

    def _fit_sparse(
        self,
        X: Any,
        y: np.ndarray,
        batch_size: int,
        epochs: int,
        initial_epoch: int,
        verbose: int,
        callbacks: list[Callback],
        shuffle: bool,
        sample_weight: np.ndarray,
    ) -> None:
        """Do what ``model.fit`` does, making an array of each batch's rows only."""
        model, n = self.model_, len(y)
        params = {"verbose": verbose, "epochs": epochs, "steps": -(-n // batch_size)}
        call = CallbackList([*callbacks, *([ProgbarLogger()] if verbose else [])], model, params)
        model.stop_training = False
        for epoch in range(initial_epoch, epochs):
            call("on_epoch_begin", epoch, {})
            means: Logs = {}
            for number, rows in enumerate(cut(epoch_order(n, shuffle, model.seed, epoch), batch_size)):
                logs: Any = model.train_on_batch(
                    X[rows].toarray(), y[rows], sample_weight[rows], return_dict=True
                )
                weight = sample_weight[rows].sum() / sample_weight.sum()
                for name, value in logs.items():
                    share = len(rows) / n if name == "loss" else weight
                    means[name] = means.get(name, 0.0) + value * share
                call("on_train_batch_end", number, logs)
            call("on_epoch_end", epoch, means)
            if model.stop_training:
                break

    def _end_epoch(self, logs: Logs, held_out: tuple | None) -> None:
        """Record the epoch, and stop by scikit-learn's rule.

        An epoch counts that is not better than the best so far by ``tol``, one that is begins the count anew,
        and training ends at the first count above ``n_iter_no_change``.
        """
        self.n_iter_ += 1
        self.loss_ = self._loss(logs)
        self.loss_curve_.append(self.loss_)
        if held_out is None:
            better = self.loss_ <= self.best_loss_ - self.tol
            self.best_loss_ = min(self.loss_, self.best_loss_)
        else:
            X, y, weight = held_out
            score = self._score(y, self._decoded(self._outputs(X)), weight)
            self.validation_scores_.append(score)
            better = score >= self.best_validation_score_ + self.tol
            if score > self.best_validation_score_:
                self.best_validation_score_, self._best_weights = score, self.model_.get_weights()
        self._no_improvement_count = 0 if better else self._no_improvement_count + 1
        self._settled = self._no_improvement_count > self.n_iter_no_change
        if self._settled:
            self.model_.stop_training = True

    # --- predict ------------------------------------------------------------------------------------------

    def predict(self, X: Any) -> np.ndarray:
        """Return the prediction for each sample: (N,), or (N, K) where there are several."""
        return self._decoded(self._checked_outputs(X))

    def _checked_outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._outputs(validate_data(self, X, accept_sparse="csr", reset=False, **self._x_options))

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the model's outputs, (N, K)."""
        predict = self.model_.predict
        if isinstance(X, np.ndarray):
            return predict(X, batch_size=ROWS_AT_ONCE, verbose=0)
        batches = cut(np.arange(X.shape[0]), ROWS_AT_ONCE)
        return np.concatenate([predict(X[rows].toarray(), len(rows), verbose=0) for rows in batches])


# --- targets ----------------------------------------------------------------------------------------------


class _Classifier(ClassifierMixin):
    """Targets are labels: one a sample, or several as columns of zeros and ones."""

    def __sklearn_tags__(self) -> Any:
        """Say that a sample may have several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch, going on from what was fitted before.

        Weights are taken relative to their mean over the samples of a call, as in ``fit``: it makes no
        difference where all of these have the same.

        Parameters
        ----------
        classes
            All labels there will ever be; the first call needs them, unless y is (N, K).

        Raises
        ------
        ValueError
            If the first call has no classes, a later one others, y holds a label that is none of them,
            ``class_weight`` is "balanced", of which a part of the data knows nothing, or ``early_stopping``
            is set: one epoch cannot be stopped early.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'partial_fit has no class_weight="balanced": it sees a part of the samples. Give a dict.'
            )
        if hasattr(self, "model_"):
            if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ValueError(f"classes were {self.classes_} in the first call, got {np.unique(classes)}.")
        elif classes is None and type_of_target(y) != "multilabel-indicator":
            raise ValueError("classes must list all labels in the first call of partial_fit.")
        known = getattr(self, "classes_", classes)
        return self._partial_fit(X, y, sample_weight, lambda y: self._learn_targets(y, classes), known)

    def _check(self, X: Any, y: Any, first: bool) -> tuple[Any, np.ndarray]:
        X, y = super()._check(X, y, first)
        check_classification_targets(y)
        if type_of_target(y) == "multiclass-multioutput":
            raise ValueError(
                "y must be labels (N,), or columns of zeros and ones (N, K), got several classes a column."
                " Wrap the estimator: sklearn.multioutput.MultiOutputClassifier(...)."
            )
        return X, y

    def _weight_of_targets(self, y: np.ndarray, classes: Any) -> Any:
        if self.class_weight is None:
            return 1.0
        if not isinstance(self.class_weight, dict) or y.ndim > 1:
            return compute_sample_weight(self.class_weight, y)
        # A part of the data need not hold every class, as scikit-learn's own function wants it to.
        classes = np.unique(y if classes is None else classes)
        weight = np.ones(len(y))
        for label, value in self.class_weight.items():
            if label not in classes:
                raise ValueError(f"class_weight names the label {label!r}; the classes are {classes}.")
            weight[y == label] = checks.number(f"class_weight[{label!r}]", value, 0)
        return weight

    def _learn_targets(self, y: np.ndarray, classes: Any = None) -> None:
        multilabel = y.ndim == 2
        classes = np.arange(y.shape[1]) if multilabel else np.unique(y if classes is None else classes)
        if len(classes) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {classes}.")
        self._multilabel, self.classes_ = multilabel, classes
        self.n_outputs_ = 1 if self._two_classes else len(self.classes_)

    @property
    def _two_classes(self) -> bool:
        return not self._multilabel and len(self.classes_) == 2

    def _check_targets(self, y: np.ndarray) -> None:
        classes = np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
        if self._multilabel != (y.ndim == 2) or set(self.classes_) != set(classes):
            raise ValueError(f"warm_start needs the classes of the last fit, {self.classes_}, got {classes}.")

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        return None if self._multilabel else y

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return y itself, or each label's place among the classes, one-hot where the loss wants that."""
        if self._multilabel != (y.ndim == 2) or (self._multilabel and y.shape[1] != len(self.classes_)):
            expected = f"(N, {len(self.classes_)})" if self._multilabel else "(N,)"
            raise ValueError(f"y must have the shape {expected} of the first fit, got {y.shape}.")
        if self._multilabel:
            return y
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds the labels {unknown}, which are not among the classes {self.classes_}."
            )
        places = np.searchsorted(self.classes_, y)
        by_place = isinstance(self.model_.loss, SparseCategoricalCrossentropy)
        return places if by_place or self.model_.output_shape == (1,) else np.eye(len(self.classes_))[places]

    def _probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probability of each class: what the loss takes for it, where the outputs are logits."""
        loss = self.model_.loss
        if isinstance(loss, Crossentropy) and loss.from_logits:
            outputs = activations.NAMES[loss.probabilities_from]().forward(outputs)
        if outputs.shape[1] == 1:
            return np.hstack([1 - outputs, outputs])
        if self._multilabel:
            return outputs
        total = outputs.sum(axis=1, keepdims=True)  # not 1 where a model has a sigmoid for each class
        return outputs / np.maximum(total, np.finfo(outputs.dtype).tiny)

    def _decoded(self, outputs: np.ndarray) -> np.ndarray:
        probabilities = self._probabilities(outputs)
        if self._multilabel:
            return (probabilities > 0.5).astype(int)
        return self.classes_[probabilities.argmax(axis=1)]

    def _score(self, y: np.ndarray, predictions: np.ndarray, weight: np.ndarray) -> float:
        return accuracy_score(y, predictions, sample_weight=weight)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, (N, number of classes), in the order of ``classes_``."""
        return self._probabilities(self._checked_outputs(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of ``predict_proba``; -inf where that is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _fits(self, outputs: tuple[int, ...]) -> bool:
        return outputs == (self.n_outputs_,) or (self._two_classes and outputs == (2,))

    def _default_loss(self, units: int) -> str:
        if self._multilabel or units == 1:
            return "binary_crossentropy"
        return "sparse_categorical_crossentropy"


class _Regressor(RegressorMixin):
    """Targets are numbers, one a sample or several."""

    _numeric = True

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch, going on from what was fitted before.

        Raises
        ------
        ValueError
            If y has another number of columns than before, or ``early_stopping`` is set: one epoch cannot be
            stopped early.
        """
        return self._partial_fit(X, y, sample_weight, self._learn_targets)

    def _learn_targets(self, y: np.ndarray) -> None:
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]

    def _check_targets(self, y: np.ndarray) -> None:
        """Leave it to ``_targets``."""

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if self.n_outputs_ != (1 if y.ndim == 1 else y.shape[1]):
            raise ValueError(f"y must have {self.n_outputs_} columns as in the first fit, got {y.shape}.")
        return y

    def _decoded(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def _score(self, y: np.ndarray, predictions: np.ndarray, weight: np.ndarray) -> float:
        return r2_score(y, predictions, sample_weight=weight)

    def _fits(self, outputs: tuple[int, ...]) -> bool:
        return outputs == (self.n_outputs_,)

    def _default_loss(self, units: int) -> str:
        return "mean_squared_error"


# --- models -----------------------------------------------------------------------------------------------


@dataclass(repr=False, eq=False)
class _Perceptron(_Estimator):
    """The model is a chain of Dense layers."""

    hidden_layer_sizes: Any = (100,)
    activation: Any = "relu"
    _: KW_ONLY
    solver: Any = "adam"
    alpha: float = 0.0001
    learning_rate_init: float = 0.001
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    kernels: str | None = None

    @property
    def _last_activation(self) -> str:
        raise NotImplementedError

    def _make_model(self, X: Any, weight: np.ndarray) -> Sequential:
        alpha = checks.number("alpha", self.alpha, least=0)
        checks.positive("learning_rate_init", self.learning_rate_init)
        penalty = L2(alpha / 2 / (self._batch_size(len(weight)) * weight.mean())) if alpha else None
        activation = THEIR_NAMES.get(self.activation, self.activation)
        hidden = [(units, activation) for units in np.atleast_1d(self.hidden_layer_sizes).tolist()]
        return Sequential(
            [
                Input(X.shape[1:]),
                *(
                    Dense(units, activation, kernel_regularizer=penalty)
                    for units, activation in [*hidden, (self.n_outputs_, self._last_activation)]
                ),
            ],
            dtype=X.dtype,
        )

    def _compile(self) -> None:
        """Give the model a new optimizer."""
        if self.solver == "sgd":
            optimizer: Optimizer = SGD(self.learning_rate_init, self.momentum, self.nesterovs_momentum)
        elif self.solver == "adam":
            optimizer = Adam(self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        else:
            optimizer = copy.deepcopy(config.get("solver", self.solver, Optimizer, NAMES))
            if isinstance(self.solver, str):
                optimizer.learning_rate = self.learning_rate_init
        loss = self._default_loss(self.n_outputs_)
        metrics = ["mse"] if self._numeric else []
        self.model_.compile(optimizer, loss, weighted_metrics=metrics, kernels=self.kernels)

    @property
    def n_layers_(self) -> int:
        """Layers, the input's counted as one."""
        return len(self.model_.layers) + 1

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer, (inputs, units)."""
        return self.model_.get_weights()[0::2]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer, (units,)."""
        return self.model_.get_weights()[1::2]


@dataclass(repr=False, eq=False)
class _Builder(_Estimator):
    """The model is what a function returns."""

    build: Callable[[tuple[int, ...], int], Sequential]

    _x_options = MappingProxyType[str, Any]({"dtype": "numeric", "allow_nd": True})

    def _make_model(self, X: Any, weight: np.ndarray) -> Sequential:
        shape, outputs = X.shape[1:], self.n_outputs_
        if isinstance(self.build, Sequential) or self.build is Sequential:
            raise TypeError(
                "build must be a function build(input_shape, outputs) that returns a new Sequential, got"
                f" {'a Sequential' if isinstance(self.build, Sequential) else 'the class Sequential'}: write"
                " lambda input_shape, outputs: Sequential([...])."
            )
        model = checks.function("build", self.build)(shape, outputs)
        if not isinstance(model, Sequential):
            raise TypeError(f"build must return a Sequential, got {model!r} ({type(model).__name__}).")
        if model is getattr(self, "model_", None):
            raise ValueError("build must return a new model in each call, got the one of the last fit.")
        if not model.built:
            model.build((None, *shape))
        if not self._fits(model.output_shape):
            raise ValueError(
                f"build({shape}, {outputs}) must return a model of {outputs} outputs for this y, got outputs"
                f" of shape {model.output_shape}."
            )
        if not model.compiled:
            model.compile("adam", self._default_loss(model.output_shape[-1]))
        return model


# --- the estimators ---------------------------------------------------------------------------------------


@dataclass(repr=False, eq=False)
class MLPClassifier(_Classifier, _Perceptron):
    """A multi-layer perceptron under scikit-learn's names, trained by npnet's kernels.

    Parameters mean what they mean in ``sklearn.neural_network.MLPClassifier``, except where a difference is
    stated. As there, two classes share one sigmoid unit, more have a softmax each, labels given as columns of
    zeros and ones (N, K) have a sigmoid each, X may be sparse, and arithmetic is in float32 where X is
    float32, else in float64.

    Parameters
    ----------
    hidden_layer_sizes
        Units of each hidden layer.
    activation
        Of the hidden layers: "identity", "logistic", "tanh", "relu" or any other of npnet's names.
    solver
        Name of an npnet optimizer ("adam", "sgd", "rmsprop", "adagrad", "adamw"), or one with settings of
        its own, ``AdamW(CosineDecay(1e-3, 10_000))``, for which ``learning_rate_init`` does not count.
        There is no "lbfgs".
    alpha
        L2 penalty: alpha / (2 n) times the sum of the squared weights, n the samples of a batch. Without it,
        alpha=0, training is faster: npnet's fused kernels have no penalty.
    batch_size
        Samples a step; "auto" is 200, or all where there are fewer.
    learning_rate_init
        The optimizer's learning rate.
    max_iter
        Epochs at most.
    shuffle
        Visit the samples in a new order each epoch.
    random_state
        Where all random numbers come from.
    tol, n_iter_no_change
        Training ends, at the epoch where scikit-learn's ends, when the loss (with ``early_stopping`` the
        accuracy on held-out samples) has not got better by ``tol`` for more than this many epochs.
    verbose
        Show npnet's progress line.
    warm_start
        Let ``fit`` go on from the weights of the last one.
    momentum, nesterovs_momentum
        Of ``solver="sgd"``.
    beta_1, beta_2, epsilon
        Of ``solver="adam"``.
    early_stopping, validation_fraction
        Hold out this fraction of the samples, the classes in proportion, and keep the weights best on it.
    kernels
        "numba" or "numpy", as in ``Sequential.compile``.
    class_weight
        {label: weight}, "balanced" for weights inverse to the classes' frequencies, or None; multiplied by
        ``sample_weight``. For labels as columns it is a list of dicts, or "balanced".

    Attributes
    ----------
    classes_
        The labels, sorted; the order of ``predict_proba``'s columns.
    n_features_in_, feature_names_in_
        Of X; the latter where it has names.
    n_outputs_
        Outputs of the model.
    n_iter_
        Epochs of the last fit.
    loss_curve_, loss_
        The loss of each epoch, and of the last.
    best_loss_
        The lowest of them; None with ``early_stopping``.
    n_layers_
        Layers, the input's counted as one.
    validation_scores_, best_validation_score_
        The held-out accuracy of each epoch and the highest, or None.
    coefs_, intercepts_
        The weights (inputs, units) and biases of each layer.
    model_
        The ``Sequential`` itself.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> pipeline = make_pipeline(StandardScaler(), MLPClassifier((512, 512), early_stopping=True))
    >>> pipeline.fit(X_train, y_train).score(X_test, y_test)
    """

    _: KW_ONLY
    class_weight: Any = None

    @property
    def _last_activation(self) -> str:
        return "sigmoid" if self._multilabel or self._two_classes else "softmax"

    @property
    def _loss_factor(self) -> float:
        return float(self.n_outputs_) if self._multilabel else 1.0


@dataclass(repr=False, eq=False)
class MLPRegressor(_Regressor, _Perceptron):
    """A multi-layer perceptron for numbers under scikit-learn's names, trained by npnet's kernels.

    It minimises half the squared error, summed over the outputs where y is (N, K), as scikit-learn does; as
    there, ``loss_curve_`` has the mean over the outputs.

    Parameters
    ----------
    hidden_layer_sizes, activation, ...
        Those of ``MLPClassifier``, but for ``class_weight``. With ``early_stopping`` the score on held-out
        samples is R2.

    Attributes
    ----------
    n_features_in_, n_outputs_, n_iter_, loss_curve_, coefs_, model_, ...
        Those of ``MLPClassifier``, but for ``classes_``.

    Examples
    --------
    >>> MLPRegressor((64,), early_stopping=True, random_state=0).fit(X_train, y_train).score(X_test, y_test)
    """

    @property
    def _last_activation(self) -> str:
        return "linear"

    @property
    def _loss_factor(self) -> float:
        return self.n_outputs_ / 2

    def _loss(self, logs: Logs) -> float:
        return logs["loss"] - (self.n_outputs_ - 1) / 2 * logs["mse"]


@dataclass(repr=False, eq=False)
class ModelClassifier(_Classifier, _Builder):
    """A classifier around any model: one that a function builds.

    Parameters
    ----------
    build
        A function ``build(input_shape, outputs)`` that returns a new ``Sequential``: ``input_shape`` is the
        shape of a sample, and ``outputs`` is 1 for two classes (2 are taken as well), K for more, and the
        number of columns where y is (N, K). The model may be compiled, with one of the cross-entropies; if
        it is not, it gets Adam and the cross-entropy that fits. Outputs are probabilities, or logits of a
        loss with ``from_logits=True``; those of a sigmoid for each class are scaled to a sum of 1.
    class_weight, batch_size, max_iter, shuffle, random_state, tol, n_iter_no_change, verbose, warm_start, ...
        Those of ``MLPClassifier``. Models without a seed of their own get one from ``random_state``.

    Attributes
    ----------
    classes_, n_features_in_, n_outputs_, n_iter_, loss_curve_, best_loss_, validation_scores_, model_, ...
        Those of ``MLPClassifier``, but for what belongs to its layers.

    Examples
    --------
    X may be pictures, (N, height, width, channels). A search goes over functions:

    >>> def small(input_shape, outputs, filters=8):
    ...     return Sequential([Input(input_shape), Conv2D(filters, 3, activation="relu"),
    ...                        MaxPooling2D(), Flatten(), Dense(outputs, "softmax")])
    >>> builders = [functools.partial(small, filters=filters) for filters in (8, 16)]
    >>> GridSearchCV(ModelClassifier(small), {"build": builders}).fit(pictures, labels)
    """

    _: KW_ONLY
    class_weight: Any = None


@dataclass(repr=False, eq=False)
class ModelRegressor(_Regressor, _Builder):
    """A regressor around any model: one that a function builds.

    Parameters
    ----------
    build
        A function ``build(input_shape, outputs)`` that returns a new ``Sequential``, as for
        ``ModelClassifier``; ``outputs`` is the number of columns of y. A model that is not compiled gets
        Adam and the mean squared error.
    batch_size, max_iter, shuffle, random_state, tol, n_iter_no_change, verbose, warm_start, ...
        Those of ``MLPRegressor``.

    Attributes
    ----------
    n_features_in_, n_outputs_, n_iter_, loss_curve_, best_loss_, validation_scores_, model_, ...
        Those of ``MLPRegressor``, but for what belongs to its layers.

    Examples
    --------
    >>> def build(input_shape, outputs):
    ...     model = Sequential([Input(input_shape), Dense(32, "gelu"), Dense(outputs)])
    ...     model.compile("adam", "huber")
    ...     return model
    >>> ModelRegressor(build, early_stopping=True).fit(X_train, y_train).predict(X_test)
    """
