"""Complete trainings by name: the tutorial's, the best found for its network, and a convolutional network's.

A recipe is plain data. ``build`` makes the compiled model of it; ``fit`` gets ``epochs`` and ``batch_size``.
Neither chooses an epoch: what a run comes to is what it has after the last one, unless samples are held out
to choose by (the setting ``validation_split``, which is no recipe's).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npnet import losses, optimizers, schedules
from npnet.internal.config import lookup
from npnet.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
    Normalization,
    RandomFlip,
    RandomTranslation,
)
from npnet.layers.layer import Layer, Shape
from npnet.models import Sequential

__all__ = ["BEST", "CNN", "INPUTS", "RECIPES", "SCHEDULES", "TUTORIAL", "Recipe", "build", "widths"]

INPUTS = ("raw", "unit", "standardised")
SCHEDULES = ("constant", "cosine", "onecycle")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training but the data and the seed.

    Attributes
    ----------
    epochs, batch_size
        For ``fit``.
    filters
        For pictures: filters of each block. A block is two convolutions of 3 x 3, the first of them with
        padding "same", and a maximum pooling; blocks come before the hidden layers. A dense network has none.
    hidden
        Units of each hidden layer.
    activation
        Of the convolutions and the hidden layers.
    pool_dropout
        Rate after each pooling.
    dropout
        Rate after each hidden layer.
    batch_norm
        Whether each convolution and each hidden layer is normalised before its activation.
    optimizer
        Its name.
    learning_rate
        The highest one; None for the optimizer's own.
    weight_decay
        Decoupled, times the learning rate at each step; Muon's is of matrices, its vectors keep their own.
    schedule
        "constant", "cosine" (from the start down to 0) or "onecycle" (up in the first 30 %, then down).
    label_smoothing
        Share of each target that is spread over all classes.
    flip
        Whether pictures are mirrored left to right at random.
    shift
        Pixels by which pictures are moved at most, up or down and left or right; their edges are repeated.
    inputs
        "raw", "unit" (/ 255) or "standardised" (mean 0 and variance 1 in each channel).
    """

    epochs: int = 20
    batch_size: int = 32
    filters: tuple[int, ...] = ()
    hidden: tuple[int, ...] = (512, 512)
    activation: str = "relu"
    pool_dropout: float = 0.0
    dropout: float = 0.0
    batch_norm: bool = False
    optimizer: str = "rmsprop"
    learning_rate: float | None = None
    weight_decay: float = 0.0
    schedule: str = "constant"
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    inputs: str = "unit"


TUTORIAL = Recipe()
# Chosen on 5,000 training images held out, never on the test images: 25 epochs a try, one seed each, with a
# prototype in bfloat16. AdamW: 0.560 with black edges, 0.590 with repeated ones, at best 0.609 (with batch
# normalisation; settings were changed one at a time). Muon: 0.639 as below, 0.646 in batches of 256, whose
# epochs are dearer. Equal epochs are not equal time: a step of Muon costs more.
BEST = Recipe(
    epochs=40,
    batch_size=1024,
    dropout=0.1,
    optimizer="muon",
    learning_rate=2e-3,
    weight_decay=2.0,
    schedule="onecycle",
    label_smoothing=0.1,
    flip=True,
    shift=2,
    inputs="standardised",
)
# The convolutional network of Keras's example cifar10_cnn, with Adam.
CNN = Recipe(
    epochs=10,
    batch_size=128,
    filters=(32, 64),
    hidden=(512,),
    pool_dropout=0.25,
    dropout=0.5,
    optimizer="adam",
)
RECIPES = {"tutorial": TUTORIAL, "best": BEST, "cnn": CNN}


def build(
    recipe: Recipe,
    input_shape: Shape,
    classes: int,
    steps_per_epoch: int,
    seed: int,
    kernels: str | None = None,
    mean: Any = None,
    variance: Any = None,
) -> Sequential:
    """Return the compiled model of a recipe, for samples as they are: pictures stay bytes.

    Parameters
    ----------
    input_shape
        Of one sample: (32, 32, 3).
    classes
        Units of the last layer; 0 for one number, a quantity.
    steps_per_epoch
        What the schedule counts in.
    seed
        The initial weights depend on it and the layers alone, not on what comes before the first of them.
    mean, variance
        Of each channel, or of each feature, for "standardised" inputs.

    Raises
    ------
    ValueError
        If a setting is unknown or does not fit the samples.
    """
    if recipe.filters and len(input_shape) != 3:
        raise ValueError(f"filters are for pictures, got samples of shape {input_shape}.")
    network = Sequential(_network(recipe, classes), seed=seed)
    network.build((None, *input_shape) if recipe.filters else (None, int(np.prod(input_shape))))
    model = Sequential([*_preparation(recipe, input_shape, mean, variance), *network.layers], seed=seed)
    model.build((None, *input_shape))
    steps = steps_per_epoch * recipe.epochs
    loss: losses.Loss = losses.MeanSquaredError()
    if classes:
        loss = losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    metric = "accuracy" if classes else "mean_absolute_error"
    model.compile(_optimizer(recipe, steps), loss, [metric], kernels=kernels)
    return model


def _preparation(recipe: Recipe, input_shape: Shape, mean: Any, variance: Any) -> list[Layer]:
    """Return the layers between the samples and the first one that learns."""
    prepared: list[Layer] = []
    if recipe.flip:
        prepared.append(RandomFlip("horizontal"))
    if recipe.shift:
        height, width = input_shape[:2]
        if recipe.shift > (side := min(height, width)):
            raise ValueError(f"shift must be at most {side}, the side of the pictures, got {recipe.shift}.")
        factors = recipe.shift / height, recipe.shift / width
        prepared.append(RandomTranslation(*factors, fill_mode="nearest"))
    if recipe.inputs == "unit":
        prepared.append(Normalization(mean=0.0, variance=255.0**2))  # x / 255, to the bit
    elif recipe.inputs == "standardised":
        if mean is None or variance is None:
            raise ValueError('inputs="standardised" needs mean and variance of the training samples.')
        prepared.append(Normalization(mean=mean, variance=variance))
    elif recipe.inputs != "raw":
        raise ValueError(f"inputs must be one of {', '.join(INPUTS)}, got {recipe.inputs!r}.")
    return [*prepared, Flatten()] if len(input_shape) > 1 and not recipe.filters else prepared


def _network(recipe: Recipe, classes: int) -> list[Layer]:
    """Return the layers that learn, with their companions."""
    network: list[Layer] = []

    def add(layer: Callable[..., Layer], *arguments: Any, **options: Any) -> None:
        if recipe.batch_norm:
            network.append(layer(*arguments, **options, use_bias=False))
            network.extend([BatchNormalization(), Activation(recipe.activation)])
        else:
            network.append(layer(*arguments, **options, activation=recipe.activation))

    for filters in recipe.filters:
        add(Conv2D, filters, 3, padding="same")
        add(Conv2D, filters, 3)
        network.append(MaxPooling2D())
        if recipe.pool_dropout:
            network.append(Dropout(recipe.pool_dropout))
    if recipe.filters:
        network.append(Flatten())
    for units in recipe.hidden:
        add(Dense, units)
        if recipe.dropout:
            network.append(Dropout(recipe.dropout))
    return [*network, Dense(classes, activation="softmax") if classes else Dense(1)]


def widths(recipe: Recipe, input_shape: Shape, classes: int) -> str:
    """Return "3072-512-512-10" or, of a convolutional network, "32x32x3-32-32-pool-512-10"."""
    pictures = "x".join(map(str, input_shape)) if recipe.filters else str(np.prod(input_shape))
    blocks = [f"{filters}-{filters}-pool" for filters in recipe.filters]
    return "-".join([pictures, *blocks, *map(str, recipe.hidden), str(classes)])


def _optimizer(recipe: Recipe, steps: int) -> optimizers.Optimizer:
    """Return the optimizer with its schedule over all ``steps``."""
    own = optimizers.get(recipe.optimizer).learning_rate
    rate: Any = own if recipe.learning_rate is None else recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = schedules.CosineDecay(rate, steps)
    elif recipe.schedule == "onecycle":
        rate = schedules.OneCycle(rate, steps)
    elif recipe.schedule != "constant":
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {recipe.schedule!r}.")
    kind: Any = lookup("optimizer", recipe.optimizer, optimizers.NAMES)
    return kind(rate, weight_decay=recipe.weight_decay)
