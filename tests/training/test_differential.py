"""Random networks, losses, optimizers and events: NumPy's kernels and the compiled ones train alike."""

import random
import warnings

import numpy as np
import pytest
from effort import times

from npnet import losses, optimizers
from npnet.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Normalization,
    Rescaling,
)
from npnet.models import Sequential, load_model

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3, 4))
LABELS = np.arange(40) % 3
MANY = times(False, True)  # kinds: each new one is compiled
ACTIVATIONS = ["relu", "tanh", None, *(["elu", "gelu", "sigmoid", "softplus", "leaky_relu"] if MANY else [])]
OPTIMIZERS = {
    "sgd": lambda **o: optimizers.SGD(0.02, **o),
    "adam": lambda **o: optimizers.Adam(0.01, **o),
    **(
        {
            "momentum": lambda **o: optimizers.SGD(0.02, momentum=0.8, nesterov=True, **o),
            "rmsprop": lambda **o: optimizers.RMSprop(0.002, **o),
            "adagrad": lambda **o: optimizers.Adagrad(0.02, **o),
            "muon": lambda **o: optimizers.Muon(0.002, **o),
        }
        if MANY
        else {}
    ),
}
LOSSES = [
    ("softmax", lambda: losses.CategoricalCrossentropy(label_smoothing=0.1), "one-hot"),
    ("softmax", lambda: losses.SparseCategoricalCrossentropy(ignore_class=1), "labels"),
    (None, lambda: losses.CategoricalCrossentropy(from_logits=True), "one-hot"),
    ("sigmoid", lambda: losses.BinaryCrossentropy(), "one-hot"),
    (None, lambda: losses.MeanSquaredError(reduction="sum"), "one-hot"),
]


class Looks(Layer):
    """A layer that looks at the weights of one of its model's Dense layers, or at the optimizer's memory."""

    model: Sequential

    def __init__(self, number, action, **options):
        super().__init__(**options)
        self.number, self.action = number, action

    def look(self):
        dense = [layer for layer in self.model.layers if isinstance(layer, Dense)]
        kernel = dense[self.number % len(dense)].kernel
        if self.action == "write":
            kernel.value *= 0.99
        elif self.action == "read":
            kernel.value.sum()
        elif self.action == "slots":
            sum(slot.sum() for slot in kernel.slots.values())
        elif self.action == "numbers":
            np.asarray(kernel)
        else:
            self.model.get_weights()

    def forward(self, x, training=False):
        if training:
            self.look()
        return x

    def backward(self, dy):
        self.look()
        return dy


def layers(choose):
    """A random chain; the layers' own choices come from the same numbers each time."""
    chain = [Rescaling(0.5, 0.1)] if choose.random() < 0.3 else []
    if choose.random() < 0.2:
        chain.append(Normalization(mean=0.1, variance=1.2))
    chain.append(Flatten())
    for _ in range(choose.randint(1, 4)):
        chain.append(
            Dense(
                choose.choice([1, 5, 24, 33]),
                choose.choice(ACTIVATIONS),
                use_bias=choose.random() < 0.8,
                kernel_regularizer="l2" if choose.random() < 0.2 else None,
            )
        )
        if choose.random() < 0.2:
            chain.append(choose.choice([Dropout(0.2), BatchNormalization(), Activation("tanh")]))
    if choose.random() < 0.3:
        action = choose.choice(["read", "write", "slots", "numbers", "weights"])
        chain.insert(choose.randint(0, len(chain)), Looks(choose.randint(0, 3), action))
    return chain


def introduced(model):
    """The model, which its layers know."""
    for layer in model.layers:
        if isinstance(layer, Looks):
            layer.model = model
    return model


def optimizer(choose):
    clip = choose.choice([{}, {}, {"clipnorm": 0.5}, {"clipvalue": 0.05}, {"global_clipnorm": 0.3}])
    decay = {"weight_decay": 0.01} if choose.random() < 0.2 else {}
    return OPTIMIZERS[choose.choice(list(OPTIMIZERS))](**clip, **decay)


def story(seed, kernels, folder):
    """Weights and reported figures of a model after a few events, all of them chosen by the seed."""
    choose = random.Random(seed)
    last, loss, kind = choose.choice(LOSSES)
    y = LABELS if kind == "labels" else np.eye(3)[LABELS]
    dtype = choose.choice(["float32", "float64"])
    model = introduced(Sequential([*layers(choose), Dense(3, last)], seed=seed, dtype=dtype))
    options = {"kernels": kernels, "steps_per_execution": choose.choice(["auto", 1, 3])}
    metrics = choose.choice([[], ["accuracy"], ["mae"]]) if kind == "one-hot" else ["accuracy"]
    model.compile(optimizer(choose), loss(), metrics, **options)
    figures = []
    for _ in range(choose.randint(2, 5)):
        rows = choose.choice([40, 37])
        batch_size = choose.choice([1, 7, 16, 40])
        weight = choose.choice([None, np.linspace(0.5, 1.5, rows)])
        history = model.fit(X[:rows], y[:rows], batch_size, verbose=0, sample_weight=weight).history
        figures += [values[-1] for _, values in sorted(history.items())]
        event = choose.choice(["freeze", "thaw", "recompile", "save", "rate", "write", "evaluate", "nothing"])
        dense = [layer for layer in model.layers if isinstance(layer, Dense)]
        if event == "freeze":
            choose.choice(dense).trainable = False
        elif event == "recompile":
            model.compile(optimizer(choose), loss(), metrics, **options)
        elif event == "save":
            model.save(folder / "model")
            model = introduced(load_model(folder / "model", {"Looks": Looks}))
        elif event == "rate":
            model.optimizer.learning_rate *= 0.5
        elif event == "write":
            model.set_weights([0.9 * array for array in model.get_weights()])
        elif event == "evaluate":
            figures += np.ravel(model.evaluate(X, y, verbose=0)).tolist()
        if event == "thaw" or not model.trainable_parameters:
            model.trainable = True
    return figures, model.get_weights(), dtype


@pytest.mark.parametrize("seed", range(times(2, 2000)))
def test_both_kernel_sets_tell_the_same_story(seed, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these networks make no sense beyond being trained
        (figures, weights, dtype), (others, other_weights, _) = (
            story(seed, kernels, tmp_path) for kernels in ("numpy", "numba")
        )
    if dtype == "float32":  # where a gradient is 0 but for rounding, Adam makes steps of the rounding
        np.testing.assert_allclose(others, figures, rtol=5e-3, atol=1e-3)
        return
    np.testing.assert_allclose(others, figures, rtol=1e-7, atol=1e-9)
    for ours, theirs in zip(other_weights, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-8)
