"""Complete trainings by name: the tutorial's, the best for its network, and two of convolutional networks.

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
from npnet.layers.preprocessing import FILL_MODES
from npnet.models import Sequential
from npnet.runs import airbench

__all__ = [
    "BEST", "CNN", "EDGES", "FAST", "INPUTS", "NETWORKS", "RECIPES", "SCHEDULES", "TUTORIAL", "Recipe",
    "build", "steps_per_epoch", "widths",
]  # fmt: skip

NETWORKS = ("blocks", "airbench")
INPUTS = ("raw", "unit", "standardised")
SCHEDULES = ("constant", "linear", "cosine", "onecycle")
EDGES = FILL_MODES


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training but the data and the seed.

    Attributes
    ----------
    epochs, batch_size
        For ``fit``.
    drop_remainder
        Whether the last batch of an epoch is left out if it is shorter.
    network
        "blocks": those of ``filters``, then the hidden layers. "airbench": see ``airbench.network``; it has
        filters and an activation, but no hidden layers, no dropout and a batch normalisation of its own.
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
        Of "airbench" with Muon it is that of everything but the filters, divided by the first learning rate.
    schedule
        "constant", "linear" (in a straight line down to 0), "cosine" (from the start down to 0) or "onecycle"
        (up in the first 30 %, then down). "airbench" with Muon is always linear.
    label_smoothing
        Share of each target that is spread over all classes.
    flip
        Whether pictures are mirrored left to right at random.
    alternate
        Whether a picture that was mirrored in one epoch is not in the next, instead of chance each time.
    shift
        Pixels by which pictures are moved at most, up or down and left or right.
    edges
        What comes in there, a fill_mode of RandomTranslation: "nearest" repeats the edge, "mirror" reflects.
    inputs
        "raw", "unit" (/ 255) or "standardised" (mean 0 and variance 1 in each channel).
    dtype
        What layers compute in, a policy of ``npnet.mixed_precision`` by name.
    """

    epochs: int = 20
    batch_size: int = 32
    drop_remainder: bool = False
    network: str = "blocks"
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
    alternate: bool = False
    shift: int = 0
    edges: str = "nearest"
    inputs: str = "unit"
    dtype: str = "float32"


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
# airbench94 with Muon, https://github.com/KellerJordan/cifar10-airbench: 0.940 on CIFAR-10 in 8 epochs.
FAST = Recipe(
    epochs=8,
    batch_size=2000,
    drop_remainder=True,
    network="airbench",
    filters=(64, 256, 256),
    hidden=(),
    activation="gelu",
    optimizer="muon",
    learning_rate=0.24,
    weight_decay=2e-6,
    schedule="linear",
    label_smoothing=0.2,
    flip=True,
    alternate=True,
    shift=2,
    edges="mirror",
    inputs="standardised",
)
RECIPES = {"tutorial": TUTORIAL, "best": BEST, "cnn": CNN, "fast": FAST}


def build(
    recipe: Recipe,
    input_shape: Shape,
    classes: int,
    steps_per_epoch: int,
    seed: int,
    kernels: str | None = None,
    mean: Any = None,
    variance: Any = None,
    pictures: Any = None,
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
    pictures
        The training pictures, for "airbench", which measures its first layer on some of them.

    Raises
    ------
    ValueError
        If a setting is unknown or does not fit the samples.
    """
    if recipe.filters and len(input_shape) != 3:
        raise ValueError(f"filters are for pictures, got samples of shape {input_shape}.")
    preparation = _preparation(recipe, input_shape, mean, variance)
    if recipe.network == "airbench":
        layers = airbench.network(recipe, classes, _prepared(recipe, preparation, pictures))
    else:
        layers = _network(recipe, classes)
    network = Sequential(layers, dtype=recipe.dtype, seed=seed)
    network.build((None, *input_shape) if recipe.filters else (None, int(np.prod(input_shape))))
    model = Sequential([*preparation, *network.layers], dtype=recipe.dtype, seed=seed)
    model.build((None, *input_shape))
    if recipe.network == "airbench":
        airbench.freeze(model)
    loss: losses.Loss = losses.MeanSquaredError()
    if classes:
        loss = losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    elif recipe.label_smoothing:
        raise ValueError("label_smoothing is for classes; the target is a quantity. Leave it out.")
    metric = "accuracy" if classes else "mean_absolute_error"
    model.compile(_optimizer(recipe, steps_per_epoch), loss, [metric], kernels=kernels)
    return model


def steps_per_epoch(recipe: Recipe, n: int) -> int:
    """Return how many steps an epoch of n training samples has.

    Raises
    ------
    ValueError
        If it has none: fewer samples than a batch, and the remainder is dropped.
    """
    if not recipe.drop_remainder:
        return -(-n // recipe.batch_size)
    if n < recipe.batch_size:
        raise ValueError(
            f"batch_size must be at most {n}, the number of training samples, where the remainder is dropped,"
            f" got {recipe.batch_size}."
        )
    return n // recipe.batch_size


def _prepared(recipe: Recipe, preparation: list[Layer], pictures: Any) -> np.ndarray:
    """Return some of the pictures as the first layer that learns gets them, neither moved nor mirrored."""
    if pictures is None:
        raise ValueError('network="airbench" needs the training pictures.')
    taken = {name: getattr(recipe, name) for name in ("hidden", "pool_dropout", "dropout", "batch_norm")}
    if not recipe.filters or any(taken.values()):
        given = ", ".join(f"{name} {value}" for name, value in taken.items() if value) or "no filters"
        raise ValueError(
            f'network="airbench" has filters, and neither hidden layers nor dropout nor batch_norm to choose,'
            f" got {given}."
        )
    x = np.asarray(pictures[: airbench.PICTURES])
    if not preparation:
        return x
    whole = Sequential([type(layer)(**layer.get_config()) for layer in preparation], dtype="float32")
    return whole.predict(x, batch_size=1000, verbose=0)


def _preparation(recipe: Recipe, input_shape: Shape, mean: Any, variance: Any) -> list[Layer]:
    """Return the layers between the samples and the first one that learns."""
    prepared: list[Layer] = []
    if recipe.flip:
        prepared.append(RandomFlip("horizontal", alternate=recipe.alternate))
    if recipe.shift:
        height, width = input_shape[:2]
        if recipe.shift > (side := min(height, width)):
            raise ValueError(f"shift must be at most {side}, the side of the pictures, got {recipe.shift}.")
        factors = recipe.shift / height, recipe.shift / width
        prepared.append(RandomTranslation(*factors, fill_mode=recipe.edges))
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
    if recipe.network == "airbench":
        groups = [f"{filters}-pool-{filters}" for filters in recipe.filters]
        return "-".join([pictures, "whitening", *groups, "pool", str(classes)])
    blocks = [f"{filters}-{filters}-pool" for filters in recipe.filters]
    return "-".join([pictures, *blocks, *map(str, recipe.hidden), str(classes)])


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> optimizers.Optimizer:
    """Return the optimizer with its schedule over all epochs."""
    own = optimizers.get(recipe.optimizer).learning_rate
    rate: Any = own if recipe.learning_rate is None else recipe.learning_rate
    steps = steps_per_epoch * recipe.epochs
    if recipe.network == "airbench" and recipe.optimizer == "muon":
        return airbench.optimizer(recipe, rate, steps_per_epoch)
    if recipe.schedule == "cosine":
        rate = schedules.CosineDecay(rate, steps)
    elif recipe.schedule == "linear":
        rate = schedules.PolynomialDecay(rate, steps, 0.0)
    elif recipe.schedule == "onecycle":
        rate = schedules.OneCycle(rate, steps)
    elif recipe.schedule != "constant":
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {recipe.schedule!r}.")
    kind: Any = lookup("optimizer", recipe.optimizer, optimizers.NAMES)
    return kind(rate, weight_decay=recipe.weight_decay)
