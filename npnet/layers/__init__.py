"""Layers: what a network is made of."""

from npnet.layers.activations import ELU, Activation, LeakyReLU, ReLU, Softmax
from npnet.layers.convolution import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from npnet.layers.core import (
    CLASSES,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    Rescaling,
    SpatialDropout2D,
    from_config,
)
from npnet.layers.layer import Layer
from npnet.layers.normalization import GroupNormalization, LayerNormalization
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
from npnet.layers.reshaping import Cropping2D, Permute, Reshape, UpSampling2D, ZeroPadding2D

__all__ = [
    "CLASSES", "ELU", "Activation", "AveragePooling1D", "AveragePooling2D", "BatchNormalization", "Conv1D",
    "Conv2D", "Conv2DTranspose", "Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "Flatten",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
    "GroupNormalization", "Input", "Layer", "LayerNormalization", "LeakyReLU", "MaxPooling1D", "MaxPooling2D",
    "Normalization", "Permute", "RandomFlip", "RandomTranslation", "ReLU", "Rescaling", "Reshape",
    "SeparableConv2D", "Softmax", "SpatialDropout2D", "UpSampling2D", "ZeroPadding2D", "from_config",
]  # fmt: skip
