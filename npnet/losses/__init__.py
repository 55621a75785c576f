"""Losses: how wrong the predictions are."""

from npnet.losses.loss import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Crossentropy,
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
    Pointwise,
    Poisson,
    RowLoss,
    SquaredHinge,
)
from npnet.losses.names import FUNCTIONS, NAMES, get

__all__ = [  # noqa: RUF022 (the functions by themselves)
    "NAMES", "BinaryCrossentropy", "BinaryFocalCrossentropy", "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy", "CategoricalHinge", "CosineSimilarity", "Crossentropy", "Hinge", "Huber",
    "KLDivergence", "LogCosh", "Loss", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError", "MeanSquaredLogarithmicError", "Pointwise", "Poisson", "RowLoss",
    "SparseCategoricalCrossentropy", "SquaredHinge", "get",
    # the functions
    "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_hinge", "cosine_similarity", "hinge", "huber",
    "kl_divergence", "log_cosh", "mae", "mape", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_error", "mean_squared_logarithmic_error", "mse", "msle", "poisson",
    "sparse_categorical_crossentropy", "squared_hinge",
]  # fmt: skip

globals().update(FUNCTIONS)
