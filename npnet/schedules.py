"""Schedules of the learning rate: the public face of ``npnet.optimizers.schedules``, where they are."""

from npnet.optimizers.schedules import (
    NAMES,
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    OneCycle,
    PiecewiseConstantDecay,
    PolynomialDecay,
    get,
)  # fmt: skip

__all__ = [
    "NAMES", "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay",
    "LearningRateSchedule", "OneCycle", "PiecewiseConstantDecay", "PolynomialDecay", "get",
]  # fmt: skip
