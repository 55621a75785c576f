"""Losses by name, and as functions: ``mse(y_true, y_pred)`` is one number a sample, as in Keras."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.internal import config
from npnet.losses import loss, more

__all__ = ["ABBREVIATIONS", "FUNCTIONS", "NAMES", "get"]

NAMES: dict[str, type[loss.Loss]] = {
    "categorical_crossentropy": loss.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": loss.SparseCategoricalCrossentropy,
    "binary_crossentropy": loss.BinaryCrossentropy,
    "mean_squared_error": loss.MeanSquaredError,
    "mse": loss.MeanSquaredError,
    "mean_absolute_error": loss.MeanAbsoluteError,
    "mae": loss.MeanAbsoluteError,
    "mean_absolute_percentage_error": more.MeanAbsolutePercentageError,
    "mape": more.MeanAbsolutePercentageError,
    "mean_squared_logarithmic_error": more.MeanSquaredLogarithmicError,
    "msle": more.MeanSquaredLogarithmicError,
    "huber": more.Huber,
    "log_cosh": more.LogCosh,
    "poisson": more.Poisson,
    "kl_divergence": more.KLDivergence,
    "cosine_similarity": more.CosineSimilarity,
    "hinge": more.Hinge,
    "squared_hinge": more.SquaredHinge,
    "categorical_hinge": more.CategoricalHinge,
    "binary_focal_crossentropy": more.BinaryFocalCrossentropy,
    "categorical_focal_crossentropy": more.CategoricalFocalCrossentropy,
}
ABBREVIATIONS: dict[str, type[loss.Loss]] = {  # names that are no functions of Keras's
    "bce": loss.BinaryCrossentropy,
    "BCE": loss.BinaryCrossentropy,
    "kld": more.KLDivergence,
    "KLD": more.KLDivergence,
    "MSE": loss.MeanSquaredError,
    "MAE": loss.MeanAbsoluteError,
    "MAPE": more.MeanAbsolutePercentageError,
    "MSLE": more.MeanSquaredLogarithmicError,
}


def _function(name: str, cls: type[loss.Loss]) -> Callable[..., np.ndarray]:
    """Return the function (y_true, y_pred, and the loss's own options) -> one number a sample."""

    def function(y_true: Any, y_pred: Any, **options: Any) -> Any:
        return cls(**options, reduction=None)(y_true, y_pred)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return ``{cls.__name__}(**options, reduction=None)(y_true, y_pred)``."
    return function


FUNCTIONS = {name: _function(name, cls) for name, cls in NAMES.items()}


def get(identifier: Any) -> loss.Loss:
    """Return the loss meant by a name, an instance, a class, a dict, or one of the functions."""
    for name, function in FUNCTIONS.items():
        if identifier is function:
            return NAMES[name]()
    if callable(identifier) and not isinstance(identifier, (loss.Loss, type)):
        raise TypeError(
            "loss is a plain function, whose derivative npnet cannot know. Write a subclass of"
            " npnet.losses.Loss with values and gradient, and pass an instance of that."
        )
    return config.get("loss", identifier, loss.Loss, NAMES | ABBREVIATIONS)
