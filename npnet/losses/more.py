"""The losses that fewer networks need: robust, relative and hinge errors, divergences, focal cross-entropies.

The formulas are in ``kernels.reference.more_losses``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.internal import checks, config
from npnet.kernels import rules
from npnet.kernels.reference import more_losses as formulas
from npnet.losses.loss import BinaryCrossentropy, CategoricalCrossentropy, Loss

__all__ = [
    "BinaryFocalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "Pointwise",
    "Poisson",
    "RowLoss",
    "SquaredHinge",
]


class Pointwise(Loss):
    """The mean over outputs of f(t, y), a function of one target and one prediction.

    Attributes
    ----------
    formula, slope
        f and df/dy.
    constants
        What both take besides.
    """

    formula: Callable[..., Any]
    slope: Callable[..., Any]

    @property
    def constants(self) -> tuple[float, ...]:
        """The numbers that ``formula`` and ``slope`` take after t and y."""
        return ()

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean over outputs of f."""
        return self.formula(y_true, y_pred, *self.constants).mean(axis=-1)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return df/dy / outputs."""
        return self.slope(y_true, y_pred, *self.constants) / y_pred.shape[-1]


class Huber(Pointwise):
    """mean over outputs of e^2 / 2 where |e| <= delta, else delta |e| - delta^2 / 2;  e = y_pred - y_true."""

    formula = staticmethod(formulas.huber)
    slope = staticmethod(formulas.huber_slope)

    @config.keras_arguments(name=config.ANY, dtype=None)
    def __init__(self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size"):
        super().__init__(reduction)
        self.delta = checks.positive("delta", delta)

    @property
    def constants(self) -> tuple[float, ...]:
        """The error from which on the loss is linear."""
        return (self.delta,)


class LogCosh(Pointwise):
    """mean over outputs of log cosh(y_pred - y_true): e^2 / 2 near 0, |e| - log 2 far away."""

    formula = staticmethod(formulas.log_cosh)
    slope = staticmethod(formulas.log_cosh_slope)


class MeanAbsolutePercentageError(Pointwise):
    """mean over outputs of 100 |y_pred - y_true| / max(|y_true|, 1e-7)."""

    formula = staticmethod(formulas.percentage_error)
    slope = staticmethod(formulas.percentage_error_slope)


class MeanSquaredLogarithmicError(Pointwise):
    """mean over outputs of (log(1 + y_pred) - log(1 + y_true))^2; what is below 1e-7 counts as 1e-7."""

    formula = staticmethod(formulas.squared_logarithmic_error)
    slope = staticmethod(formulas.squared_logarithmic_error_slope)


class Poisson(Pointwise):
    """mean over outputs of y_pred - y_true log(y_pred + 1e-7), for counts y_true and their means y_pred."""

    formula = staticmethod(formulas.poisson)
    slope = staticmethod(formulas.poisson_slope)


class Hinge(Pointwise):
    """mean over outputs of max(1 - t y_pred, 0). Targets t are -1 and 1; 0 and 1 are read as -1 and 1."""

    formula = staticmethod(formulas.hinge)
    slope = staticmethod(formulas.hinge_slope)

    def targets(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return -1 and 1, of 0 and 1 too."""
        t = super().targets(y_true, y_pred)
        return 2 * t - 1 if ((t == 0) | (t == 1)).all() else t


class SquaredHinge(Hinge):
    """mean over outputs of max(1 - t y_pred, 0)^2. Targets t are -1 and 1; 0 and 1 are read as -1 and 1."""

    formula = staticmethod(formulas.squared_hinge)
    slope = staticmethod(formulas.squared_hinge_slope)


class RowLoss(Loss):
    """A function of a whole row of outputs.

    Attributes
    ----------
    forward_formula, backward_formula
        The loss of each row, and its derivative.
    """

    forward_formula: Callable[..., Any]
    backward_formula: Callable[..., Any]

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the loss of each row."""
        return self.forward_formula(y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return its derivative."""
        return self.backward_formula(y_true, y_pred)


class CategoricalHinge(RowLoss):
    """max(1 + the largest output of a wrong class - the right one's, 0), for one-hot targets."""

    forward_formula = staticmethod(formulas.categorical_hinge_forward)
    backward_formula = staticmethod(formulas.categorical_hinge_backward)


class KLDivergence(RowLoss):
    """sum_k t_k log(t_k / p_k), both kept inside [1e-7, 1]."""

    of_probabilities = True
    forward_formula = staticmethod(formulas.kl_divergence_forward)
    backward_formula = staticmethod(formulas.kl_divergence_backward)


class CosineSimilarity(RowLoss):
    """-cos of the angle between y_true and y_pred: -1 where they point the same way, 1 the opposite way."""

    forward_formula = staticmethod(formulas.cosine_similarity_forward)
    backward_formula = staticmethod(formulas.cosine_similarity_backward)


class CategoricalFocalCrossentropy(CategoricalCrossentropy):
    """-sum_k alpha_k t_k (1 - p_k)^gamma log p_k: what is nearly right counts less (Lin et al. 2017).

    Parameters
    ----------
    alpha
        Weight of all classes, or one of each.
    gamma
        How much less; 0 is the cross-entropy times alpha.
    from_logits, label_smoothing
        As in ``CategoricalCrossentropy``.
    """

    @config.keras_arguments(name=config.ANY, dtype=None, axis=-1)
    def __init__(
        self,
        alpha: Any = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(from_logits, label_smoothing, reduction)
        for weight in np.atleast_1d(alpha).tolist():
            checks.number("alpha", weight, least=0)
        self.alpha = alpha
        self.gamma = checks.number("gamma", gamma, least=0)

    def _numbers(self, y_pred: np.ndarray) -> tuple[np.ndarray, float]:
        return np.asarray(self.alpha, y_pred.dtype), self.gamma

    def probabilities(self, y_pred: np.ndarray) -> np.ndarray:
        """Return softmax(y_pred) of logits, else y_pred divided by its sum."""
        if self.from_logits:
            return self.kernels.softmax_forward(y_pred)
        return y_pred / y_pred.sum(axis=-1, keepdims=True)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the focal cross-entropy of each sample."""
        return formulas.focal_forward(y_true, self.probabilities(y_pred), *self._numbers(y_pred))

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return g_k / y_k - sum g / sum y, or of logits g_k - p_k sum g."""
        p = self.probabilities(y_pred)
        if self.from_logits:
            return self.joint_gradient(y_true, p)
        g = formulas.focal_backward(y_true, p, *self._numbers(y_pred))
        total = y_pred.sum(axis=-1, keepdims=True)
        least = formulas.PROBABILITY_CLIP * total
        return g / np.maximum(y_pred, least) - g.sum(axis=-1, keepdims=True) / total

    def joint_gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return g_k - p_k sum g."""
        g = formulas.focal_backward(y_true, y_pred, *self._numbers(y_pred))
        return g - y_pred * g.sum(axis=-1, keepdims=True)


class BinaryFocalCrossentropy(BinaryCrossentropy):
    """mean over outputs of -(1-p)^gamma t log p - p^gamma (1-t) log(1-p) for t of 0 and 1 (Lin et al. 2017).

    Parameters
    ----------
    apply_class_balancing
        Weigh targets of 1 by alpha, those of 0 by 1 - alpha.
    alpha
        See there.
    gamma
        How much less counts what is nearly right; 0 is the cross-entropy.
    from_logits, label_smoothing
        As in ``BinaryCrossentropy``.
    """

    @config.keras_arguments(name=config.ANY, dtype=None, axis=-1)
    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(from_logits, label_smoothing, reduction)
        self.apply_class_balancing = checks.flag("apply_class_balancing", apply_class_balancing)
        self.alpha = checks.number("alpha", alpha, 0, 1)
        self.gamma = checks.number("gamma", gamma, least=0)

    def _weight(self, y_true: np.ndarray) -> Any:
        return y_true * self.alpha + (1 - y_true) * (1 - self.alpha) if self.apply_class_balancing else 1

    def probabilities(self, y_pred: np.ndarray) -> np.ndarray:
        """Return sigmoid(y_pred) of logits, else y_pred."""
        return self.kernels.elementwise(rules.sigmoid, y_pred) if self.from_logits else y_pred

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the mean over outputs."""
        p = self.probabilities(y_pred)
        return formulas.binary_focal_forward(y_true, p, self._weight(y_true), self.gamma)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return g / (p (1-p)), or g of logits."""
        p = self.probabilities(y_pred)
        g = self.joint_gradient(y_true, p)
        if self.from_logits:
            return g
        p = np.clip(p, formulas.PROBABILITY_CLIP, 1 - formulas.PROBABILITY_CLIP)
        return g / (p * (1 - p))

    def joint_gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return g."""
        return formulas.binary_focal_backward(y_true, y_pred, self._weight(y_true), self.gamma)
