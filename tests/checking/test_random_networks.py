"""The check accuses no correct code: random small networks of everything that has a gradient."""

import copy

import numpy as np
import pytest

from npnet import layers, losses, regularizers
from npnet.checking import gradient_cases
from npnet.checking.gradient_cases import TARGETS, Case, K, N, examples
from npnet.initializers import Constant, VarianceScaling
from npnet.layers import BatchNormalization, Dense, Flatten, activations
from npnet.layers.more import Whole

QUICK = 60
DRAWN = 12  # numbers of each tensor that are nudged one by one; all others together, along one direction
OF_WHOLE_NUMBERS = (layers.Embedding, layers.CategoryEncoding)  # they come first in a network or nowhere
LAYERS = [
    layer
    for cls in layers.CLASSES.values()
    if cls not in (layers.Input, *OF_WHOLE_NUMBERS)
    for layer in examples(cls)
]
FIRST = [layer for layer in LAYERS if layer.input_shape is not None]
LATER = [layer for layer in LAYERS if layer.input_shape is None and not isinstance(layer, Dense)]
OF_PICTURES = [layer for layer in FIRST if len(layer.input_shape) == 3]
LATER += [BatchNormalization(epsilon=1e-5)]
ACTIVATIONS = [None, *activations.NAMES]
LOSSES = [
    example
    for cls in dict.fromkeys(losses.NAMES.values())
    for example in gradient_cases.LOSS_EXAMPLES.get(cls, lambda cls=cls: [(cls(), None, "")])()
]
PENALTIES = [penalty for cls in dict.fromkeys(regularizers.NAMES.values()) for penalty in examples(cls)]
KERNELS = ["glorot_uniform", "he_normal", "lecun_normal", "zeros", VarianceScaling(9.0)]
BIASES = ["zeros", "ones", Constant(0.3)]
SCALES = [0.01, 0.1, 1.0, 10.0, 100.0]  # of samples; large ones saturate what can be saturated


def fitting(network):
    """Return the first layer and those of the others that fit after it, made to be no first ones."""
    first, *others = network
    fit, shape = [first], first.compute_output_shape(first.input_shape)
    for layer in others:
        layer.input_shape = None
        try:
            shape = layer.compute_output_shape(shape)
        except ValueError:
            continue
        fit.append(layer)
    return fit


def random_case(seed, entries=30):
    """Return a network of one to six layers with whatever options."""
    rng = np.random.default_rng(seed)

    def one_of(options):
        return copy.deepcopy(options[rng.integers(len(options))])

    def dense(units, activation, **options):
        return Dense(
            units, activation, use_bias=rng.random() < 0.8, trainable=rng.random() < 0.9,
            kernel_initializer=one_of(KERNELS), bias_initializer=one_of(BIASES),
            kernel_regularizer=one_of([None, *PENALTIES]), bias_regularizer=one_of([None, *PENALTIES]),
            **options,
        )  # fmt: skip

    def units():
        return int(rng.integers(1, 7))

    if rng.random() < 0.3:
        network = [one_of(FIRST)]
        network += [one_of(OF_PICTURES) for _ in range(rng.integers(0, 3))]
        network = [*fitting(network), Flatten()]
    else:
        network = [dense(units(), one_of(ACTIVATIONS), input_shape=(units(),))]
    for _ in range(rng.integers(0, 5)):
        network.append(one_of(LATER) if rng.random() < 0.6 else dense(units(), one_of(ACTIVATIONS)))
    loss, last, kind = one_of(LOSSES)
    network.append(dense(K, last))
    n = int(rng.integers(1, N + 1))
    x = one_of([0.0, *SCALES]) * rng.standard_normal((n, *network[0].input_shape))
    if isinstance(network[0], Whole):
        x = np.abs(np.rint(x)) % 4
    weight = rng.uniform(0, 3, n) if rng.random() < 0.3 else None
    return Case("random", f"{seed}", network, TARGETS[kind][:n], loss, x, weight, entries=entries)


def check(seed, entries=30):
    """Check a network; where the loss is clipped or not finite, the check must say so."""
    try:
        result = random_case(seed, entries).check()
    except RuntimeError as error:
        assert "is clipped" in str(error) or "is nan" in str(error)
        return False
    assert result.passed, f"\n{seed}: {random_case(seed).layers}\n{result}"
    return True


def test_random_networks_are_right():
    checked = sum(check(seed, DRAWN) for seed in range(QUICK))
    assert checked >= 0.95 * QUICK


@pytest.mark.slow
def test_a_thousand_random_networks_are_right():
    checked = sum(map(check, range(1000)))
    assert checked >= 950
