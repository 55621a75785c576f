"""The layers that a model file may name."""

from typing import Any

from npnet.internal import config
from npnet.layers import activations
from npnet.layers.activations import Activation
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
from npnet.layers.reshaping import Cropping2D, Permute, Reshape, UpSampling2D, ZeroPadding2D

__all__ = ["CLASSES", "from_config"]

CLASSES: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Activation, AveragePooling1D, AveragePooling2D, BatchNormalization, CategoryEncoding, CenterCrop,
        Conv1D, Conv2D, Conv2DTranspose, Cropping2D, Dense, DepthwiseConv2D, Dropout, Embedding, Flatten,
        GaussianNoise, GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalMaxPooling1D, GlobalMaxPooling2D,
        GroupNormalization, Input, LayerNormalization, MaxPooling1D, MaxPooling2D, Normalization, PReLU,
        Permute, RandomBrightness, RandomContrast, RandomCrop, RandomFlip, RandomRotation, RandomTranslation,
        RandomZoom, Rescaling, Reshape, Resizing, SeparableConv2D, SpatialDropout2D, UpSampling2D,
        ZeroPadding2D, *activations.NAMES.values(),
    )
}  # fmt: skip


def from_config(description: dict[str, Any]) -> Layer:
    """Return the layer described by {"class_name", "config"}."""
    return config.get("layer", description, Layer, CLASSES)
