"""Activations by name: the public face of ``npnet.layers.activations``, where they are."""

from npnet.layers.activations import (
    ELU,
    GELU,
    NAMES,
    SELU,
    Activation,
    Elementwise,
    LeakyReLU,
    Linear,
    LogSoftmax,
    ReLU,
    RowWise,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    get,
)  # fmt: skip
from npnet.layers.more_activations import Exponential, HardSigmoid, Mish, ReLU6, Softsign, function

__all__ = [  # noqa: F822, RUF022 (the functions by themselves)
    "ELU", "GELU", "NAMES", "SELU", "Activation", "Elementwise", "Exponential", "HardSigmoid", "LeakyReLU",
    "Linear", "LogSoftmax", "Mish", "ReLU", "ReLU6", "RowWise", "SiLU", "Sigmoid", "Softmax", "Softplus",
    "Softsign", "Tanh", "get",
    # the functions
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "log_softmax", "mish", "relu",
    "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "swish", "tanh",
]  # fmt: skip

globals().update({name: function(name) for name in NAMES})
