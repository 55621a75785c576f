"""Optimizers, and the schedules of their learning rates."""

from npnet.optimizers import schedules
from npnet.optimizers.more import Adadelta, Adamax, Lion, Muon, Nadam
from npnet.optimizers.multi import MultiOptimizer, OptimizerMap
from npnet.optimizers.optimizer import NAMES, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, get

__all__ = [
    "NAMES", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "MultiOptimizer", "Muon",
    "Nadam", "Optimizer", "OptimizerMap", "RMSprop", "get", "schedules",
]  # fmt: skip
