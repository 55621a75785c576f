"""Layers: what a network is made of."""

from npnet.layers.activations import ELU, Activation, LeakyReLU, ReLU, Softmax
from npnet.layers.core import (
    CLASSES,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    Rescaling,
    from_config,
)
from npnet.layers.layer import Layer
from npnet.layers.preprocessing import Normalization, RandomFlip, RandomTranslation

__all__ = [
    "CLASSES", "ELU", "Activation", "BatchNormalization", "Dense", "Dropout", "Flatten", "Input", "Layer",
    "LeakyReLU", "Normalization", "RandomFlip", "RandomTranslation", "ReLU", "Rescaling", "Softmax",
    "from_config",
]  # fmt: skip
