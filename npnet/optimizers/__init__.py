"""Optimizers, and the schedules of their learning rates."""

from npnet.optimizers import schedules
from npnet.optimizers.optimizer import NAMES, SGD, Adagrad, Adam, AdamW, Muon, Optimizer, RMSprop, get

__all__ = [
    "NAMES", "SGD", "Adagrad", "Adam", "AdamW", "Muon", "Optimizer", "RMSprop", "get", "schedules",
]  # fmt: skip
