"""Schedules of the learning rate: the public face of ``npnet.optimizers.schedules``, where they are."""

from npnet.optimizers.schedules import (
    NAMES,
    CosineDecay,
    ExponentialDecay,
    LearningRateSchedule,
    OneCycle,
    PiecewiseConstantDecay,
    get,
)  # fmt: skip

__all__ = [
    "NAMES", "CosineDecay", "ExponentialDecay", "LearningRateSchedule", "OneCycle", "PiecewiseConstantDecay",
    "get",
]  # fmt: skip
