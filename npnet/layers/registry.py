"""The layers that a model file may name."""

from typing import Any

from npnet.internal import config
from npnet.layers import activations
from npnet.layers.activations import Activation
from npnet.layers.core import BatchNormalization, Dense, Dropout, Flatten, Input, Rescaling
from npnet.layers.layer import Layer
from npnet.layers.more import CategoryEncoding, Embedding, GaussianNoise, PReLU
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

__all__ = ["CLASSES", "from_config"]

CLASSES: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Activation, BatchNormalization, CategoryEncoding, CenterCrop, Dense, Dropout, Embedding, Flatten,
        GaussianNoise, Input, Normalization, PReLU, RandomBrightness, RandomContrast, RandomCrop, RandomFlip,
        RandomRotation, RandomTranslation, RandomZoom, Rescaling, Resizing, *activations.NAMES.values(),
    )
}  # fmt: skip


def from_config(description: dict[str, Any]) -> Layer:
    """Return the layer described by {"class_name", "config"}."""
    return config.get("layer", description, Layer, CLASSES)
