"""What a history has to show: for each metric its curves over the epochs, and where it was best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npnet.internal import directions

__all__ = ["PLACES", "Curve", "Panel", "panels"]

PLACES = ("epoch", "seconds", "learning_rate")  # what a run's history.json holds besides loss and metrics


@dataclass(frozen=True)
class Curve:
    """A line of a chart: ``name`` at its end, values ``y`` at the places ``x``; NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    @property
    def points(self) -> list[tuple[float, float]]:
        """The points with a finite value."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if math.isfinite(y)]


@dataclass(frozen=True)
class Panel:
    """The curves of one metric, training first, then validation where it ran."""

    metric: str
    curves: list[Curve]

    @property
    def title(self) -> str:
        """The metric as a heading."""
        return self.metric.replace("_", " ").capitalize()

    @property
    def grows(self) -> bool | None:
        """Whether more of it is better; None of a metric whose name does not say."""
        return directions.grows(self.metric)

    @property
    def points(self) -> list[tuple[float, float]]:
        """The points of the last curve with a finite value."""
        return self.curves[-1].points

    @property
    def best(self) -> tuple[float, float] | None:
        """The best point of the last curve."""
        return self.best_of(self.curves[-1])

    def best_of(self, curve: Curve) -> tuple[float, float] | None:
        """Return the best point of one of the curves, the first of equals; None where that is not known."""
        if self.grows is None:
            return None
        return (max if self.grows else min)(curve.points, key=lambda point: point[1], default=None)

    def words(self, write: Any = "{:.4f}".format) -> str:
        """Return the best value in words, or the last of a metric of which it is not known what is best.

        ``write`` writes it.
        """
        if not self.points:
            return "no finite value"
        if self.best is None:
            return f"at last in {self.curves[-1].name}: {write(self.points[-1][1])}"
        epoch, value = self.best
        extreme = "highest" if self.grows else "lowest"
        return f"{extreme} in {self.curves[-1].name}: {write(value)}, epoch {epoch}"


def panels(history: Any) -> list[Panel]:
    """Return a panel for the loss and for each metric.

    Parameters
    ----------
    history : History or dict
        What ``fit`` returned, its ``history``, or the content of a run's history.json. A History knows after
        which epochs validation ran; in a dict, shorter lists of validation are spread evenly. None stands
        for a missing value.

    Raises
    ------
    ValueError
        If there is no epoch, or the lists cannot belong to one run.
    """
    lists = dict(getattr(history, "history", history))
    epoch = lists.get("epoch") or [number + 1 for number in getattr(history, "epoch", ())]
    validated = [number + 1 for number in getattr(history, "validation_epoch", ())]
    values = {
        name: np.asarray(y, dtype=float) for name, y in lists.items() if name not in PLACES and y is not None
    }
    names = [name for name in values if not name.startswith("val_")]
    names.sort(key=lambda name: name != "loss")
    count = len(values[names[0]]) if names else 0
    if not count:
        raise ValueError("history must hold at least one epoch of 'loss', got none. Call fit first.")
    epoch = list(epoch) or list(range(1, count + 1))
    for name, y in values.items():
        shorter = name.startswith("val_") and y.ndim == 1 and 0 < len(y) < count
        if y.shape != (count,) and not shorter:
            raise ValueError(
                f"history[{name!r}] must hold {count} numbers, one an epoch, got shape {y.shape}."
            )

    def places(y: np.ndarray) -> list[int]:
        if len(y) == len(validated):
            return validated
        every = count // len(y)
        return epoch[every - 1 :: every][: len(y)]

    found = []
    for name in names:
        curves = [Curve("training", epoch, values[name].tolist())]
        if f"val_{name}" in values:
            y = values[f"val_{name}"]
            curves.append(Curve("validation", places(y), y.tolist()))
        found.append(Panel(name, curves))
    return found
