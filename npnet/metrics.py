"""Metrics: what is reported beside the loss. Each is the (weighted) mean of one number a sample."""

from typing import Any

import numpy as np

from npnet.internal import checks, config, directions
from npnet.kernels import reference

__all__ = [
    "NAMES",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Means",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "get",
]


class Metric(config.Configurable):
    """Running mean over samples of ``values(y_true, y_pred)``.

    Parameters
    ----------
    name
        Key in ``History``; by default the metric's own.
    """

    key: str

    @property
    def grows(self) -> bool | None:
        """True if more is better, False if less is, None if nobody knows: a metric of your own says it."""
        return directions.grows(self.key)

    @config.keras_arguments(dtype=None)
    def __init__(self, name: str | None = None):
        self.name = self.key if name is None else checks.text("name", name)
        self.reset_state()

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return one number a sample, shape (N,)."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch."""
        values = self.values(checks.array("y_true", y_true), checks.predictions(y_pred))
        values = values.reshape(len(values), -1).mean(
            axis=1
        )  # one number a sample, whatever the output's shape
        if sample_weight is None:
            self.total += float(values.sum(dtype=np.float64))
            self.count += len(values)
        else:
            weight = checks.sample_weight("sample_weight", sample_weight, len(values))
            self.total += float((values * weight).sum(dtype=np.float64))
            self.count += float(weight.sum(dtype=np.float64))

    def result(self) -> float:
        """Return the mean so far (0 before the first sample)."""
        return self.total / self.count if self.count else 0.0

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
        target = np.take_along_axis(y_pred, np.where(inside, labels, 0)[:, None], axis=-1)
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


class Means:
    """Running means over an epoch: the loss, weighted by samples, and the metrics."""

    def __init__(self, plain: list[Metric], weighted: list[Metric]):
        self.plain, self.weighted = plain, weighted
        self.total = 0.0
        self.count: float = 0
        for metric in (*plain, *weighted):
            metric.reset_state()

    def update(self, loss: float, y: np.ndarray, y_pred: np.ndarray, weight: np.ndarray | None) -> None:
        """Take in a batch."""
        self.total += loss * len(y_pred)
        self.count += len(y_pred)
        for metric in self.plain:
            metric.update_state(y, y_pred)
        for metric in self.weighted:
            metric.update_state(y, y_pred, weight)

    def sums(self) -> dict[str, list[float]]:
        """Return what has been added up so far: name -> [total, count]."""
        metrics = {metric.name: [metric.total, metric.count] for metric in (*self.plain, *self.weighted)}
        return {"loss": [self.total, self.count]} | metrics

    def resume(self, sums: dict[str, list[float]]) -> None:
        """Go on from what ``sums`` returned."""
        self.total, self.count = sums["loss"]
        for metric in (*self.plain, *self.weighted):
            metric.total, metric.count = sums[metric.name]

    def logs(self) -> dict[str, float]:
        """Return the means by name, in alphabetical order as Keras reports them."""
        values = {metric.name: metric.result() for metric in (*self.plain, *self.weighted)}
        values["loss"] = self.total / self.count if self.count else 0.0
        return dict(sorted(values.items()))

    def reported(self, return_dict: bool) -> float | list[float] | dict[str, float]:
        """Return the means as Keras's evaluate does: the loss, or [loss, metric, ...], or a dict."""
        logs = self.logs()
        if return_dict:
            return logs
        values = [logs[name] for name in self.sums()]
        return values if len(values) > 1 else values[0]


NAMES: dict[str, type[Metric]] = {
    "accuracy": CategoricalAccuracy,
    "acc": CategoricalAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "binary_accuracy": BinaryAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
}


def get(identifier: Any, sparse: bool = False, outputs: int = 2) -> Metric:
    """Return the metric meant by a name, an instance or a dict.

    "accuracy" and "acc" mean binary accuracy for one output, sparse categorical accuracy for integer
    labels, else categorical accuracy. A name given as a string is the metric's key in ``History``.
    """
    if isinstance(identifier, str) and identifier in ("accuracy", "acc"):
        if outputs == 1:
            return BinaryAccuracy(identifier)
        return SparseCategoricalAccuracy(identifier) if sparse else CategoricalAccuracy(identifier)
    metric = config.get("metric", identifier, Metric, NAMES)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric
