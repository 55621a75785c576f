"""Metrics that count right and wrong decisions: predictions above a threshold are taken for a yes.

The four counts are those of the confusion matrix: true positives (rightly yes), false positives, true
negatives, false negatives.
"""

from typing import Any

import numpy as np

from npnet.internal import checks, config
from npnet.kernels import rules
from npnet.metrics.more import Summed

__all__ = [
    "AUC",
    "Counts",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "Precision",
    "PrecisionAtRecall",
    "Recall",
    "RecallAtPrecision",
    "SensitivityAtSpecificity",
    "SpecificityAtSensitivity",
    "TrueNegatives",
    "TruePositives",
]

EPSILON = 1e-7  # Keras's
MOST_THRESHOLDS = 2**20  # counted at in one metric: a strange model file may ask for any number
NOBODY = -1e10  # what top_k makes of a prediction that is not among the k largest, as in Keras


def fraction(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return part / (part + rest), 0 where both are 0."""
    whole = part + rest
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)


class Counts(Summed):
    """The four counts at each threshold.

    Parameters
    ----------
    thresholds
        A number from 0 to 1, or several; 0.5 by default.
    top_k
        A prediction is a yes only if it is among the k largest of its sample.
    class_id
        Count only this output.
    """

    clips = False  # take predictions below 0 for 0 and above 1 for 1, as Keras does along a curve

    @config.keras_arguments(dtype=None)
    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
    ):
        usual = 0.5 if top_k is None else NOBODY
        given = [usual] if thresholds is None else np.atleast_1d(thresholds).tolist()
        if thresholds is not None:
            for threshold in given:
                checks.number("thresholds", threshold, 0, 1)
        self.thresholds = thresholds
        self.top_k = None if top_k is None else checks.integer("top_k", top_k)
        self.class_id = None if class_id is None else checks.integer("class_id", class_id, least=0)
        self._use(np.array(given))
        super().__init__(name)

    def _use(self, thresholds: np.ndarray) -> None:
        """Count at these thresholds."""
        self.limits = thresholds
        self.rows = 4 * len(thresholds)

    def addends(self, y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return true and false positives, true and false negatives, at each threshold."""
        if self.top_k is not None:
            places = np.argsort(-y_pred, axis=-1, kind="stable")[..., : self.top_k]
            best = np.zeros(y_pred.shape, bool)
            np.put_along_axis(best, places, True, axis=-1)
            y_pred = np.where(best, y_pred, NOBODY)
        if self.class_id is not None:
            if self.class_id >= y_pred.shape[-1]:
                raise ValueError(f"class_id is {self.class_id}, but there are {y_pred.shape[-1]} outputs.")
            y_true, y_pred = y_true[..., [self.class_id]], y_pred[..., [self.class_id]]
        return self._count(y_true, y_pred, np.broadcast_to(weight, y_pred.shape)).reshape(self.rows, -1)

    def _count(self, y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return (4, thresholds) of all predictions together."""
        if self.clips:
            y_pred = np.clip(y_pred, 0, 1)
        order = np.argsort(self.limits)
        below = np.searchsorted(self.limits[order], np.nan_to_num(y_pred, nan=-np.inf), side="left")
        found = np.empty((4, len(order)))
        for row, yes in ((0, y_true != 0), (1, y_true == 0)):
            sums = np.bincount(below[yes], weight[yes], minlength=len(order) + 1)
            found[row, order] = sums[::-1].cumsum()[-2::-1]
            found[3 - row, order] = sums.cumsum()[:-1]
        return found

    @property
    def counts(self) -> np.ndarray:
        """The four counts (4, thresholds): true, false positives, true, false negatives."""
        return self.sums.reshape(4, len(self.limits), -1)[..., 0]

    def _one_or_all(self, values: np.ndarray) -> Any:
        return float(values[0]) if len(values) == 1 else values


class OneCount(Counts):
    """One of the four counts. Subclasses say which."""

    row: int

    @config.keras_arguments(dtype=None)
    def __init__(self, thresholds: Any = None, name: str | None = None):
        super().__init__(thresholds, name=name)

    def result(self) -> Any:
        """Return the count so far, one for each threshold."""
        return self._one_or_all(self.counts[self.row])


class TruePositives(OneCount):
    """Number of outputs that are rightly above the threshold."""

    key, row = "true_positives", 0


class FalsePositives(OneCount):
    """Number of outputs that are wrongly above the threshold."""

    key, row = "false_positives", 1


class TrueNegatives(OneCount):
    """Number of outputs that are rightly not above the threshold."""

    key, row = "true_negatives", 2


class FalseNegatives(OneCount):
    """Number of outputs that are wrongly not above the threshold."""

    key, row = "false_negatives", 3


class Precision(Counts):
    """true positives / (true positives + false positives): how many of those found are right."""

    key = "precision"

    def result(self) -> Any:
        """Return the precision so far, one for each threshold."""
        right, wrong, _, _ = self.counts
        return self._one_or_all(fraction(right, wrong))


class Recall(Counts):
    """true positives / (true positives + false negatives): how many of those there are were found."""

    key = "recall"

    def result(self) -> Any:
        """Return the recall so far, one for each threshold."""
        right, _, _, missed = self.counts
        return self._one_or_all(fraction(right, missed))


# --- over many thresholds -----------------------------------------------------------------------------------


class AtBest(Counts):
    """The best of one fraction over all thresholds at which another is high enough.

    Subclasses give ``fractions``: the one that is bounded, the one that is reported.
    """

    clips = True

    def _begin(self, bound: str, num_thresholds: int, class_id: int | None, name: str | None) -> None:
        self.least = checks.number(bound, getattr(self, bound), 0, 1)
        self.num_thresholds = checks.integer("num_thresholds", num_thresholds, most=MOST_THRESHOLDS)
        Counts.__init__(self, class_id=class_id, name=name)
        self._use(np.array([0.5]) if num_thresholds == 1 else np.linspace(0, 1, num_thresholds))
        self.reset_state()

    def fractions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what is bounded and what is reported, at each threshold."""
        raise NotImplementedError

    def result(self) -> float:
        """Return the best so far, 0 where there is none."""
        bounded, reported = self.fractions()
        return float(np.where(bounded >= self.least, reported, 0).max())


class SensitivityAtSpecificity(AtBest):
    """The best sensitivity (recall) where the specificity is at least this."""

    key = "sensitivity_at_specificity"

    @config.keras_arguments(dtype=None)
    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
    ):
        self.specificity = specificity
        self._begin("specificity", num_thresholds, class_id, name)

    def fractions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return specificity and sensitivity."""
        tp, fp, tn, fn = self.counts
        return fraction(tn, fp), fraction(tp, fn)


class SpecificityAtSensitivity(AtBest):
    """The best specificity where the sensitivity (recall) is at least this."""

    key = "specificity_at_sensitivity"

    @config.keras_arguments(dtype=None)
    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
    ):
        self.sensitivity = sensitivity
        self._begin("sensitivity", num_thresholds, class_id, name)

    def fractions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return sensitivity and specificity."""
        tp, fp, tn, fn = self.counts
        return fraction(tp, fn), fraction(tn, fp)


class PrecisionAtRecall(AtBest):
    """The best precision where the recall is at least this."""

    key = "precision_at_recall"

    @config.keras_arguments(dtype=None)
    def __init__(
        self, recall: float, num_thresholds: int = 200, class_id: int | None = None, name: str | None = None
    ):
        self.recall = recall
        self._begin("recall", num_thresholds, class_id, name)

    def fractions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return recall and precision."""
        tp, fp, _, fn = self.counts
        return fraction(tp, fn), fraction(tp, fp)


class RecallAtPrecision(AtBest):
    """The best recall where the precision is at least this."""

    key = "recall_at_precision"

    @config.keras_arguments(dtype=None)
    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
    ):
        self.precision = precision
        self._begin("precision", num_thresholds, class_id, name)

    def fractions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return precision and recall."""
        tp, fp, _, fn = self.counts
        return fraction(tp, fp), fraction(tp, fn)


class AUC(Counts):
    """The area under a curve of fractions over all thresholds: 1 is perfect; of ROC, 0.5 is guessing.

    Parameters
    ----------
    num_thresholds
        How many, evenly from 0 to 1.
    curve
        "ROC": recall over the fraction of negatives taken for positives. "PR": precision over recall.
    summation_method
        "interpolation" (trapezoids; of PR, Davis & Goadrich 2006), "minoring" or "majoring".
    thresholds
        Between 0 and 1, in place of ``num_thresholds``.
    multi_label
        The mean of each output's own area.
    label_weights
        Of each output in that mean; without ``multi_label`` in the counts.
    from_logits
        The predictions need a sigmoid first. Without it those below 0 count as 0 and those above 1 as 1.
    """

    key, clips = "auc", True

    @config.keras_arguments(dtype=None, num_labels=None)
    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        thresholds: Any = None,
        multi_label: bool = False,
        label_weights: Any = None,
        from_logits: bool = False,
    ):
        self.num_thresholds = checks.integer("num_thresholds", num_thresholds, 2, MOST_THRESHOLDS)
        config.lookup("curve", curve, dict.fromkeys(("ROC", "PR")))
        config.lookup(
            "summation_method",
            summation_method,
            dict.fromkeys(("interpolation", "minoring", "majoring")),
        )
        self.curve, self.summation_method = curve, summation_method
        self.multi_label = checks.flag("multi_label", multi_label)
        self.label_weights = None if label_weights is None else np.array(label_weights, np.float64)
        self.from_logits = checks.flag("from_logits", from_logits)
        Counts.__init__(self, thresholds, name=name)
        inner = np.linspace(0, 1, num_thresholds)[1:-1] if thresholds is None else np.sort(thresholds)
        self._use(np.array([-EPSILON, *inner, 1 + EPSILON]))
        self.reset_state()

    def addends(self, y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the four counts at each threshold, with ``multi_label`` of each output."""
        if self.from_logits:
            y_pred = rules.sigmoid(y_pred)
        weight = np.broadcast_to(weight, y_pred.shape)
        if not self.multi_label:
            if self.label_weights is not None:
                weight = weight * self.label_weights
            return self._count(y_true, y_pred, weight).reshape(self.rows, 1)
        columns = zip(y_true.T, y_pred.T, weight.T, strict=True)
        return np.stack([self._count(*column).reshape(self.rows) for column in columns], axis=1)

    def result(self) -> float:
        """Return the area so far."""
        tp, fp, tn, fn = self.sums.reshape(4, len(self.limits), -1)
        recall = fraction(tp, fn)
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = self._interpolated(tp, fp, fn)
        else:
            x, y = (fraction(fp, tn), recall) if self.curve == "ROC" else (recall, fraction(tp, fp))
            heights = {
                "interpolation": (y[:-1] + y[1:]) / 2,
                "minoring": np.minimum(y[:-1], y[1:]),
                "majoring": np.maximum(y[:-1], y[1:]),
            }
            areas = ((x[:-1] - x[1:]) * heights[self.summation_method]).sum(axis=0)
        if self.label_weights is not None and self.multi_label:
            return float((areas * self.label_weights).sum() / self.label_weights.sum())
        return float(areas.mean())

    def _interpolated(self, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
        """Return the area under precision, where true positives grow in step with all positives p.

        Between two thresholds tp = a + s p, so precision is s + a / p, and its integral over recall
        s (tp1 - tp2 + a log(p1 / p2)) / (tp + fn).
        """
        p = tp + fp
        slope = fraction(tp[:-1] - tp[1:], fp[:-1] - fp[1:])
        constant = tp[1:] - slope * p[1:]
        both = (p[:-1] > 0) & (p[1:] > 0)
        ratio = np.divide(p[:-1], p[1:], out=np.ones_like(p[1:]), where=both)
        grown = slope * (tp[:-1] - tp[1:] + constant * np.log(ratio))
        whole = tp[1:] + fn[1:]
        return np.divide(grown, whole, out=np.zeros_like(whole), where=whole > 0).sum(axis=0)


# --- class by class -----------------------------------------------------------------------------------------


class FBetaScore(Summed):
    """(1 + b^2) precision recall / (b^2 precision + recall), class by class.

    Parameters
    ----------
    average
        None for one number a class; "micro" counts all classes together, "macro" is the mean over classes,
        "weighted" the mean weighted by how often each occurs.
    beta
        How much more recall counts than precision.
    threshold
        Above which an output is a yes; None takes each sample's largest.
    """

    key = "fbeta_score"
    rows = 3  # true positives, false positives, false negatives

    @config.keras_arguments(dtype=None)
    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = None,
    ):
        super().__init__(name)
        if average is not None:
            config.lookup("average", average, dict.fromkeys(("micro", "macro", "weighted")))
        self.average = average
        self.beta = checks.positive("beta", beta)
        self.threshold = None if threshold is None else checks.number("threshold", threshold, 0, 1)

    def addends(self, y_true: np.ndarray, y_pred: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return what a batch adds, of each class or of all together."""
        if self.threshold is None:
            yes = (y_pred >= y_pred.max(axis=-1, keepdims=True)) & (np.abs(y_pred) > 1e-9)
        else:
            yes = y_pred > self.threshold
        parts = [weight * part for part in (yes * y_true, yes * (1 - y_true), ~yes * y_true)]
        axis = None if self.average == "micro" else 0
        return np.stack([part.sum(axis=axis) for part in parts]).reshape(self.rows, -1)

    def result(self) -> Any:
        """Return the score so far, with ``average=None`` of each class."""
        tp, fp, fn = self.sums
        precision, recall = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
        square = self.beta**2
        scores = (1 + square) * precision * recall / (square * precision + recall + EPSILON)
        if self.average is None:
            return scores
        if self.average == "weighted":
            occurs = tp + fn
            return float((scores * occurs / (occurs.sum() + EPSILON)).sum())
        return float(scores.mean())


class F1Score(FBetaScore):
    """2 precision recall / (precision + recall), class by class: ``FBetaScore`` with beta 1."""

    key = "f1_score"

    @config.keras_arguments(dtype=None)
    def __init__(self, average: str | None = None, threshold: float | None = None, name: str | None = None):
        super().__init__(average, 1.0, threshold, name)
