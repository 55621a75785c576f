"""Learning rates as functions of the step.

A schedule takes the number of steps done and returns the learning rate of the next one. Names, arguments
and formulas are Keras 3's; the one-cycle schedule, which Keras lacks, is PyTorch's.
"""

import math
from typing import Any

from npnet.internal import checks, config

__all__ = [
    "NAMES",
    "CosineDecay",
    "ExponentialDecay",
    "LearningRateSchedule",
    "OneCycle",
    "PiecewiseConstantDecay",
    "get",
]


class LearningRateSchedule(config.Configurable):
    """A learning rate that depends on the step."""

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        raise NotImplementedError


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate ^ (step / decay_steps).

    Parameters
    ----------
    staircase
        Round step / decay_steps down, so that the rate falls once every ``decay_steps``.
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ):
        self.initial_learning_rate = checks.number("initial_learning_rate", initial_learning_rate, least=0)
        self.decay_steps = checks.positive("decay_steps", decay_steps)
        self.decay_rate = checks.number("decay_rate", decay_rate, least=0)
        self.staircase = staircase

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        power = step // self.decay_steps if self.staircase else step / self.decay_steps
        return float(self.initial_learning_rate * self.decay_rate**power)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[i] while step <= boundaries[i]: steps down a staircase.

    Parameters
    ----------
    boundaries
        Increasing step numbers.
    values
        One learning rate more than there are boundaries.
    """

    def __init__(self, boundaries: list[int], values: list[float]):
        self.boundaries = [checks.number("boundaries", boundary) for boundary in boundaries]
        self.values = [checks.number("values", value, least=0) for value in values]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"values must hold one number more than boundaries, got {len(values)} and {len(boundaries)}."
            )
        if sorted(self.boundaries) != self.boundaries:
            raise ValueError(f"boundaries must increase, got {boundaries}.")

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        return float(self.values[sum(step > boundary for boundary in self.boundaries)])


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial (or warmed-up) rate down to alpha times it.

    With warm-up the rate first rises in a straight line from ``initial_learning_rate`` to ``warmup_target``
    over ``warmup_steps``; the cosine then takes ``decay_steps`` more (Loshchilov & Hutter 2017).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ):
        self.initial_learning_rate = checks.number("initial_learning_rate", initial_learning_rate, least=0)
        self.decay_steps = checks.positive("decay_steps", decay_steps)
        self.alpha = checks.number("alpha", alpha, least=0)
        if warmup_target is not None:
            checks.number("warmup_target", warmup_target, least=0)
        self.warmup_target = warmup_target
        self.warmup_steps = checks.integer("warmup_steps", warmup_steps, least=0)

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        start, peak = self.initial_learning_rate, self.initial_learning_rate
        if self.warmup_target is not None:
            peak = self.warmup_target
            if step < self.warmup_steps:
                return start + (peak - start) * step / self.warmup_steps
            step -= self.warmup_steps
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.decay_steps, 1)))
        return peak * ((1 - self.alpha) * cosine + self.alpha)


class OneCycle(LearningRateSchedule):
    """Up to the highest rate in half a cosine, then down to almost nothing in another (Smith & Topin 2018).

    Parameters
    ----------
    max_learning_rate
        The highest rate.
    total_steps
        Length of the whole cycle; afterwards the last rate stays.
    pct_start
        Share of the steps spent rising.
    div_factor
        The first rate is max_learning_rate / div_factor.
    final_div_factor
        The last rate is the first one / final_div_factor.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ):
        self.max_learning_rate = checks.number("max_learning_rate", max_learning_rate, least=0)
        self.total_steps = checks.positive("total_steps", total_steps)
        if not 0 < checks.number("pct_start", pct_start) < 1:
            raise ValueError(f"pct_start must lie between 0 and 1, got {pct_start!r}.")
        self.pct_start = pct_start
        self.div_factor = checks.positive("div_factor", div_factor)
        self.final_div_factor = checks.positive("final_div_factor", final_div_factor)

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        first = self.max_learning_rate / self.div_factor
        top = self.pct_start * self.total_steps - 1
        if step < top:
            return _half_cosine(first, self.max_learning_rate, step / top)
        share = min((step - top) / (self.total_steps - 1 - top), 1)
        return _half_cosine(self.max_learning_rate, first / self.final_div_factor, share)


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


NAMES: dict[str, type[LearningRateSchedule]] = {
    "exponential_decay": ExponentialDecay,
    "piecewise_constant_decay": PiecewiseConstantDecay,
    "cosine_decay": CosineDecay,
    "one_cycle": OneCycle,
}


def get(identifier: Any) -> LearningRateSchedule:
    """Return the schedule meant by an instance or a dict."""
    return config.get("schedule", identifier, LearningRateSchedule, NAMES)
