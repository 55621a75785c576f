"""Metrics by name."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet import losses
from npnet.internal import checks, config
from npnet.metrics.confusion import (
    AUC,
    F1Score,
    FalseNegatives,
    FalsePositives,
    FBetaScore,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from npnet.metrics.metric import (
    BinaryAccuracy,
    CategoricalAccuracy,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from npnet.metrics.more import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    Mean,
    MeanAbsolutePercentageError,
    MeanMetricWrapper,
    MeanSquaredLogarithmicError,
    Poisson,
    R2Score,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)

__all__ = ["FUNCTIONS", "NAMES", "get"]

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
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "mape": MeanAbsolutePercentageError,
    "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
    "msle": MeanSquaredLogarithmicError,
    "root_mean_squared_error": RootMeanSquaredError,
    "r2_score": R2Score,
    "cosine_similarity": CosineSimilarity,
    "log_cosh": LogCoshError,
    "poisson": Poisson,
    "kl_divergence": KLDivergence,
    "hinge": Hinge,
    "squared_hinge": SquaredHinge,
    "categorical_hinge": CategoricalHinge,
    "binary_crossentropy": BinaryCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "mean": Mean,
    "auc": AUC,
    "precision": Precision,
    "recall": Recall,
    "f1_score": F1Score,
    "fbeta_score": FBetaScore,
    "true_positives": TruePositives,
    "false_positives": FalsePositives,
    "true_negatives": TrueNegatives,
    "false_negatives": FalseNegatives,
    "precision_at_recall": PrecisionAtRecall,
    "recall_at_precision": RecallAtPrecision,
    "sensitivity_at_specificity": SensitivityAtSpecificity,
    "specificity_at_sensitivity": SpecificityAtSensitivity,
    "mean_metric_wrapper": MeanMetricWrapper,
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


def get(identifier: Any, sparse: bool = False, outputs: int = 2) -> Metric:
    """Return the metric meant by a name, an instance, a class, a dict, or a function (y_true, y_pred).

    "accuracy" and "acc" mean binary accuracy for one output, sparse categorical accuracy for integer
    labels, else categorical accuracy. A name given as a string is the metric's key in ``History``.
    """
    if isinstance(identifier, str) and identifier in ("accuracy", "acc"):
        if outputs == 1:
            return BinaryAccuracy(identifier)
        return SparseCategoricalAccuracy(identifier) if sparse else CategoricalAccuracy(identifier)
    if callable(identifier) and not isinstance(identifier, (Metric, type)):
        return MeanMetricWrapper(identifier)
    metric = config.get("metric", identifier, Metric, NAMES)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric
