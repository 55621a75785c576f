"""Metrics by name."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet import losses
from npnet.internal import checks, config
from npnet.metrics import confusion, metric, more

__all__ = ["FUNCTIONS", "NAMES", "get"]

NAMES: dict[str, type[metric.Metric]] = {
    "accuracy": metric.CategoricalAccuracy,
    "acc": metric.CategoricalAccuracy,
    "categorical_accuracy": metric.CategoricalAccuracy,
    "sparse_categorical_accuracy": metric.SparseCategoricalAccuracy,
    "binary_accuracy": metric.BinaryAccuracy,
    "top_k_categorical_accuracy": metric.TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": metric.SparseTopKCategoricalAccuracy,
    "mean_squared_error": metric.MeanSquaredError,
    "mse": metric.MeanSquaredError,
    "mean_absolute_error": metric.MeanAbsoluteError,
    "mae": metric.MeanAbsoluteError,
    "mean_absolute_percentage_error": more.MeanAbsolutePercentageError,
    "mape": more.MeanAbsolutePercentageError,
    "mean_squared_logarithmic_error": more.MeanSquaredLogarithmicError,
    "msle": more.MeanSquaredLogarithmicError,
    "root_mean_squared_error": more.RootMeanSquaredError,
    "r2_score": more.R2Score,
    "cosine_similarity": more.CosineSimilarity,
    "log_cosh": more.LogCoshError,
    "poisson": more.Poisson,
    "kl_divergence": more.KLDivergence,
    "hinge": more.Hinge,
    "squared_hinge": more.SquaredHinge,
    "categorical_hinge": more.CategoricalHinge,
    "binary_crossentropy": more.BinaryCrossentropy,
    "categorical_crossentropy": more.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": more.SparseCategoricalCrossentropy,
    "mean": more.Mean,
    "auc": confusion.AUC,
    "precision": confusion.Precision,
    "recall": confusion.Recall,
    "f1_score": confusion.F1Score,
    "fbeta_score": confusion.FBetaScore,
    "true_positives": confusion.TruePositives,
    "false_positives": confusion.FalsePositives,
    "true_negatives": confusion.TrueNegatives,
    "false_negatives": confusion.FalseNegatives,
    "precision_at_recall": confusion.PrecisionAtRecall,
    "recall_at_precision": confusion.RecallAtPrecision,
    "sensitivity_at_specificity": confusion.SensitivityAtSpecificity,
    "specificity_at_sensitivity": confusion.SpecificityAtSensitivity,
    "mean_metric_wrapper": more.MeanMetricWrapper,
    "bce": more.BinaryCrossentropy,
    "BCE": more.BinaryCrossentropy,
    "MSE": metric.MeanSquaredError,
    "MAE": metric.MeanAbsoluteError,
    "MAPE": more.MeanAbsolutePercentageError,
    "MSLE": more.MeanSquaredLogarithmicError,
}


def _function(name: str) -> Callable[..., np.ndarray]:
    """Return the metric as a function (y_true, y_pred, and its own options) -> one number a sample."""

    def function(y_true: Any, y_pred: Any, **options: Any) -> np.ndarray:
        return NAMES[name](**options).values(checks.array("y_true", y_true), checks.predictions(y_pred))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return one number a sample of ``{NAMES[name].__name__}(**options)``."
    return function


ACCURACIES = [name for name in NAMES if name.endswith("_accuracy")]
FUNCTIONS = losses.FUNCTIONS | {name: _function(name) for name in ACCURACIES}


def get(identifier: Any, sparse: bool = False, outputs: int = 2) -> metric.Metric:
    """Return the metric meant by a name, an instance, a class, a dict, or a function (y_true, y_pred).

    "accuracy" and "acc" mean binary accuracy for one output, sparse categorical accuracy for integer
    labels, else categorical accuracy. A name given as a string is the metric's key in ``History``.
    """
    if isinstance(identifier, str) and identifier in ("accuracy", "acc"):
        if outputs == 1:
            return metric.BinaryAccuracy(identifier)
        accuracy = metric.SparseCategoricalAccuracy if sparse else metric.CategoricalAccuracy
        return accuracy(identifier)
    if callable(identifier) and not isinstance(identifier, (metric.Metric, type)):
        return more.MeanMetricWrapper(identifier)
    found = config.get("metric", identifier, metric.Metric, NAMES)
    if isinstance(identifier, str):
        found.name = identifier
    return found
