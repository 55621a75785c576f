"""The loss and the metrics of an epoch or of an evaluation."""

import numpy as np

from npnet.metrics.metric import Metric

__all__ = ["Means"]


class Means:
    """What an epoch or an evaluation adds up: the loss, weighted by samples, and the metrics."""

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
        """Return what has been added up so far: name -> [total, count], or what else a metric adds up."""
        metrics = {metric.name: metric.state for metric in (*self.plain, *self.weighted)}
        return {"loss": [self.total, self.count]} | metrics

    def resume(self, sums: dict[str, list[float]]) -> None:
        """Go on from what ``sums`` returned."""
        self.total, self.count = sums["loss"]
        for metric in (*self.plain, *self.weighted):
            metric.state = sums[metric.name]

    def _results(self) -> dict[str, float]:
        """Return the means by name: the loss, then the metrics."""
        results = {"loss": self.total / self.count if self.count else 0.0}
        for metric in (*self.plain, *self.weighted):
            value = metric.result()
            results[metric.name] = np.asarray(value).tolist() if np.ndim(value) else value
        return results

    def logs(self) -> dict[str, float]:
        """Return the means by name, in alphabetical order as Keras reports them."""
        return dict(sorted(self._results().items()))

    def reported(self, return_dict: bool) -> float | list[float] | dict[str, float]:
        """Return the means as Keras's evaluate does: the loss, or [loss, metric, ...], or a dict."""
        if return_dict:
            return self.logs()
        values = [*self._results().values()]
        return values if len(values) > 1 else values[0]
