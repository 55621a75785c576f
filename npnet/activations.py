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

__all__ = [
    "ELU", "GELU", "NAMES", "SELU", "Activation", "Elementwise", "LeakyReLU", "Linear", "LogSoftmax", "ReLU",
    "RowWise", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh", "get",
]  # fmt: skip
