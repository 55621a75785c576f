"""Learning rates as functions of the step.

A schedule takes the number of steps done and returns the learning rate of the next one. Names, arguments
and formulas are Keras 3's; the one-cycle schedule, which Keras lacks, is PyTorch's.
"""

import math
from typing import Any, ClassVar

from npnet.internal import checks, config, results

__all__ = [
    "NAMES",
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "get",
]


class LearningRateSchedule(config.Configurable):
    """A learning rate that depends on the step."""

    results: ClassVar = {"__call__": results.numbers("__call__", "the learning rate, a number")}

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(step).")


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate * decay_rate ^ (step / decay_steps).

    Parameters
    ----------
    staircase
        Round step / decay_steps down, so that the rate falls once every ``decay_steps``.
    """

    @config.keras_arguments(name=config.ANY)
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

    @config.keras_arguments(name=config.ANY)
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

    @config.keras_arguments(name=config.ANY)
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


class PolynomialDecay(LearningRateSchedule):
    """(initial - end) (1 - step / decay_steps)^power + end, and ``end_learning_rate`` from decay_steps on.

    Parameters
    ----------
    cycle
        After ``decay_steps`` go on with twice as many, then three times: the rate jumps up and falls again.
    """

    @config.keras_arguments(name=config.ANY)
    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
    ):
        self.initial_learning_rate = checks.number("initial_learning_rate", initial_learning_rate, least=0)
        self.decay_steps = checks.positive("decay_steps", decay_steps)
        self.end_learning_rate = checks.number("end_learning_rate", end_learning_rate, least=0)
        self.power = checks.number("power", power, least=0)
        self.cycle = checks.flag("cycle", cycle)

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        length = self.decay_steps * (max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1)
        left = 1 - min(step / length, 1)
        return (
            self.initial_learning_rate - self.end_learning_rate
        ) * left**self.power + self.end_learning_rate


class InverseTimeDecay(LearningRateSchedule):
    """initial_learning_rate / (1 + decay_rate step / decay_steps).

    Parameters
    ----------
    staircase
        Round step / decay_steps down, so that the rate falls once every ``decay_steps``.
    """

    @config.keras_arguments(name=config.ANY)
    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ):
        self.initial_learning_rate = checks.number("initial_learning_rate", initial_learning_rate, least=0)
        self.decay_steps = checks.positive("decay_steps", decay_steps)
        self.decay_rate = checks.number("decay_rate", decay_rate, least=0)
        self.staircase = checks.flag("staircase", staircase)

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        time = step // self.decay_steps if self.staircase else step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * time)


class CosineDecayRestarts(LearningRateSchedule):
    """Half a cosine from the initial rate down to alpha times it, again and again (Loshchilov & Hutter 2017).

    Parameters
    ----------
    first_decay_steps
        Length of the first fall.
    t_mul, m_mul
        Each fall is t_mul times as long as the one before, and begins at m_mul times its rate.
    alpha
        Where a fall ends, as a fraction of the initial rate.
    """

    @config.keras_arguments(name=config.ANY)
    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ):
        self.initial_learning_rate = checks.number("initial_learning_rate", initial_learning_rate, least=0)
        self.first_decay_steps = checks.positive("first_decay_steps", first_decay_steps)
        self.t_mul = checks.number("t_mul", t_mul, least=1)
        self.m_mul = checks.number("m_mul", m_mul, least=0)
        self.alpha = checks.number("alpha", alpha, least=0)

    def __call__(self, step: int) -> float:
        """Return the learning rate after ``step`` steps."""
        start, length, falls = 0.0, self.first_decay_steps, 0
        if self.t_mul == 1:
            falls = int(step // length)
            start = falls * length
        while step >= start + length:
            start, length, falls = start + length, length * self.t_mul, falls + 1
        cosine = 0.5 * self.m_mul**falls * (1 + math.cos(math.pi * (step - start) / length))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


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
    "cosine_decay_restarts": CosineDecayRestarts,
    "inverse_time_decay": InverseTimeDecay,
    "polynomial_decay": PolynomialDecay,
    "one_cycle": OneCycle,
}


def get(identifier: Any) -> LearningRateSchedule:
    """Return the schedule meant by an instance or a dict."""
    return config.get("schedule", identifier, LearningRateSchedule, NAMES)
