"""Whether more or less of a value is better, by the name under which it is reported."""

__all__ = ["LESS", "MORE", "grows"]

# The names of npnet's metrics and of Keras's.
MORE = frozenset({
    "acc", "accuracy", "auc", "binary_io_u", "cosine_similarity", "f1_score", "fbeta_score", "io_u",
    "mean_io_u", "one_hot_io_u", "one_hot_mean_io_u", "precision", "precision_at_recall", "r2_score",
    "recall", "recall_at_precision", "sensitivity_at_specificity", "specificity_at_sensitivity",
    "true_negatives", "true_positives",
})  # fmt: skip
LESS = frozenset({
    "bce", "binary_crossentropy", "categorical_crossentropy", "categorical_hinge", "false_negatives",
    "false_positives", "hinge", "kl_divergence", "log_cosh", "logcosh", "loss", "mae", "mape",
    "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "mse", "msle", "poisson", "rmse", "root_mean_squared_error",
    "sparse_categorical_crossentropy", "squared_hinge",
})  # fmt: skip


def grows(name: str) -> bool | None:
    """Return True if more is better, False if less is, None if the name does not say.

    ``val_`` before a name and capital letters change nothing, and every name that ends in "accuracy" or
    "acc" is an accuracy.
    """
    name = name.removeprefix("val_").lower()
    if name in MORE or name.endswith(("_accuracy", "_acc")):
        return True
    return False if name in LESS else None
