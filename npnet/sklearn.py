"""npnet as an estimator of scikit-learn, for its pipelines, grid searches and scores.

Not imported by ``import npnet``: write ``from npnet.sklearn import MLPClassifier``.
"""

import copy
import warnings
from typing import Any, Self

import numpy as np

from npnet.callbacks import EarlyStopping, TerminateOnNaN
from npnet.internal import checks, config
from npnet.layers import Dense, Input
from npnet.models import Sequential
from npnet.optimizers import NAMES, SGD, Adam, Optimizer
from npnet.regularizers import L2

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "npnet.sklearn needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'"
    ) from error

__all__ = ["MLPClassifier"]

THEIR_NAMES = {"identity": "linear", "logistic": "sigmoid"}


class MLPClassifier(ClassifierMixin, BaseEstimator):
    """A multi-layer perceptron under scikit-learn's names, trained by npnet's kernels.

    Parameters mean what they mean in ``sklearn.neural_network.MLPClassifier``, except where a difference is
    stated. As there, two classes share one sigmoid unit, more have a softmax each, and arithmetic is in
    float32 where X is float32, else in float64.

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
        Training ends when the loss (with ``early_stopping`` the accuracy on held-out samples) has not got
        better by ``tol`` for this many epochs.
    verbose
        Show npnet's progress line.
    warm_start
        Let ``fit`` go on from the weights of the last one.
    momentum, nesterovs_momentum
        Of ``solver="sgd"``.
    beta_1, beta_2, epsilon
        Of ``solver="adam"``.
    early_stopping, validation_fraction
        Hold out this share of the samples, the classes in proportion, and keep the weights best on it.
    kernels
        "numba" or "numpy", as in ``Sequential.compile``.

    Attributes
    ----------
    classes_
        The labels, sorted; the order of ``predict_proba``'s columns.
    n_features_in_, feature_names_in_
        Of X; the latter where it has names.
    n_iter_
        Epochs of the last fit.
    loss_curve_, loss_
        The loss of each epoch, and of the last.
    best_loss_
        The lowest of them; None with ``early_stopping``.
    n_layers_
        Layers, the input's counted as one.
    validation_scores_
        The held-out accuracy of each epoch, or None.
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

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        kernels: str | None = None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.kernels = kernels

    # --- fit ----------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on samples X (N, D) and labels y (N,).

        Parameters
        ----------
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
        weight = self._check_weight(sample_weight, len(X))
        random = check_random_state(self.random_state)
        if not go_on:
            self.classes_ = np.unique(y)
            self._begin(X, weight, random)
        elif set(self.classes_) != set(y):
            raise ValueError(
                f"warm_start needs the classes of the last fit, {self.classes_}, got {np.unique(y)}."
            )
        self._compile()
        validation = None
        if self.early_stopping:
            rows, held = train_test_split(
                np.arange(len(X)), test_size=self.validation_fraction, stratify=y, random_state=random
            )
            validation = X[held], self._targets(y[held]), weight[held]
            X, y, weight = X[rows], y[rows], weight[rows]
        stopping = EarlyStopping(
            monitor="val_accuracy" if self.early_stopping else "loss",
            min_delta=self.tol,
            patience=self.n_iter_no_change,
            restore_best_weights=self.early_stopping,
        )
        self._train(X, y, weight, checks.integer("max_iter", self.max_iter), [stopping], validation)
        if not stopping.stopped_epoch:
            warnings.warn(
                f"Training ended after max_iter={self.max_iter} epochs before the {stopping.monitor} settled."
                " Raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch, going on from what was fitted before.

        Parameters
        ----------
        classes
            All labels there will ever be; the first call needs them.

        Raises
        ------
        ValueError
            If the first call has no classes, a later one others, y holds a label that is none of them, or
            ``early_stopping`` is set: one epoch cannot be stopped early.
        """
        if self.early_stopping:
            raise ValueError("partial_fit has no early_stopping: set it to False, or call fit.")
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError("classes must list all labels in the first call of partial_fit.")
        X, y = self._check(X, y, first)
        weight = self._check_weight(sample_weight, len(X))
        if first:
            self.classes_ = np.unique(classes)
            self._begin(X, weight, check_random_state(self.random_state))
            self._compile()
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes were {self.classes_} in the first call, got {np.unique(classes)}.")
        self._train(X, y, weight, 1)
        return self

    def _check(self, X: Any, y: Any, first: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return samples and labels, checked; the first ones say how many features there are."""
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), reset=first)
        check_classification_targets(y)
        return X, y

    def _check_weight(self, sample_weight: Any, n: int) -> np.ndarray:
        """Return one weight a sample."""
        if sample_weight is None:
            return np.ones(n)
        weight = checks.sample_weight("sample_weight", sample_weight, n)
        if not weight.any():
            raise ValueError("sample_weight is zero for every sample: there is nothing to learn from.")
        return weight

    def _begin(self, X: np.ndarray, weight: np.ndarray, random: np.random.RandomState) -> None:
        """Make a new model."""
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {self.classes_}.")
        alpha = checks.number("alpha", self.alpha, least=0)
        penalty = L2(alpha / 2 / (self._batch_size(len(X)) * weight.mean())) if alpha else None
        activation = THEIR_NAMES.get(self.activation, self.activation)
        sizes = np.atleast_1d(self.hidden_layer_sizes).tolist()
        last = (1, "sigmoid") if len(self.classes_) == 2 else (len(self.classes_), "softmax")
        self.model_ = Sequential(
            [
                Input((X.shape[1],)),
                *(
                    Dense(units, activation, kernel_regularizer=penalty)
                    for units, activation in [*((size, activation) for size in sizes), last]
                ),
            ],
            dtype=X.dtype,
            seed=random.randint(np.iinfo(np.int32).max),
        )
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None

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
        loss = "binary_crossentropy" if len(self.classes_) == 2 else "sparse_categorical_crossentropy"
        self.model_.compile(optimizer, loss, weighted_metrics=["accuracy"], kernels=self.kernels)

    def _batch_size(self, n: int) -> int:
        return (
            min(200, n)
            if self.batch_size == "auto"
            else min(checks.integer("batch_size", self.batch_size), n)
        )

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Return each label's place among the classes."""
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds the labels {unknown}, which are not among the classes {self.classes_}."
            )
        return np.searchsorted(self.classes_, y)

    def _train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray,
        epochs: int,
        callbacks: list[Any] | None = None,
        validation: tuple | None = None,
    ) -> None:
        """Train for so many more epochs and record them."""
        done = len(self.loss_curve_)
        history = self.model_.fit(
            X,
            self._targets(y),
            batch_size=self._batch_size(len(X)),
            epochs=done + epochs,
            initial_epoch=done,
            verbose=int(self.verbose),
            callbacks=[TerminateOnNaN(raise_error=True), *(callbacks or [])],
            validation_data=validation,
            shuffle=self.shuffle,
            sample_weight=weight / weight.mean(),
        )
        self.n_iter_ = len(history.epoch)
        self.loss_curve_ += history.history["loss"]
        self.loss_ = self.loss_curve_[-1]
        self.best_loss_ = None if self.early_stopping else min(self.loss_curve_)
        if validation is not None and self.validation_scores_ is not None:
            self.validation_scores_ += history.history["val_accuracy"]

    # --- predict ------------------------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, (N, number of classes), in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        y = self.model_.predict(X, batch_size=1024, verbose=0)
        return np.hstack([1 - y, y]) if len(self.classes_) == 2 else y

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of ``predict_proba``; -inf where that is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each sample, (N,)."""
        places = self.predict_proba(X).argmax(axis=1)
        return self.classes_[places]

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
