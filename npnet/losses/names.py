"""Losses by name, and as functions: ``mse(y_true, y_pred)`` is one number a sample, as in Keras."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.internal import config
from npnet.losses.loss import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from npnet.losses.more import (
    BinaryFocalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    SquaredHinge,
)

__all__ = ["FUNCTIONS", "NAMES", "get"]

NAMES: dict[str, type[Loss]] = {
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "mape": MeanAbsolutePercentageError,
    "mean_squared_logarithmic_error": MeanSquaredLogarithmicError,
    "msle": MeanSquaredLogarithmicError,
    "huber": Huber,
    "log_cosh": LogCosh,
    "poisson": Poisson,
    "kl_divergence": KLDivergence,
    "cosine_similarity": CosineSimilarity,
    "hinge": Hinge,
    "squared_hinge": SquaredHinge,
    "categorical_hinge": CategoricalHinge,
    "binary_focal_crossentropy": BinaryFocalCrossentropy,
    "categorical_focal_crossentropy": CategoricalFocalCrossentropy,
}


def _function(name: str, cls: type[Loss]) -> Callable[..., np.ndarray]:
    """Return the function (y_true, y_pred, and the loss's own options) -> one number a sample."""

    def function(y_true: Any, y_pred: Any, **options: Any) -> Any:
        return cls(**options, reduction=None)(y_true, y_pred)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Return ``{cls.__name__}(**options, reduction=None)(y_true, y_pred)``."
    return function


FUNCTIONS = {name: _function(name, cls) for name, cls in NAMES.items()}


def get(identifier: Any) -> Loss:
    """Return the loss meant by a name, an instance, a class, a dict, or one of the functions."""
    for name, function in FUNCTIONS.items():
        if identifier is function:
            return NAMES[name]()
    if callable(identifier) and not isinstance(identifier, (Loss, type)):
        raise TypeError(
            "loss is a plain function, whose derivative npnet cannot know. Write a subclass of"
            " npnet.losses.Loss with values and gradient, and pass an instance of that."
        )
    return config.get("loss", identifier, Loss, NAMES)
