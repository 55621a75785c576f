"""npnet: a neural-network engine to read, to train and to measure."""

import sys

from npnet import (
    activations,
    callbacks,
    constraints,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    schedules,
    utils,
)
from npnet.checking.gradient_check import check_gradients
from npnet.internal import mixed_precision
from npnet.internal.mixed_precision import DTypePolicy
from npnet.internal.names import explain_missing
from npnet.kernels.machine.threads import get_threads, set_threads
from npnet.layers import Input
from npnet.models import Sequential
from npnet.training import distribution
from npnet.utils import backend, config

for _module in (config, distribution, mixed_precision):  # to import from, as os.path is
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
__version__ = "0.1.0"
__all__ = [
    "DTypePolicy",
    "Input",
    "Sequential",
    "activations",
    "backend",
    "callbacks",
    "check_gradients",
    "config",
    "constraints",
    "datasets",
    "distribution",
    "get_threads",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "optimizers",
    "regularizers",
    "schedules",
    "set_threads",
    "utils",
]

explain_missing(__name__)
