"""Metrics: what is reported beside the loss. Most are the (weighted) mean of one number a sample."""

from typing import Any, ClassVar

import numpy as np

from npnet.internal import checks, config, directions, results
from npnet.kernels import reference

__all__ = [
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
]


class Metric(config.Configurable):
    """Running mean over samples of ``values(y_true, y_pred)``.

    A subclass gives ``values``; or ``update_state``, ``result`` and ``reset_state``, and in ``state_names``
    the attributes that hold what ``update_state`` adds up.

    Parameters
    ----------
    name
        Key in ``History``; by default the metric's own.
    """

    changeable = ()  # those of a model have been copied
    key: str
    state_names: tuple[str, ...] = ("total", "count")
    results: ClassVar = {
        "values": results.rows_of("values", "one number a sample"),
        "result": results.numbers("result", "a number, or an array of numbers", shape=None),
    }

    @property
    def grows(self) -> bool | None:
        """True if more is better, False if less is, None if nobody knows: a metric of your own says it."""
        return directions.grows(self.key)

    @config.keras_arguments(dtype=None)
    def __init__(self, name: str | None = None):
        self.name = self.key if name is None else checks.text("name", name)
        try:
            self.reset_state()
        except AttributeError as error:
            raise AttributeError(
                f"{error}. Metric's constructor calls reset_state: set there the attributes in which"
                " update_state adds up, and name them in state_names."
            ) from error

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return one number a sample, shape (N,)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no values(y_true, y_pred), one number a sample, nor update_state,"
            " result and reset_state of its own."
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch."""
        values = self.values(checks.array("y_true", y_true), checks.predictions(y_pred))
        self._take_in(values, sample_weight)

    def _take_in(self, values: np.ndarray, sample_weight: Any) -> None:
        """Add one number a sample, or the mean of several."""
        # + 0.0: bool and integers become floats, as they do in the mean
        values = values + 0.0 if values.ndim == 1 else values.reshape(len(values), -1).mean(axis=1)
        if sample_weight is None:
            self.total += float(values.sum(dtype=np.float64))
            self.count += len(values)
        else:
            weight = checks.sample_weight("sample_weight", sample_weight, len(values))
            self.total += float((values * weight).sum(dtype=np.float64))
            self.count += float(weight.sum(dtype=np.float64))

    def result(self) -> Any:
        """Return the mean so far (0 before the first sample)."""
        return self.total / self.count if self.count else 0.0

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Take in a batch and return the result so far."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    @property
    def state(self) -> list[float]:
        """What has been added up, as plain numbers; assign to go on from there."""
        try:
            return [float(number) for name in self.state_names for number in np.ravel(getattr(self, name))]
        except AttributeError as error:
            raise AttributeError(
                f"{type(self).__name__} has no attribute {error.name!r}. Name in state_names, a tuple of the"
                " class, the attributes that hold what update_state adds up."
            ) from error

    @state.setter
    def state(self, numbers: list[float]) -> None:
        if len(numbers) != len(self.state_names):
            raise ValueError(
                f"{self.name} adds up {', '.join(self.state_names)}, got {len(numbers)} numbers."
            )
        for name, number in zip(self.state_names, numbers, strict=True):
            setattr(self, name, number)

    def reset_state(self) -> None:
        """Forget all samples."""
        self.total = 0.0
        self.count: float = 0


class CategoricalAccuracy(Metric):
    """Share of samples whose largest output is the target's largest."""

    key = "categorical_accuracy"

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return True where the two agree."""
        return checks.like_outputs("y_true", y_true, y_pred).argmax(axis=-1) == y_pred.argmax(axis=-1)


class SparseCategoricalAccuracy(Metric):
    """Share of samples whose largest output is at the label, y_true of shape (N,) or (N, 1)."""

    key = "sparse_categorical_accuracy"

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return True where the two agree."""
        labels = checks.flat("y_true", y_true)
        checks.same_length("y_true", labels, "y_pred", y_pred)
        return labels == y_pred.argmax(axis=-1)


class BinaryAccuracy(Metric):
    """Share of outputs on the target's side of the threshold."""

    key = "binary_accuracy"

    @config.keras_arguments(dtype=None)
    def __init__(self, name: str | None = None, threshold: float = 0.5):
        super().__init__(name)
        self.threshold = checks.number("threshold", threshold)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the share of each sample's outputs."""
        return ((y_pred > self.threshold) == checks.like_outputs("y_true", y_true, y_pred)).mean(axis=-1)


class TopKCategoricalAccuracy(Metric):
    """Share of samples whose target is among the k largest outputs (ties count for the sample)."""

    key = "top_k_categorical_accuracy"

    @config.keras_arguments(dtype=None)
    def __init__(self, k: int = 5, name: str | None = None):
        super().__init__(name)
        self.k = checks.integer("k", k)

    def labels(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the label of each sample."""
        return checks.like_outputs("y_true", y_true, y_pred).argmax(axis=-1)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return True where fewer than k outputs exceed the target's. NaN exceeds and is exceeded."""
        labels = self.labels(y_true, y_pred)
        inside = (labels >= 0) & (labels < y_pred.shape[-1])  # a label of an ignored class may not be
        target = np.take_along_axis(y_pred, np.where(inside, labels, 0)[..., None], axis=-1)
        return inside & ((~(y_pred <= target)).sum(axis=-1) < self.k)


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """The same for integer labels, shape (N,) or (N, 1)."""

    key = "sparse_top_k_categorical_accuracy"

    @config.keras_arguments(from_sorted_ids=False)
    def __init__(self, k: int = 5, name: str | None = None, **options: Any):
        super().__init__(k, name, **options)

    def labels(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the labels as one axis of integers."""
        labels = checks.labels("y_true", checks.flat("y_true", y_true))
        checks.same_length("y_true", labels, "y_pred", y_pred)
        return labels


class MeanSquaredError(Metric):
    """Mean of (y_pred - y_true)^2."""

    key = "mean_squared_error"

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean over each sample's outputs."""
        return reference.mean_squared_error_forward(checks.like_outputs("y_true", y_true, y_pred), y_pred)


class MeanAbsoluteError(Metric):
    """Mean of |y_pred - y_true|."""

    key = "mean_absolute_error"

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean over each sample's outputs."""
        return reference.mean_absolute_error_forward(checks.like_outputs("y_true", y_true, y_pred), y_pred)
