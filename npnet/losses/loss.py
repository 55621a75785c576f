"""Losses: how wrong the predictions are, and in which direction each should move.

A loss gives one number a sample, multiplies it by the sample's weight and reduces: by default to the sum
over the batch divided by the number of samples. The formulas are in ``kernels.reference``. These are the
losses of most networks; ``more.py`` has the others, ``names.py`` the names of all.
"""

from typing import Any, ClassVar

import numpy as np

from npnet.internal import checks, config, results
from npnet.kernels import UsesKernels, rules

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Crossentropy",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
]


class Loss(config.Configurable, UsesKernels):
    """L = reduce(weight[n] * values[n]).

    Parameters
    ----------
    reduction
        "sum_over_batch_size" (the mean over samples), "sum", or None for one value a sample, which
        only a direct call can use.

    Attributes
    ----------
    activation
        Name of the activation whose derivative cancels against this loss's, or None. Where that activation
        comes last, training starts from ``backward_through_activation``: once a probability has underflowed
        to 0 its own gradient, -1/0, is lost, but the joint one, p - t, is not.
    of_probabilities
        Whether targets are probabilities, 0 to 1.
    """

    activation: str | None = None
    of_probabilities = False
    results: ClassVar = {
        "values": results.rows_of("values", "the loss of each sample", or_mean=True),
        "gradient": results.like("gradient", "d values[n] / d y_pred[n]", "y_pred"),
        "joint_gradient": results.like("joint_gradient", "d values[n] / d z[n]", "y_pred"),
    }

    @config.keras_arguments(name=config.ANY, dtype=None, axis=-1)
    def __init__(self, reduction: str | None = "sum_over_batch_size"):
        if reduction == "none":
            reduction = None
        if reduction is not None:
            config.lookup("reduction", reduction, dict.fromkeys(("sum_over_batch_size", "sum", "none")))
        self.reduction = reduction

    def targets(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return ``y_true`` in the shape and dtype of ``y_pred``."""
        return checks.like_outputs("y_true", np.asarray(y_true, y_pred.dtype), y_pred)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the loss of each sample, shape (N,)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no values(y_true, y_pred), the loss of each sample."
        )

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return d values[n] / d y_pred[n], shape (N, K)."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient(y_true, y_pred).")

    def joint_gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return d values[n] / d z[n], where y_pred = activation(z)."""
        raise NotImplementedError

    @property
    def joint_gradient_fits(self) -> bool:
        """Whether ``joint_gradient`` belongs to ``values``: a subclass that changes one must bring both."""
        formulas = {"values", "gradient", "joint_gradient"}
        changed = next(cls for cls in type(self).__mro__ if formulas & vars(cls).keys())
        return "joint_gradient" in vars(changed)

    def sample_weight(self, y_true: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """Return the weight of each sample, or None where all are 1."""
        return sample_weight

    def forward(
        self, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> float:
        """Return the reduced loss, keeping what ``backward`` needs."""
        return self._reduce(self._weighted_values(y_true, y_pred, sample_weight))

    def _weighted_values(
        self, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None
    ) -> np.ndarray:
        weight = self.sample_weight(y_true, sample_weight)
        self.y_true, self.y_pred = self.targets(y_true, y_pred), y_pred
        self.weight = None if weight is None else weight.astype(y_pred.dtype)
        values = self.values(self.y_true, y_pred)
        if np.ndim(values) == 0 and (weight is not None or self.reduction != "sum_over_batch_size"):
            raise ValueError(
                f"{type(self).__name__}.values must return the loss of each sample, an array of shape"
                f" ({len(y_pred)},), where samples have weights or reduction is not"
                ' "sum_over_batch_size"; it returned one number.'
            )
        return self._weighted(values)

    def _weighted(self, values: np.ndarray) -> np.ndarray:
        """Return what belongs to each sample, a number or more, times its weight."""
        if self.weight is None:
            return values
        return values * self.weight.reshape(-1, *[1] * (values.ndim - 1))

    def _reduce(self, values: np.ndarray) -> float:
        total = float(values.sum(dtype=np.float64))
        return total / values.size if self.reduction == "sum_over_batch_size" else total

    def _scaled(self, gradient: np.ndarray) -> np.ndarray:
        """Return each row times its weight, divided as the sum is."""
        rows = gradient[..., 0].size
        gradient = self._weighted(gradient)
        return gradient / rows if self.reduction == "sum_over_batch_size" else gradient

    def backward(self) -> np.ndarray:
        """Return dy_pred of the last ``forward``."""
        return self._scaled(self.gradient(self.y_true, self.y_pred))

    def backward_through_activation(self) -> np.ndarray:
        """Return d loss / d z of the last ``forward``, where y_pred = activation(z)."""
        return self._scaled(self.joint_gradient(self.y_true, self.y_pred))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float | np.ndarray:
        """Return the loss of predictions (N, K) against targets, without touching the training state."""
        y_true, y_pred = checks.array("y_true", y_true), checks.predictions(y_pred)
        if sample_weight is not None:
            sample_weight = checks.sample_weight("sample_weight", sample_weight, len(y_pred))
        twin = type(self)(**self.get_config())
        values = twin._weighted_values(y_true, y_pred, sample_weight)
        return values if self.reduction is None else self._reduce(values)


class Crossentropy(Loss):
    """Base of the cross-entropies: of probabilities, or of logits with their activation inside the loss.

    Parameters
    ----------
    from_logits
        True if the last layer has no such activation; the loss then contains it.
    label_smoothing
        s: targets become t (1 - s) + s / classes.
    """

    probabilities_from: str
    of_probabilities = True

    @config.keras_arguments(name=config.ANY, dtype=None, axis=-1)
    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(reduction)
        self.from_logits = from_logits
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, 0, 1)

    @property
    def activation(self) -> str | None:  # type: ignore[override]
        """The activation whose derivative cancels, unless the loss contains it."""
        return None if self.from_logits else self.probabilities_from

    def smoothed(self, t: np.ndarray, classes: int) -> np.ndarray:
        """Return t (1 - s) + s / classes."""
        s = self.label_smoothing
        return t * (1 - s) + s / classes if s else t


class CategoricalCrossentropy(Crossentropy):
    """-sum_k t_k log p_k for one-hot (or soft) targets (N, K).

    Parameters
    ----------
    from_logits
        True if the last layer has no softmax; the loss then contains it.
    label_smoothing
        s: targets become t (1 - s) + s / K.
    """

    probabilities_from = "softmax"

    def targets(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the smoothed targets."""
        return self.smoothed(super().targets(y_true, y_pred), y_pred.shape[-1])

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the cross-entropy of each sample."""
        if self.from_logits:
            values, self.probabilities = self.kernels.softmax_cross_entropy_forward(y_true, y_pred)
            return values
        return self.kernels.cross_entropy_forward(y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return -t/p (+ the normalisation's part), or p - t for logits."""
        if self.from_logits:
            return self.kernels.softmax_cross_entropy_backward(y_true, self.probabilities)
        return self.kernels.cross_entropy_backward(y_true, y_pred)

    def joint_gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return p - t."""
        return self.kernels.softmax_cross_entropy_backward(y_true, y_pred)


class SparseCategoricalCrossentropy(CategoricalCrossentropy):
    """-log p[label] for integer labels, shape (N,) or (N, 1).

    Parameters
    ----------
    from_logits
        True if the last layer has no softmax; the loss then contains it.
    ignore_class
        Samples with this label count neither in the sum nor in the number of samples.
    """

    @config.keras_arguments(name=config.ANY, dtype=None, axis=-1)
    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(from_logits, reduction=reduction)
        if ignore_class is not None:
            checks.integer("ignore_class", ignore_class, least=-(2**63))
        self.ignore_class = ignore_class

    def targets(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return one-hot rows; a row of zeros for the ignored class."""
        labels = checks.labels("y_true", checks.flat("y_true", y_true)).reshape(-1, 1)
        checks.same_length("y_true", labels, "y_pred", y_pred)
        counted = labels if self.ignore_class is None else labels[labels != self.ignore_class]
        checks.label_range("y_true", counted, y_pred.shape[-1], f"y_pred with {y_pred.shape[-1]} outputs")
        return (labels == np.arange(y_pred.shape[-1])).astype(y_pred.dtype)

    def sample_weight(self, y_true: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """Return weights that leave the ignored class out of the mean."""
        if self.ignore_class is None:
            return sample_weight
        kept = np.asarray(y_true).reshape(-1) != self.ignore_class
        weight = kept * (len(kept) / max(kept.sum(), 1) if self.reduction == "sum_over_batch_size" else 1.0)
        return weight if sample_weight is None else weight * sample_weight


class BinaryCrossentropy(Crossentropy):
    """-t log p - (1-t) log(1-p), averaged over the outputs.

    Parameters
    ----------
    from_logits
        True if the last layer has no sigmoid; the loss then contains it.
    label_smoothing
        s: targets become t (1 - s) + s / 2.
    """

    probabilities_from = "sigmoid"

    def targets(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the smoothed targets."""
        return self.smoothed(super().targets(y_true, y_pred), 2)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean over outputs."""
        if self.from_logits:
            return self.kernels.sigmoid_cross_entropy_forward(y_true, y_pred)
        return self.kernels.binary_cross_entropy_forward(y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return (p - t) / (p (1-p)) / outputs, or (p - t) / outputs for logits."""
        if self.from_logits:
            probabilities = self.kernels.elementwise(rules.sigmoid, y_pred)
            return self.kernels.sigmoid_cross_entropy_backward(y_true, probabilities)
        return self.kernels.binary_cross_entropy_backward(y_true, y_pred)

    def joint_gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return (p - t) / outputs."""
        return self.kernels.sigmoid_cross_entropy_backward(y_true, y_pred)


class MeanSquaredError(Loss):
    """mean over outputs of (y_pred - y_true)^2."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean over outputs."""
        return self.kernels.mean_squared_error_forward(y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return 2 (y_pred - y_true) / outputs."""
        return self.kernels.mean_squared_error_backward(y_true, y_pred)


class MeanAbsoluteError(Loss):
    """mean over outputs of |y_pred - y_true|."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean over outputs."""
        return self.kernels.mean_absolute_error_forward(y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return sign(y_pred - y_true) / outputs."""
        return self.kernels.mean_absolute_error_backward(y_true, y_pred)
