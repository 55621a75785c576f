"""Layers: what a network is made of."""

from npnet.layers.activations import ELU, Activation, LeakyReLU, ReLU, Softmax
from npnet.layers.core import BatchNormalization, Dense, Dropout, Flatten, Input, Rescaling
from npnet.layers.layer import Layer
from npnet.layers.more import CategoryEncoding, Embedding, GaussianNoise, PReLU
from npnet.layers.more_activations import Exponential, HardSigmoid, Mish, ReLU6, Softsign
from npnet.layers.nested import Nested
from npnet.layers.pictures import (
    CenterCrop,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomRotation,
    RandomZoom,
    Resizing,
)
from npnet.layers.preprocessing import Normalization, RandomFlip, RandomTranslation
from npnet.layers.registry import CLASSES, from_config

__all__ = [
    "CLASSES", "ELU", "Activation", "BatchNormalization", "CategoryEncoding", "CenterCrop", "Dense",
    "Dropout", "Embedding", "Exponential", "Flatten", "GaussianNoise", "HardSigmoid", "Input", "Layer",
    "LeakyReLU", "Mish", "Nested", "Normalization", "PReLU", "RandomBrightness", "RandomContrast",
    "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "ReLU", "ReLU6",
    "Rescaling", "Resizing", "Softmax", "Softsign", "from_config",
]  # fmt: skip
