"""Metrics that are means of a loss or of a function of one's own, and those that add up something else."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet import losses
from npnet.internal import checks, config
from npnet.metrics.metric import Metric

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsolutePercentageError",
    "MeanMetricWrapper",
    "MeanOfLoss",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "R2Score",
    "RootMeanSquaredError",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Summed",
]


# --- means of losses ----------------------------------------------------------------------------------------


class MeanOfLoss(Metric):
    """The mean over samples of a loss. Subclasses say of which."""

    loss: type[losses.Loss]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the loss: those that the metric takes as well."""
        return {name: value for name, value in self.get_config().items() if name != "name"}

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the loss of each sample."""
        loss = self.loss(**self.options)
        return loss.values(loss.targets(y_true, y_pred), y_pred)


class MeanAbsolutePercentageError(MeanOfLoss):
    """Mean of 100 |y_pred - y_true| / |y_true|."""

    key, loss = "mean_absolute_percentage_error", losses.MeanAbsolutePercentageError


class MeanSquaredLogarithmicError(MeanOfLoss):
    """Mean of (log(1 + y_pred) - log(1 + y_true))^2."""

    key, loss = "mean_squared_logarithmic_error", losses.MeanSquaredLogarithmicError


class LogCoshError(MeanOfLoss):
    """Mean of log cosh(y_pred - y_true)."""

    key, loss = "logcosh", losses.LogCosh


class Poisson(MeanOfLoss):
    """Mean of y_pred - y_true log y_pred."""

    key, loss = "poisson", losses.Poisson


class KLDivergence(MeanOfLoss):
    """Mean of sum_k t_k log(t_k / p_k)."""

    key, loss = "kl_divergence", losses.KLDivergence


class Hinge(MeanOfLoss):
    """Mean of max(1 - t y_pred, 0)."""

    key, loss = "hinge", losses.Hinge


class SquaredHinge(MeanOfLoss):
    """Mean of max(1 - t y_pred, 0)^2."""

    key, loss = "squared_hinge", losses.SquaredHinge


class CategoricalHinge(MeanOfLoss):
    """Mean of the best wrong output's margin over the right one's."""

    key, loss = "categorical_hinge", losses.CategoricalHinge


class CosineSimilarity(MeanOfLoss):
    """Mean of the cosine of the angle between y_true and y_pred: 1 where they point the same way."""

    key, loss = "cosine_similarity", losses.CosineSimilarity

    @config.keras_arguments(dtype=None, axis=-1)
    def __init__(self, name: str | None = None):
        super().__init__(name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the cosine of each sample: the loss is minus that."""
        return -super().values(y_true, y_pred)


class BinaryCrossentropy(MeanOfLoss):
    """Mean of -t log p - (1-t) log(1-p)."""

    key: str = "binary_crossentropy"
    loss: type[losses.Loss] = losses.BinaryCrossentropy

    @config.keras_arguments(dtype=None, axis=-1)
    def __init__(self, name: str | None = None, from_logits: bool = False, label_smoothing: float = 0.0):
        super().__init__(name)
        self.from_logits = checks.flag("from_logits", from_logits)
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)


class CategoricalCrossentropy(BinaryCrossentropy):
    """Mean of -sum_k t_k log p_k for one-hot targets."""

    key, loss = "categorical_crossentropy", losses.CategoricalCrossentropy


class SparseCategoricalCrossentropy(MeanOfLoss):
    """Mean of -log p[label]; samples with the label ``ignore_class`` do not count."""

    key, loss = "sparse_categorical_crossentropy", losses.SparseCategoricalCrossentropy

    @config.keras_arguments(dtype=None, axis=-1)
    def __init__(self, name: str | None = None, from_logits: bool = False, ignore_class: int | None = None):
        super().__init__(name)
        self.from_logits = checks.flag("from_logits", from_logits)
        if ignore_class is not None:
            checks.integer("ignore_class", ignore_class, least=-(2**63))
        self.ignore_class = ignore_class

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch without the samples of the ignored class."""
        if self.ignore_class is not None:
            y_pred = checks.predictions(y_pred)
            counts = checks.flat("y_true", y_true) != self.ignore_class
            if not counts.any():
                return
            y_true, y_pred = np.asarray(y_true)[counts], y_pred[counts]
            sample_weight = None if sample_weight is None else np.asarray(sample_weight)[counts]
        super().update_state(y_true, y_pred, sample_weight)


# --- means of other things ----------------------------------------------------------------------------------


class MeanMetricWrapper(Metric):
    """The mean over samples of a function (y_true, y_pred): what ``metrics=[function]`` stands for.

    Parameters
    ----------
    fn
        Returns one number or more a sample, or one for the batch, which counts once.
    name
        By default the function's.

    Notes
    -----
    A saved model holds the function's name; ``load_model`` finds it among ``custom_objects`` and the
    functions of ``npnet.losses``.
    """

    @config.keras_arguments(dtype=None)
    def __init__(self, fn: Callable[..., Any] | str, name: str | None = None):
        if isinstance(fn, str):
            fn = config.lookup("metric function", fn, losses.FUNCTIONS)
        self.fn = checks.function("fn", fn)
        self.key = getattr(fn, "__name__", type(fn).__name__)
        super().__init__(name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch."""
        values = np.asarray(self.fn(checks.array("y_true", y_true), checks.predictions(y_pred)))
        if values.dtype.kind not in "buif":
            raise TypeError(
                f"{self.name} must return one number a sample or one for the batch, got {values}."
            )
        if values.ndim == 0 and sample_weight is None:
            self.total, self.count = self.total + float(values), self.count + 1
        elif len(np.atleast_1d(values)) != len(y_pred):
            raise ValueError(
                f"{self.name} must return one number a sample ({len(y_pred)}), got shape {values.shape}."
            )
        else:
            self._take_in(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the function's name and the metric's."""
        return {"fn": getattr(self.fn, "__name__", self.key), "name": self.name}


class Mean(Metric):
    """The mean of numbers: ``update_state(values)`` takes a number or an array."""

    key = "mean"

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Take in one number, or one or more a sample; one weight is that of all."""
        values = np.atleast_1d(checks.numbers("values", values))
        if sample_weight is not None and np.ndim(sample_weight) == 0:
            sample_weight = np.full(len(values), sample_weight)
        self._take_in(values, sample_weight)

    def __call__(self, values: Any, sample_weight: Any = None) -> float:  # type: ignore[override]
        """Take in numbers and return the mean so far."""
        self.update_state(values, sample_weight)
        return self.result()


class RootMeanSquaredError(Metric):
    """Root of the mean of (y_pred - y_true)^2."""

    key = "root_mean_squared_error"

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean square of each sample's outputs."""
        return np.square(y_pred - checks.like_outputs("y_true", y_true, y_pred)).mean(axis=-1)

    def result(self) -> float:
        """Return the root of the mean so far."""
        return float(np.sqrt(super().result()))


# --- sums of their own --------------------------------------------------------------------------------------


class Summed(Metric):
    """Adds up a table of numbers over samples. Subclasses give ``addends`` and ``result``.

    Attributes
    ----------
    rows
        Rows of the table; its columns are those of the first addends.
    sums
        What has been added up.
    """

    rows: int
    sums: np.ndarray
    state_names = ("sums",)

    def addends(self, y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return what a batch adds, (rows, columns), of y (N, K); ``weight`` (N, 1) is each sample's."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch."""
        y_pred = checks.predictions(y_pred)
        y_true = checks.like_outputs("y_true", checks.array("y_true", y_true), y_pred)
        weight = np.ones(len(y_pred))
        if sample_weight is not None:
            weight = checks.sample_weight("sample_weight", sample_weight, len(y_pred)).astype(np.float64)
        # Of pictures and sequences each place counts, with the weight of its sample.
        places, units = y_pred[0, ..., 0].size, y_pred.shape[-1]
        y_true, y_pred = y_true.reshape(-1, units), y_pred.reshape(-1, units)
        self.sums = self.sums + self.addends(y_true, y_pred, np.repeat(weight, places)[:, None])

    def reset_state(self) -> None:
        """Forget all samples."""
        self.sums = np.zeros((self.rows, 1))

    @property
    def state(self) -> list[float]:
        """The table, row by row; assign to go on from there."""
        return [float(number) for number in self.sums.ravel()]

    @state.setter
    def state(self, numbers: list[float]) -> None:
        if not numbers or len(numbers) % self.rows:
            raise ValueError(f"{self.name} adds up {self.rows} rows, got {len(numbers)} numbers.")
        self.sums = np.array(numbers, np.float64).reshape(self.rows, -1)


class R2Score(Summed):
    """1 - sum of (y_pred - y_true)^2 / sum of (y_true - mean)^2: 1 is perfect, 0 as good as the mean.

    Parameters
    ----------
    class_aggregation
        Of several outputs: "uniform_average", "variance_weighted_average", or None for one number each.
    num_regressors
        Of the model's inputs, for the adjusted score; 0 for the plain one.
    """

    key = "r2_score"
    rows = 5  # sums of w y, w y^2, w (y_pred - y)^2, w and 1

    @config.keras_arguments(dtype=None)
    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = None,
    ):
        super().__init__(name)
        if class_aggregation is not None:
            known = dict.fromkeys(("uniform_average", "variance_weighted_average"))
            config.lookup("class_aggregation", class_aggregation, known)
        self.class_aggregation = class_aggregation
        self.num_regressors = checks.integer("num_regressors", num_regressors, least=0)

    def addends(self, y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return what a batch adds."""
        y = y_true.astype(np.float64)
        parts = weight * y, weight * y * y, weight * np.square(y_pred - y), weight + 0 * y, 1 + 0 * y
        return np.stack([part.sum(axis=0) for part in parts])

    def result(self) -> Any:
        """Return the score so far (0 before the first sample)."""
        y, square, error, weight, count = self.sums
        if not weight.any():
            return 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            total = square - y * y / weight
            scores = 1 - error / total
        scores = np.where(np.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = (total * scores).sum() / total.sum()
        samples = count.sum()
        if self.num_regressors:
            if self.num_regressors >= samples - 1:
                checks.warn(
                    f"{self.name} of {samples:g} numbers cannot be adjusted for {self.num_regressors}"
                    " regressors: it is the plain score."
                )
            else:
                scores = 1 - (1 - scores) * (samples - 1) / (samples - self.num_regressors - 1)
        return scores if np.ndim(scores) else float(scores)
