"""Layers: what a network is made of."""

from npnet.layers.activations import ELU, Activation, LeakyReLU, ReLU, Softmax
from npnet.layers.convolution import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from npnet.layers.core import (
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    Rescaling,
    SpatialDropout2D,
)
from npnet.layers.layer import Layer
from npnet.layers.more import CategoryEncoding, Embedding, GaussianNoise, PReLU
from npnet.layers.more_activations import Exponential, HardSigmoid, Mish, ReLU6, Softsign
from npnet.layers.nested import Nested
from npnet.layers.normalization import GroupNormalization, LayerNormalization
from npnet.layers.pictures import (
    CenterCrop,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomRotation,
    RandomZoom,
    Resizing,
)
from npnet.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPooling1D,
    MaxPooling2D,
)
from npnet.layers.preprocessing import Normalization, RandomFlip, RandomTranslation
from npnet.layers.registry import CLASSES, from_config
from npnet.layers.reshaping import Cropping2D, Permute, Reshape, UpSampling2D, ZeroPadding2D

__all__ = [
    "CLASSES",
    "ELU",
    "Activation",
    "AveragePooling1D",
    "AveragePooling2D",
    "BatchNormalization",
    "CategoryEncoding",
    "CenterCrop",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Exponential",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "HardSigmoid",
    "Input",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPooling1D",
    "MaxPooling2D",
    "Mish",
    "Nested",
    "Normalization",
    "PReLU",
    "Permute",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "ReLU6",
    "Rescaling",
    "Reshape",
    "Resizing",
    "SeparableConv2D",
    "Softmax",
    "Softsign",
    "SpatialDropout2D",
    "UpSampling2D",
    "ZeroPadding2D",
    "from_config",
]  # fmt: skip
