"""The network of airbench94 and how it is trained: CIFAR-10 in eight epochs (Jordan 2024, with Muon).

A recipe with ``network="airbench"`` gets its layers and callbacks here and, with ``optimizer="muon"``, its
optimizers. They are made of parts that any model can use: the initializers ``Whitening`` and ``Dirac``,
``MultiOptimizer``, ``Muon(rescale=True)``, ``FreezeLayers``, a parameter's ``trainable``.

Jordan sums the loss over the batch; here it is the mean, as reports and charts show it. So SGD's learning
rates are multiplied by the batch size and its weight decay is divided by it: the same steps. Muon's do not
depend on the size of the gradients.
"""

import math
from typing import Any

import numpy as np

from npnet import callbacks, initializers, optimizers, regularizers, schedules
from npnet.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Rescaling,
)
from npnet.layers.layer import Layer
from npnet.models import Sequential

__all__ = ["PICTURES", "freeze", "freezing", "network", "optimizer"]

PICTURES = 5000  # training pictures that the whitening is measured on
PATCH = 2  # the side of its patches
BIAS_EPOCHS = 3  # in which its bias is trained
WHITENING, HEAD = "whitening", "head"
BIAS_RATE, HEAD_RATE = 0.053, 0.67  # of SGD, for the loss summed over the batch
MOMENTUM = 0.85


def network(recipe: Any, classes: int, pictures: np.ndarray) -> list[Layer]:
    """Return the layers: the whitening, a group for each of ``recipe.filters``, and the head.

    A group is a convolution, a pooling, a normalisation, an activation; again a convolution, a normalisation,
    an activation. The head's weights have variance 1; the maxima that it multiplies are divided by their
    number, so that the first predictions are nearly equal.

    Parameters
    ----------
    pictures
        Training pictures as the first layer gets them, to measure the whitening on.
    """
    covariance = initializers.patch_covariance(pictures, PATCH)
    numbers = len(covariance)
    reach = 1 / math.sqrt(numbers)
    decay = recipe.weight_decay if recipe.optimizer == "muon" else 0.0  # else it is the optimizer's own
    bias_decay, head_decay = (_penalty(decay / rate) for rate in (BIAS_RATE, HEAD_RATE))
    fan_in = initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # within 1 / sqrt(fan_in)

    def convolution(filters: int) -> Layer:
        kernel = initializers.Dirac(fan_in)
        return Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=kernel)

    def normalised() -> list[Layer]:
        norm = BatchNormalization(momentum=0.6, epsilon=1e-12, scale=False, beta_regularizer=bias_decay)
        return [norm, Activation(recipe.activation)]

    made: list[Layer] = [
        Conv2D(
            2 * numbers, PATCH, activation=recipe.activation, name=WHITENING,
            kernel_initializer=initializers.Whitening(covariance),
            bias_initializer=initializers.RandomUniform(-reach, reach), bias_regularizer=bias_decay,
        )
    ]  # fmt: skip
    for filters in recipe.filters:
        made += [convolution(filters), MaxPooling2D(), *normalised(), convolution(filters), *normalised()]
    unit = initializers.RandomUniform(-math.sqrt(3), math.sqrt(3))  # variance 1
    head = Dense(
        classes, "softmax", use_bias=False, kernel_initializer=unit, kernel_regularizer=head_decay, name=HEAD
    )
    return [*made, GlobalMaxPooling2D(), Rescaling(1 / recipe.filters[-1]), head]


def _penalty(decay: float) -> Any:
    """Return the penalty whose gradient is decay w."""
    return regularizers.L2(decay / 2) if decay else None


def freeze(model: Sequential) -> None:
    """Freeze the whitening's filters; its bias still learns."""
    layer: Any = model.get_layer(WHITENING)
    layer.weight.trainable = False


def freezing(recipe: Any) -> list[callbacks.Callback]:
    """Return the callbacks of a training: one that freezes the whitening's bias, too."""
    return [callbacks.FreezeLayers([WHITENING], BIAS_EPOCHS)] if recipe.network == "airbench" else []


def optimizer(recipe: Any, rate: float, steps_per_epoch: int) -> optimizers.Optimizer:
    """Return Muon for the filters, beginning at ``rate``, and SGD for the rest; all fall linearly to 0."""

    def sgd(rate: float, epochs: int) -> optimizers.Optimizer:
        falling = schedules.PolynomialDecay(rate * recipe.batch_size, epochs * steps_per_epoch, 0.0)
        return optimizers.SGD(falling, momentum=MOMENTUM, nesterov=True)

    falling = schedules.PolynomialDecay(rate, recipe.epochs * steps_per_epoch, 0.0)
    muon = optimizers.Muon(falling, weight_decay=0.0, momentum=0.6, ns_steps=3, rms_rate=None, rescale=True)
    rest = {
        f"{WHITENING}/bias": sgd(BIAS_RATE, min(BIAS_EPOCHS, recipe.epochs)),
        "batch_normalization.*/beta": sgd(BIAS_RATE, recipe.epochs),
        f"{HEAD}/kernel": sgd(HEAD_RATE, recipe.epochs),
    }
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(muon, rest))
