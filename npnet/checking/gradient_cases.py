"""Everything that has a gradient, each in a network small enough to be checked number by number.

The lists come from the registries (``activations.NAMES``, ``layers.CLASSES``, ``losses.NAMES``,
``regularizers.NAMES``), so what is added there is checked without a word here. ``EXAMPLES`` says with which
arguments: needed for what cannot be made without any, useful for what has options.
"""

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npnet import layers, losses, regularizers
from npnet.checking.gradient_check import GradientCheck, check_gradients
from npnet.internal.config import Configurable
from npnet.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    Rescaling,
    activations,
)
from npnet.layers.preprocessing import Normalization, RandomFlip, RandomTranslation
from npnet.losses import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from npnet.models import Sequential

__all__ = [
    "ANY",
    "EXAMPLES",
    "LABELS",
    "LOSS_EXAMPLES",
    "MAPS",
    "PICTURES",
    "SEQUENCES",
    "SOFT",
    "SQUARES",
    "TARGETS",
    "Case",
    "D",
    "K",
    "M",
    "MasklessReLU",
    "N",
    "describe",
    "everything",
    "examples",
    "wrong_case",
]

N, D, M, K = 6, 5, 4, 3
PICTURES = (2, 3, 2)  # shape of one
MAPS = (5, 4, 2)  # of one with room for windows
SEQUENCES = (6, 2)


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


LABELS = np.arange(N) % K
SQUARES = _normal(2, N, K) ** 2
SOFT = SQUARES / SQUARES.sum(axis=-1, keepdims=True)
TARGETS = {
    "": _normal(3, N, K),
    "one-hot": np.eye(K)[LABELS],
    "soft": SOFT,
    "not summing to one": 0.7 * SOFT,
    "labels": LABELS,
    "labels in a column": LABELS[:, None],
    "labels, one ignored": np.where(np.arange(N) == 2, 255, LABELS),
    "bits": (np.arange(N * K).reshape(N, K) % 2).astype(float),
    "counts": (np.arange(N * K).reshape(N, K) % 4).astype(float),
}
ANY = TARGETS[""]


@dataclass(frozen=True)
class Case:
    """A network, samples and targets to compare its gradients with differences.

    Attributes
    ----------
    group, name
        What is checked: "activations", "relu".
    layers, loss
        The network, made anew for every check.
    x, y, sample_weight
        A small batch.
    entries
        Numbers to check in each tensor at most.
    """

    group: str
    name: str
    layers: list[Layer]
    y: np.ndarray
    loss: Any = "mse"
    x: np.ndarray | None = None
    sample_weight: np.ndarray | None = None
    entries: int = 500

    @property
    def samples(self) -> np.ndarray:
        """``x``, or random numbers of shape (N, D)."""
        return _normal(1, N, D) if self.x is None else self.x

    def check(self, kernels: str | None = "numpy", fused: bool = False) -> GradientCheck:
        """Return the table of the check with a kernel set, and of a fused step if ``fused``."""
        model = Sequential(copy.deepcopy(self.layers), dtype="float64", seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some losses are tried on outputs that do not suit them
            model.compile(loss=copy.deepcopy(self.loss), kernels=kernels)
        return check_gradients(
            model, self.samples, self.y, self.sample_weight, entries=self.entries, verbose=False, fused=fused
        )


# --- with which arguments -----------------------------------------------------------------------------------

# A layer with an input shape comes first, any other between two Dense.
EXAMPLES: dict[type[Configurable], Callable[[], list[Any]]] = {
    layers.Dense: lambda: [Dense(M), Dense(M, use_bias=False), Dense(M, "tanh", trainable=False)],
    layers.Activation: lambda: [Activation("tanh")],
    layers.Rescaling: lambda: [Rescaling(0.5, offset=2.0)],
    layers.Dropout: lambda: [Dropout(0.4), Dropout(0.4, seed=1), Dropout(0.0)],
    layers.Flatten: lambda: [Flatten(input_shape=PICTURES)],
    layers.BatchNormalization: lambda: [
        BatchNormalization(),
        BatchNormalization(input_shape=PICTURES),
        BatchNormalization(center=False),
        BatchNormalization(scale=False, epsilon=1e-5),
        BatchNormalization(trainable=False, moving_mean_initializer="ones"),
    ],
    Normalization: lambda: [Normalization(mean=0.5, variance=2.0)],
    RandomFlip: lambda: [RandomFlip(input_shape=PICTURES)],
    layers.GaussianNoise: lambda: [layers.GaussianNoise(0.3)],
    layers.PReLU: lambda: [
        layers.PReLU(alpha_initializer="random_normal"),
        layers.PReLU("ones", "l2", shared_axes=[1, 2], input_shape=PICTURES),
    ],
    layers.Nested: lambda: [layers.Nested([Dense(M, "tanh"), Dropout(0.3), Dense(M, trainable=False)])],
    layers.Embedding: lambda: [layers.Embedding(9, 4, "random_normal", "l2", input_shape=(5,))],
    layers.CategoryEncoding: lambda: [
        layers.CategoryEncoding(9, mode, input_shape=(5,)) for mode in ("one_hot", "multi_hot", "count")
    ],
    layers.Resizing: lambda: [
        layers.Resizing(3, 5, how, input_shape=PICTURES) for how in ("bilinear", "nearest")
    ],
    layers.CenterCrop: lambda: [
        layers.CenterCrop(1, 2, input_shape=PICTURES),
        layers.CenterCrop(5, 4, input_shape=PICTURES),
    ],
    layers.RandomCrop: lambda: [
        layers.RandomCrop(1, 2, input_shape=PICTURES),
        layers.RandomCrop(5, 4, input_shape=PICTURES),  # larger than they are
    ],
    layers.RandomBrightness: lambda: [layers.RandomBrightness(0.2, (-2, 2), input_shape=PICTURES)],
    layers.RandomContrast: lambda: [layers.RandomContrast(0.5, (-2, 2), input_shape=PICTURES)],
    layers.RandomRotation: lambda: [
        layers.RandomRotation(0.3, mode, how, input_shape=PICTURES)
        for mode, how in (("reflect", "bilinear"), ("constant", "bilinear"), ("wrap", "nearest"))
    ],
    layers.RandomZoom: lambda: [
        layers.RandomZoom((-0.5, 0.5), input_shape=PICTURES),
        layers.RandomZoom(0.5, 0.3, "nearest", fill_value=1.0, input_shape=PICTURES),
    ],
    RandomTranslation: lambda: [
        RandomTranslation(0.5, 0.4, mode, input_shape=PICTURES) for mode in ("reflect", "constant")
    ],
    layers.Conv2D: lambda: [
        layers.Conv2D(3, 3, input_shape=MAPS),
        layers.Conv2D(3, (2, 3), strides=(3, 2), padding="same", activation="tanh", input_shape=MAPS),
        layers.Conv2D(4, 2, dilation_rate=2, groups=2, use_bias=False, input_shape=MAPS),
        layers.Conv2D(2, 7, padding="same", kernel_regularizer="l2", input_shape=MAPS),
        layers.Conv2D(3, 1, activation="softmax", trainable=False, input_shape=MAPS),
    ],
    layers.Conv1D: lambda: [
        layers.Conv1D(3, 3, input_shape=SEQUENCES),
        layers.Conv1D(2, 2, strides=2, padding="same", use_bias=False, input_shape=SEQUENCES),
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2, groups=2, input_shape=SEQUENCES),
    ],
    layers.DepthwiseConv2D: lambda: [
        layers.DepthwiseConv2D(3, input_shape=MAPS),
        layers.DepthwiseConv2D(
            (2, 3), strides=2, padding="same", depth_multiplier=3, use_bias=False, input_shape=MAPS
        ),
        layers.DepthwiseConv2D(2, dilation_rate=2, activation="elu", input_shape=MAPS),
    ],
    layers.SeparableConv2D: lambda: [
        layers.SeparableConv2D(3, 3, pointwise_regularizer="l2", input_shape=MAPS),
        layers.SeparableConv2D(
            2, 2, strides=2, padding="same", depth_multiplier=3, activation="tanh", input_shape=MAPS
        ),
        layers.SeparableConv2D(2, 2, dilation_rate=2, use_bias=False, input_shape=MAPS),
    ],
    layers.Conv2DTranspose: lambda: [
        layers.Conv2DTranspose(3, 3, input_shape=MAPS),
        layers.Conv2DTranspose(2, (2, 3), strides=3, activation="tanh", use_bias=False, input_shape=MAPS),
        layers.Conv2DTranspose(2, 3, strides=2, padding="same", output_padding=1, input_shape=MAPS),
        layers.Conv2DTranspose(2, 2, padding="same", dilation_rate=2, input_shape=MAPS),
    ],
    **{
        cls: lambda cls=cls, shape=shape: [  # type: ignore[misc]
            cls(2, input_shape=shape),
            cls(3, strides=1, padding="same", input_shape=shape),
            cls(3, strides=2, padding="same", input_shape=shape),
        ]
        for cls, shape in (
            (layers.MaxPooling2D, MAPS),
            (layers.AveragePooling2D, MAPS),
            (layers.MaxPooling1D, SEQUENCES),
            (layers.AveragePooling1D, SEQUENCES),
        )
    },
    **{
        cls: lambda cls=cls, shape=shape: [  # type: ignore[misc]
            cls(input_shape=shape),
            cls(keepdims=True, input_shape=shape),
        ]
        for cls, shape in (
            (layers.GlobalMaxPooling2D, MAPS),
            (layers.GlobalAveragePooling2D, MAPS),
            (layers.GlobalMaxPooling1D, SEQUENCES),
            (layers.GlobalAveragePooling1D, SEQUENCES),
        )
    },
    layers.ZeroPadding2D: lambda: [layers.ZeroPadding2D(((1, 0), (2, 1)), input_shape=PICTURES)],
    layers.Cropping2D: lambda: [layers.Cropping2D(((1, 0), (1, 1)), input_shape=MAPS)],
    layers.UpSampling2D: lambda: [
        layers.UpSampling2D((2, 3), interpolation=way, input_shape=PICTURES)
        for way in ("nearest", "bilinear")
    ],
    layers.Reshape: lambda: [layers.Reshape((4, -1), input_shape=PICTURES)],
    layers.Permute: lambda: [layers.Permute((3, 1, 2), input_shape=PICTURES)],
    layers.SpatialDropout2D: lambda: [layers.SpatialDropout2D(0.4, input_shape=PICTURES)],
    layers.LayerNormalization: lambda: [
        layers.LayerNormalization(),
        layers.LayerNormalization(center=False, scale=False, epsilon=0.1, input_shape=MAPS),
    ],
    layers.GroupNormalization: lambda: [
        layers.GroupNormalization(1),
        layers.GroupNormalization(2, input_shape=MAPS),
        layers.GroupNormalization(1, gamma_regularizer="l2", input_shape=MAPS),
        layers.GroupNormalization(-1, scale=False, input_shape=MAPS),
    ],
    activations.ReLU: lambda: [
        activations.ReLU(),
        activations.ReLU(max_value=0.7),
        activations.ReLU(max_value=0.9, negative_slope=0.3, threshold=0.2),
    ],
    activations.LeakyReLU: lambda: [activations.LeakyReLU(), activations.LeakyReLU(0.1)],
    activations.ELU: lambda: [activations.ELU(), activations.ELU(alpha=0.6)],
    regularizers.L1: lambda: [regularizers.L1(0.1)],
    regularizers.L2: lambda: [regularizers.L2(0.1)],
    regularizers.L1L2: lambda: [regularizers.L1L2(0.1, 0.2)],
}

# The loss, the activation before it, and a key of TARGETS.
LOSS_EXAMPLES: dict[type[losses.Loss], Callable[[], list[tuple[losses.Loss, str | None, str]]]] = {
    losses.MeanSquaredError: lambda: [
        (losses.MeanSquaredError(), None, ""),
        (losses.MeanSquaredError(reduction="sum"), None, ""),
    ],
    CategoricalCrossentropy: lambda: [
        (CategoricalCrossentropy(), "softmax", "one-hot"),
        (CategoricalCrossentropy(), "softmax", "soft"),
        (CategoricalCrossentropy(), "softmax", "not summing to one"),
        (CategoricalCrossentropy(), "sigmoid", "soft"),  # nothing to join
        (CategoricalCrossentropy(label_smoothing=0.3), "softmax", "one-hot"),
        (CategoricalCrossentropy(reduction="sum"), "softmax", "one-hot"),
        (CategoricalCrossentropy(from_logits=True), None, "not summing to one"),
        (CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), None, "one-hot"),
        (CategoricalCrossentropy(from_logits=True), "softmax", "one-hot"),
    ],
    SparseCategoricalCrossentropy: lambda: [
        (SparseCategoricalCrossentropy(), "softmax", "labels"),
        (SparseCategoricalCrossentropy(), "softmax", "labels in a column"),
        (SparseCategoricalCrossentropy(), "sigmoid", "labels"),
        (SparseCategoricalCrossentropy(from_logits=True), None, "labels"),
        (SparseCategoricalCrossentropy(ignore_class=255), "softmax", "labels, one ignored"),
        (SparseCategoricalCrossentropy(ignore_class=255, reduction="sum"), "softmax", "labels, one ignored"),
        (SparseCategoricalCrossentropy(from_logits=True, ignore_class=255), None, "labels, one ignored"),
    ],
    BinaryCrossentropy: lambda: [
        (BinaryCrossentropy(), "sigmoid", "bits"),
        (BinaryCrossentropy(), "softmax", "bits"),
        (BinaryCrossentropy(label_smoothing=0.3), "sigmoid", "bits"),
        (BinaryCrossentropy(from_logits=True), None, "bits"),
        (BinaryCrossentropy(from_logits=True, label_smoothing=0.3), None, "bits"),
    ],
    losses.Huber: lambda: [(losses.Huber(), None, ""), (losses.Huber(delta=0.3), None, "")],
    losses.MeanSquaredLogarithmicError: lambda: [
        (losses.MeanSquaredLogarithmicError(), "softplus", "counts"),
        (losses.MeanSquaredLogarithmicError(), None, "counts"),  # some predictions are negative
    ],
    losses.Poisson: lambda: [(losses.Poisson(), "softplus", "counts")],
    losses.KLDivergence: lambda: [
        (losses.KLDivergence(), "softmax", "soft"),
        (losses.KLDivergence(), "softplus", "one-hot"),
    ],
    losses.Hinge: lambda: [(losses.Hinge(), "tanh", "bits"), (losses.Hinge(), None, "")],
    losses.SquaredHinge: lambda: [(losses.SquaredHinge(), "tanh", "bits")],
    losses.CategoricalHinge: lambda: [(losses.CategoricalHinge(), None, "one-hot")],
    losses.CategoricalFocalCrossentropy: lambda: [
        (losses.CategoricalFocalCrossentropy(), "softmax", "one-hot"),
        (losses.CategoricalFocalCrossentropy([0.2, 1.0, 0.5], 1.5), "softmax", "soft"),
        (losses.CategoricalFocalCrossentropy(), "sigmoid", "soft"),
        (losses.CategoricalFocalCrossentropy(from_logits=True, label_smoothing=0.2), None, "one-hot"),
        (losses.CategoricalFocalCrossentropy(gamma=0), "softmax", "not summing to one"),
    ],
    losses.BinaryFocalCrossentropy: lambda: [
        (losses.BinaryFocalCrossentropy(), "sigmoid", "bits"),
        (losses.BinaryFocalCrossentropy(True, 0.3, 1.5), "softmax", "bits"),
        (losses.BinaryFocalCrossentropy(True, label_smoothing=0.3), "sigmoid", "bits"),
        (losses.BinaryFocalCrossentropy(from_logits=True), None, "bits"),
        (losses.BinaryFocalCrossentropy(gamma=0), "sigmoid", "bits"),
    ],
}


def examples(cls: type[Configurable]) -> list[Any]:
    """Return objects of a class to check: those of ``EXAMPLES``, else one with its defaults.

    Raises
    ------
    TypeError
        If the class needs arguments and has no example.
    """
    if cls in EXAMPLES:
        return EXAMPLES[cls]()
    try:
        return [cls()]
    except TypeError as error:
        raise TypeError(
            f"{cls.__name__} has no gradient check: give arguments for it in"
            f" npnet.checking.gradient_cases.EXAMPLES ({error})."
        ) from None


def describe(thing: Configurable) -> str:
    """Return "Dense units=4, use_bias=False": the class and the arguments that are not its defaults."""
    accepted = inspect.signature(type(thing).__init__).parameters
    defaults = {name: parameter.default for name, parameter in accepted.items()}
    defaults |= {"trainable": True, "name": "", "reduction": "sum_over_batch_size"}
    words = []
    for name, value in thing.get_config().items():
        if isinstance(value, dict):
            usual = value["class_name"].lower() == str(defaults[name]).replace("_", "")
            value = value["class_name"]
        else:
            default = defaults.get(name)
            if isinstance(
                value, list
            ):  # a window's height and width, said in one number where they are equal
                value = value[0] if len({*map(str, value)}) == 1 else tuple(value)
            usual = name == "input_shape" or value == default
            value = repr(value)
        if not usual:
            words.append(f"{name}={value}")
    return f"{type(thing).__name__} {', '.join(words)}".rstrip()


# --- the list -----------------------------------------------------------------------------------------------


def everything() -> list[Case]:
    """Return every case: activations, layers, losses, regularizers, whole models."""
    return [*_activations(), *_layers(), *_losses(), *_regularizers(), *_models()]


def _activations() -> Iterator[Case]:
    seen = set()
    for name, cls in activations.NAMES.items():
        if cls not in seen:
            seen.add(cls)
            yield Case("activations", name, [Dense(M, name, input_shape=(D,)), Dense(K)], ANY)


def _layers() -> Iterator[Case]:
    for cls in layers.CLASSES.values():
        if cls is Input:
            continue
        if cls in activations.NAMES.values() and cls not in EXAMPLES:
            continue  # among the activations
        for layer in examples(cls):
            name, shape = describe(layer), layer.input_shape
            if shape is None:
                yield Case("layers", name, [Dense(M, input_shape=(D,)), layer, Dense(K)], ANY)
            else:
                whole = isinstance(layer, (layers.Embedding, layers.CategoryEncoding))
                x = np.arange(N * 5).reshape(N, 5) % 4 * 2 if whole else _normal(1, N, *shape)
                of = "numbers" if whole else "pictures" if len(shape) == 3 else "sequences"
                yield Case("layers", f"{name} of {of}", [layer, Flatten(), Dense(K)], ANY, x=x)


def _losses() -> Iterator[Case]:
    for cls in dict.fromkeys(losses.NAMES.values()):
        for loss, last, kind in LOSS_EXAMPLES[cls]() if cls in LOSS_EXAMPLES else [(cls(), None, "")]:
            name = describe(loss) + (f" of {last}" if last else "") + (f", {kind}" if kind else "")
            network: list[Layer] = [Dense(M, "tanh", input_shape=(D,)), Dense(K, last)]
            yield Case("losses", name, network, TARGETS[kind], loss)


def _regularizers() -> Iterator[Case]:
    for cls in dict.fromkeys(regularizers.NAMES.values()):
        for penalty in examples(cls):
            first = Dense(M, "tanh", input_shape=(D,), kernel_regularizer=penalty, bias_regularizer=penalty)
            frozen = Dense(K, kernel_regularizer=penalty, trainable=False)
            yield Case("regularizers", describe(penalty), [first, frozen], ANY)


def _models() -> Iterator[Case]:
    yield Case(
        "models", "the tutorial's network, 3072-512-512-10",
        [Dense(512, "relu", input_shape=(3072,)), Dense(512, "relu"), Dense(10, "softmax")],
        np.eye(10)[:3], "categorical_crossentropy", np.random.default_rng(0).random((3, 3072)), entries=3,
    )  # fmt: skip
    yield Case(
        "models", "a network of many kinds of layers",
        [
            Rescaling(0.5, input_shape=(2, 3)), Flatten(), Dense(9, use_bias=False), BatchNormalization(),
            activations.ReLU(), Dropout(0.3), Dense(8, "gelu", kernel_regularizer="l2"),
            BatchNormalization(), activations.LeakyReLU(), Dropout(0.2),
            Dense(7, "selu", bias_regularizer="l1"), Dense(K, "softmax"),
        ],
        np.eye(K)[np.arange(16) % K], CategoricalCrossentropy(label_smoothing=0.1), _normal(1, 16, 2, 3),
        np.linspace(0.2, 2, 16),
    )  # fmt: skip
    yield Case(
        "models", "a convolutional network",
        [
            layers.Conv2D(4, 3, padding="same", use_bias=False, input_shape=(7, 6, 2)), BatchNormalization(),
            activations.ReLU(), layers.MaxPooling2D(), layers.SpatialDropout2D(0.2),
            layers.Conv2D(4, 2, activation="gelu", kernel_regularizer="l2"), layers.AveragePooling2D((1, 2)),
            layers.Conv2DTranspose(3, 2, activation="tanh"), Flatten(), Dropout(0.2), Dense(K, "softmax"),
        ],
        np.eye(K)[LABELS], "categorical_crossentropy", _normal(1, N, 7, 6, 2),
    )  # fmt: skip
    yield Case(
        "models", "a deep network, eight layers",
        [Dense(7, "tanh", input_shape=(D,)), *(Dense(7, "elu") for _ in range(6)), Dense(K, "sigmoid")],
        TARGETS["bits"], "binary_crossentropy",
    )  # fmt: skip


# --- what a wrong one looks like ----------------------------------------------------------------------------


class MasklessReLU(activations.ReLU):
    """y = max(x, 0), whose backward forgets the mask: it blames units that were silent, too."""

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dy, where dy [y > 0] is right."""
        return dy


def wrong_case() -> Case:
    """Return a network with a slip in one backward: everything before it gets a wrong gradient."""
    return Case("wrong", "MasklessReLU", [Dense(M, input_shape=(D,)), MasklessReLU(), Dense(K)], ANY)
