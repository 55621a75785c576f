"""The fused step: it trains to the same weights as the readable one, and nobody else notices it."""

import warnings

import numba
import numpy as np
import pytest
from effort import quick

import npnet
from npnet import losses, optimizers, schedules
from npnet.callbacks import LambdaCallback
from npnet.layers import (
    BatchNormalization,
    Conv1D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Rescaling,
    Reshape,
)
from npnet.layers.layer import Layer
from npnet.models import Sequential
from npnet.training.batches import Batch
from npnet.training.step import Step

OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.01),
    "momentum": lambda: optimizers.SGD(0.01, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(),
    "rmsprop outside": lambda: optimizers.RMSprop(epsilon_inside=False),
    "rmsprop centered": lambda: optimizers.RMSprop(momentum=0.5, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.01),
    "adam": lambda: optimizers.Adam(),
    "amsgrad": lambda: optimizers.Adam(amsgrad=True),
    "adamw": lambda: optimizers.AdamW(),
    "nadam": lambda: optimizers.Nadam(),
    "adamax": lambda: optimizers.Adamax(),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "lion": lambda: optimizers.Lion(),
    "decay": lambda: optimizers.SGD(0.01, weight_decay=0.1),
}


def samples(n=320, inputs=37, classes=5):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, inputs)).astype(np.float32)
    labels = (x @ rng.standard_normal((inputs, classes))).argmax(axis=1)
    return x, np.eye(classes, dtype=np.float32)[labels]


def network():
    """Two activations."""
    return [Dense(40, activation="relu"), Dense(33, activation="tanh"), Dense(5, activation="softmax")]


def usual_network():
    """One activation."""
    return [Dense(40, activation="relu"), Dense(33, activation="relu"), Dense(5, activation="softmax")]


NETWORKS = [network, usual_network]


def pair(layers, optimizer="rmsprop", loss="categorical_crossentropy", dtype="float32"):
    """The same model twice: fused and in the readable order."""
    models = []
    for fused in (True, False):
        model = Sequential(layers(), seed=3, dtype=dtype)
        chosen = OPTIMIZERS[optimizer]() if isinstance(optimizer, str) else optimizer()
        model.compile(chosen, loss() if callable(loss) else loss, kernels="numba", fused=fused)
        models.append(model)
    return models


def plan_of(model):
    """The plan of a model's fused step, or None."""
    step = model.setup.step()
    return None if isinstance(step, Step) else step.current()


def assert_same_training(models, x, y, tolerance=1e-5, **options):
    histories = [model.fit(x, y, verbose=0, **options).history["loss"] for model in models]
    np.testing.assert_allclose(*histories, rtol=tolerance)
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert plan_of(models[0]) is not None
    assert isinstance(models[1].setup.step(), Step)


def test_a_chain_of_dense_takes_whole_steps():
    with_dropout = [Dense(8, "relu"), Dropout(0.5), Dense(5, "softmax")]
    for layers, whole in ((network, True), (usual_network, True), (lambda: with_dropout, False)):
        model = pair(layers)[0]
        model.fit(*samples(8), verbose=0)
        assert plan_of(model).whole == whole


@pytest.mark.parametrize("optimizer", quick(OPTIMIZERS.keys(), "rmsprop", "adam", "decay"))
def test_200_steps_lead_to_the_same_weights(optimizer):
    models = pair(network, optimizer, dtype="float64")
    assert_same_training(models, *samples(), tolerance=1e-9, epochs=20, batch_size=32)


# Batches of more than 32 run on the matrix unit, if there is one.
@pytest.mark.parametrize(("layers", "batch_size"), [(network, 32), (usual_network, 32), (usual_network, 64)])
def test_200_steps_in_float32(layers, batch_size):
    epochs = 200 * batch_size // 320
    assert_same_training(pair(layers), *samples(), tolerance=2e-3, epochs=epochs, batch_size=batch_size)


@pytest.mark.parametrize("optimizer", quick(OPTIMIZERS.keys(), "amsgrad"))
def test_every_optimizer_in_large_batches_of_float32(optimizer):
    assert_same_training(pair(network, optimizer), *samples(), tolerance=1e-3, epochs=4, batch_size=64)


@pytest.mark.parametrize("layers", NETWORKS)
@pytest.mark.parametrize("batch_size", [1, 7, 33, 300, 1100])
def test_every_batch_size_and_a_shorter_last_batch(batch_size, layers):
    x, y = samples(batch_size + 1 if batch_size >= 300 else 61)
    assert_same_training(pair(layers), x, y, epochs=2, batch_size=batch_size)


@pytest.mark.parametrize(
    "dtype",
    quick(
        ["bool", "uint8", "int64", "float64", "float32", ">f4", "float16"], "bool", "uint8", "float32", ">f4"
    ),
)
def test_samples_are_converted_and_rescaled_on_the_way(dtype):
    images = np.random.default_rng(0).integers(0, 256, (70, 3, 13)).astype(dtype)
    y = np.eye(5)[np.arange(70) % 5]

    def layers():
        return [Rescaling(1 / 127.5, -1.0), Flatten(), *network()]

    for x in (images, np.asfortranarray(images)):
        assert_same_training(pair(layers), x, y, batch_size=32)


ACTIVATIONS = ["relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "silu", "gelu", "linear"]
ACTIVATIONS += ["mish", "softsign", "exponential", "hard_sigmoid", "relu6"]


@pytest.mark.parametrize("activation", quick(ACTIVATIONS, "leaky_relu", "gelu", "linear"))
def test_activations(activation):
    def layers():
        return [Dense(19, activation=activation), Dense(9, activation="linear"), Dense(5, "softmax")]

    assert_same_training(pair(layers), *samples(70), epochs=2)


class Double(Layer):
    """A layer that fusion has never heard of."""

    def forward(self, x, training=False):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


PARTLY = {
    "dropout": lambda: [Dense(16, activation="relu"), Dropout(0.5), Dense(5, activation="softmax")],
    "normalisation": lambda: [
        BatchNormalization(), Dense(16), BatchNormalization(), Dense(8, activation="relu"),
        Dense(5, activation="softmax"),
    ],
    "custom layer": lambda: [Dense(16, activation="elu"), Double(), Double(), Dense(5, activation="softmax")],
    "regularizer": lambda: [Dense(16, activation="relu", kernel_regularizer="l2"), Dense(5, "softmax")],
    "frozen": lambda: [Dense(16, activation="relu", trainable=False), Dense(8), Dense(5, "softmax")],
    "no bias": lambda: [Dense(16, activation="relu", use_bias=False), Dense(5, "softmax", use_bias=False)],
    "softmax within": lambda: [Dense(16, activation="softmax"), Dense(5, activation="softmax")],
}  # fmt: skip


@pytest.mark.parametrize("layers", quick(PARTLY, "dropout", "normalisation", "regularizer", "no bias"))
def test_what_is_unknown_runs_as_it_is(layers):
    assert_same_training(pair(layers, "momentum"), *samples(70), epochs=3)


LOSSES = {
    "logits": lambda: losses.CategoricalCrossentropy(from_logits=True),
    "smoothing": lambda: losses.CategoricalCrossentropy(label_smoothing=0.1),
    "sum": lambda: losses.CategoricalCrossentropy(reduction="sum"),
    "squares": lambda: losses.MeanSquaredError(),
    "binary": lambda: losses.BinaryCrossentropy(),
}


@pytest.mark.parametrize("loss", quick(LOSSES, "smoothing", "squares"))
def test_losses(loss):
    last = {"logits": None, "squares": None, "binary": "sigmoid"}.get(
        next(name for name, known in LOSSES.items() if known is loss), "softmax"
    )

    def layers():
        return [Dense(16, activation="relu"), Dense(5, activation=last)]

    assert_same_training(pair(layers, loss=loss), *samples(70), epochs=2)


def test_sparse_labels_with_weights_and_an_ignored_class():
    x, y = samples(70)
    weight = np.linspace(0, 2, 70)
    models = pair(network, loss=lambda: losses.SparseCategoricalCrossentropy(ignore_class=2))
    assert_same_training(models, x, y.argmax(axis=1), epochs=2, sample_weight=weight)


def test_many_classes():
    x, _ = samples(50)
    y = np.eye(70)[np.arange(50)]
    models = pair(lambda: [Dense(70, activation="softmax")])
    models[1].compile("rmsprop", "categorical_crossentropy", kernels="numpy")
    assert_same_training(models, x, y, epochs=3)


def test_a_confident_mistake_still_learns():
    model = pair(lambda: [Dense(2, activation="softmax")])[0]
    x, y = np.ones((1, 3), np.float32), np.array([[1.0, 0.0]])
    model.fit(x, y, verbose=0)
    model.set_weights([np.array([[-99, 99]] * 3, np.float32), np.zeros(2, np.float32)])
    before = model.get_weights()[0].copy()
    model.fit(x, y, verbose=0)
    assert (np.abs(model.get_weights()[0] - before) > 1e-4).all()


def test_nan_reaches_the_loss():
    x, y = samples(32)
    model = pair(network)[0]
    model.fit(x, y, verbose=0)
    model.layers[0].weight.value[0, 0] = np.nan
    assert np.isnan(model.fit(x, y, verbose=0).history["loss"][0])


# --- convolutions ----------------------------------------------------------------------------------------


def pictures(n=40, size=(10, 9), channels=3):
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 5
    x = rng.standard_normal((n, *size, channels))
    x[np.arange(n), labels, labels] += 3
    return x.astype(np.float32), np.eye(5, dtype=np.float32)[labels]


def convolutional():
    """Activation and pooling in the write-out; what reads y and what reads x; what is not absorbed."""
    return [
        Conv2D(16, 3, padding="same", activation="gelu"), Conv2D(17, 3, padding="same", activation="relu"),
        MaxPooling2D(), Dropout(0.3), Conv2D(20, 3, padding="same", use_bias=False), BatchNormalization(),
        Conv2D(8, 2, activation="elu"), Flatten(), Dense(16, "relu"), Dense(5, "softmax"),
    ]  # fmt: skip


def stages_of(model):
    return [type(stage).__name__ for stage in plan_of(model).made]


@pytest.mark.parametrize("optimizer", quick(OPTIMIZERS.keys(), "rmsprop", "nesterov", "amsgrad"))
def test_100_steps_with_convolutions(optimizer):
    models = pair(convolutional, optimizer, dtype="float64")
    assert_same_training(models, *pictures(), tolerance=1e-7, epochs=20, batch_size=8)
    assert stages_of(models[0]) == [
        "FusedConvolution", "FusedConvolution", "Plain", "FusedConvolution", "FusedNormalization",
        "FusedConvolution", "Plain", "FusedDense", "FusedDense",
    ]  # fmt: skip


def test_convolutions_train_as_the_textbook_says():
    models = pair(convolutional)
    models[1].compile("rmsprop", "categorical_crossentropy", kernels="numpy")
    assert_same_training(models, *pictures(), tolerance=2e-3, epochs=2, batch_size=16)


def winograd(activation, **options):
    return Conv2D(16, 3, padding="same", activation=activation, **options)


CONVOLUTIONAL = {
    "no dense": lambda: [winograd("relu"), Conv2D(5, 1), GlobalAveragePooling2D(), Reshape((5,))],
    "pooling of an odd map": lambda: [
        winograd("relu"), winograd("tanh"), MaxPooling2D(), Flatten(), Dense(5),
    ],
    "pooling first": lambda: [winograd(None), winograd(None), MaxPooling2D(), Flatten(), Dense(5)],
    "pooling before its activation": lambda: [
        winograd(None), winograd(None), MaxPooling2D(), npnet.layers.ReLU(), Flatten(), Dense(5),
    ],
    "pooling of what reads x": lambda: [winograd("silu"), MaxPooling2D(), Flatten(), Dense(5)],
    "other pooling": lambda: [
        winograd("relu"), winograd("relu"), MaxPooling2D(2, padding="same"), MaxPooling2D(3, 2), Flatten(),
        Dense(5),
    ],
    "strides, groups, dilation": lambda: [
        Conv2D(8, 3, strides=2, activation="relu"), Conv2D(8, 3, groups=2, padding="same", activation="elu"),
        Conv2D(8, 2, dilation_rate=2, activation="gelu"), Flatten(), Dense(5),
    ],
    "other kinds": lambda: [
        Conv2D(8, 1, activation="relu"), DepthwiseConv2D(3, activation="relu"), Flatten(), Dense(5),
    ],
    "sequences": lambda: [
        Reshape((10, 27)), Conv1D(8, 3, activation="relu"), Conv1D(8, 3, padding="causal"), Flatten(),
        Dense(5),
    ],
    "normalised, then active": lambda: [
        winograd(None), MaxPooling2D(), BatchNormalization(scale=False), npnet.layers.Activation("gelu"),
        winograd(None), BatchNormalization(center=False), npnet.layers.ReLU(), Flatten(), Dense(5),
    ],
    "active, then normalised": lambda: [
        BatchNormalization(), winograd("relu"), BatchNormalization(momentum=0.5), Flatten(), Dense(8),
        BatchNormalization(), npnet.layers.Activation("tanh"), Dense(5),
    ],
    "normalised twice, once frozen": lambda: [
        winograd(None), BatchNormalization(), BatchNormalization(trainable=False), npnet.layers.ReLU(),
        Flatten(), Dense(5),
    ],
    "frozen": lambda: [
        winograd("relu"), winograd("relu", trainable=False), MaxPooling2D(), Flatten(), Dense(5),
    ],
    "frozen first": lambda: [winograd("relu", trainable=False), winograd("relu"), Flatten(), Dense(5)],
    "regularizer": lambda: [winograd("relu", kernel_regularizer="l2"), Flatten(), Dense(5)],
}  # fmt: skip


OTHER_OPTIMIZERS = {
    "muon": lambda: optimizers.Muon(0.01),
    "average": lambda: optimizers.SGD(0.01, use_ema=True, global_clipnorm=0.5),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.Adam(), {".*/bias": optimizers.SGD(0.1, clipnorm=0.1)})
    ),
}


@pytest.mark.parametrize("optimizer", OTHER_OPTIMIZERS.values(), ids=OTHER_OPTIMIZERS.keys())
def test_convolutions_are_fused_with_optimizers_that_the_kernels_do_not_know(optimizer):
    models = pair(convolutional, optimizer, dtype="float64")
    assert_same_training(models, *pictures(20), tolerance=1e-7, epochs=2, batch_size=8)
    assert stages_of(models[0])[-2:] == ["Plain", "Plain"]
    assert models[0].optimizer.iterations == models[1].optimizer.iterations == 6


@pytest.mark.parametrize("layers", CONVOLUTIONAL.values(), ids=CONVOLUTIONAL.keys())
@pytest.mark.parametrize("optimizer", ["momentum", "clipped"])
def test_convolutions_of_all_kinds(layers, optimizer):
    def clipped():
        return optimizers.SGD(0.01, global_clipnorm=0.5)

    models = pair(
        lambda: [*layers(), npnet.layers.Softmax()], clipped if optimizer == "clipped" else optimizer,
        dtype="float64",
    )  # fmt: skip
    assert_same_training(models, *pictures(20), tolerance=1e-9, epochs=2, batch_size=8)


class Doubled(BatchNormalization):
    """A subclass with a formula of its own."""

    def forward(self, x, training=False):
        return 2 * super().forward(x, training)


def test_a_subclass_of_batch_normalisation_runs_as_it_is_written():
    models = pair(lambda: [winograd(None), Doubled(), Flatten(), Dense(5, "softmax")], dtype="float64")
    assert_same_training(models, *pictures(20), tolerance=1e-9, epochs=2, batch_size=8)
    assert stages_of(models[0])[1] == "Plain"


def test_batch_normalisation_may_be_frozen_between_steps():
    models = pair(lambda: [winograd(None), BatchNormalization(), Flatten(), Dense(5, "softmax")])
    x, y = pictures(16)
    for model in models:
        model.train_on_batch(x, y)
        model.layers[1].trainable = False
        before = [average.value.copy() for average in model.layers[1].parameters]
        model.train_on_batch(x, y)
        for average, old in zip(model.layers[1].parameters, before, strict=True):
            np.testing.assert_array_equal(average.value, old)
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_deep_network_keeps_its_plan():
    model = Sequential([Dense(4, "tanh") for _ in range(150)] + [Dense(3, "softmax")], seed=0)
    model.compile("sgd", "categorical_crossentropy", kernels="numba")
    x, y = np.ones((5, 4), np.float32), np.eye(3)[np.arange(5) % 3]
    model.train_on_batch(x, y)
    plan = model.setup._fused_step.plan
    model.train_on_batch(x, y)
    assert model.setup._fused_step.plan is plan is not None


# --- weights come back when someone looks ----------------------------------------------------------------


def test_weights_and_slots_are_given_back_when_read_and_taken_again():
    x, y = samples(64)
    models = pair(network, "adam")
    for _ in range(3):
        for model in models:
            model.train_on_batch(x, y)
        weight, twin = (model.layers[0].weight for model in models)
        assert weight.home.here
        np.testing.assert_allclose(
            weight.slots["first_moment"], twin.slots["first_moment"], rtol=1e-4, atol=1e-8
        )
        assert not weight.home.here
        np.testing.assert_allclose(weight.value, twin.value, rtol=1e-5, atol=1e-6)


def test_weights_written_between_steps_are_used():
    x, y = samples(64)
    models = pair(network)
    for model in models:
        model.fit(x, y, verbose=0)
        model.layers[0].weight.value[:] *= 0.5
        model.layers[1].weight.assign(np.ones((40, 33)))
    assert_same_training(models, x, y, epochs=2)


def test_compile_again_begins_with_the_weights_trained_so_far():
    x, y = samples(64)
    models = pair(network)
    for model, fused in zip(models, (True, False), strict=True):
        model.fit(x, y, verbose=0)
        model.compile("adam", "categorical_crossentropy", kernels="numba", fused=fused)
    assert_same_training(models, x, y, epochs=2)


def test_the_learning_rate_may_change_between_steps():
    x, y = samples(64)
    models = pair(network)
    for model in models:
        model.fit(x, y, verbose=0)
        model.optimizer.learning_rate = 0.01
    assert_same_training(models, x, y, epochs=2)


def test_predictions_belong_to_the_caller():
    x, y = samples(64)
    model = pair(network)[0]
    model.fit(x, y, verbose=0)
    batches = [Batch(np.arange(start, start + 16), y[start : start + 16]) for start in (0, 16, 32, 48)]
    step = model.setup.step()
    [(_, first), (_, second)] = step(x, batches[:2])
    kept = first.copy(), second.copy()
    step(x, batches[2:])
    np.testing.assert_array_equal((first, second), kept)


def test_predictions_of_a_last_convolution_belong_to_the_caller():
    model = pair(lambda: [Conv2D(4, 3)], loss="mse")[0]
    x, y = pictures(24)[0], np.zeros((24, 8, 7, 4), np.float32)
    model.fit(x, y, verbose=0)
    batches = [Batch(np.arange(start, start + 8), y[:8]) for start in (0, 8, 16)]
    step = model.setup.step()
    [(_, first), (_, second)] = step(x, batches[:2])
    kept = first.copy(), second.copy()
    step(x, batches[2:])
    np.testing.assert_array_equal((first, second), kept)
    assert not np.array_equal(first, second)


# --- several steps in one call ---------------------------------------------------------------------------


def wide_network():
    """Panels enough for every thread: update and next forward pass of the first layer are one."""
    return [Dense(300, activation="relu"), Dense(33, activation="relu"), Dense(5, activation="softmax")]


SEVERAL = {
    "one pass": (wide_network, "categorical_crossentropy"),
    "two passes": (usual_network, "categorical_crossentropy"),
    "one layer": (lambda: [Dense(5, activation="softmax")], "categorical_crossentropy"),
    "stage by stage": (network, "categorical_crossentropy"),
    "an ignored class": (usual_network, losses.SparseCategoricalCrossentropy(ignore_class=2)),
}


@pytest.mark.parametrize("case", quick(SEVERAL, "one pass", "an ignored class"))
def test_steps_in_one_call_are_the_same_steps(case):
    """Bit for bit: weights, losses, metrics; with a schedule, weights of samples and a shorter last batch."""
    (layers, loss), (x, y) = case, samples(201, 300)
    y = y if isinstance(loss, str) else y.argmax(axis=1)
    results = []
    for batch_size in (10, 70):
        for steps in (1, 3, 50, "auto"):
            rate = schedules.ExponentialDecay(0.01, decay_steps=2, decay_rate=0.9)
            model = Sequential(layers(), seed=1)
            optimizer = optimizers.RMSprop(rate)
            model.compile(optimizer, loss, ["accuracy"], kernels="numba", steps_per_execution=steps)
            history = model.fit(x, y, batch_size, 2, verbose=0, sample_weight=np.linspace(0, 2, 201))
            results.append((history.history, [w.tobytes() for w in model.get_weights()]))
            assert optimizer.iterations == 2 * -(-201 // batch_size)
    assert results[0] == results[1] == results[2] == results[3] != results[4]
    assert results[4] == results[5] == results[6] == results[7]


def heard_batches(steps):
    """Batches that callbacks hear of: first of each call, last of each call."""
    x, y = samples(70)
    begun, ended = [], []
    recorder = LambdaCallback(
        on_train_batch_begin=lambda batch, logs: begun.append(batch),
        on_train_batch_end=lambda batch, logs: ended.append(batch),
    )
    model = Sequential(usual_network())
    model.compile("rmsprop", "categorical_crossentropy", kernels="numba", steps_per_execution=steps)
    model.fit(x, y, batch_size=10, verbose=0, callbacks=[recorder])
    return begun, ended


def test_callbacks_hear_of_every_call():
    assert heard_batches("auto") == heard_batches(1) == (list(range(7)), list(range(7)))
    assert heard_batches(3) == ([0, 3, 6], [2, 5, 6])


@pytest.mark.parametrize("steps", [0, -1, 1.5, "all"])
def test_steps_per_execution_is_checked(steps):
    with pytest.raises((TypeError, ValueError), match="steps_per_execution must be"):
        Sequential(network()).compile("sgd", "mse", steps_per_execution=steps)


# --- no plan ---------------------------------------------------------------------------------------------


CLIPS = [{"clipnorm": 0.05}, {"clipvalue": 0.001}, {"global_clipnorm": 0.1}]


@pytest.mark.parametrize("options", CLIPS, ids=lambda o: next(iter(o)))
@pytest.mark.parametrize("layers", [usual_network, lambda: [*network()[:1], Dropout(0.3), *network()[1:]]])
def test_clipped_gradients_are_fused(layers, options):
    """They are written to memory first, for the norm of all of them."""
    models = pair(layers, lambda: optimizers.Adam(0.01, weight_decay=0.1, **options), dtype="float64")
    assert_same_training(models, *samples(70), tolerance=1e-9, epochs=4)
    free = pair(layers, lambda: optimizers.Adam(0.01, weight_decay=0.1), dtype="float64")[0]
    free.fit(*samples(70), verbose=0, epochs=4)
    assert not np.allclose(free.get_weights()[0], models[0].get_weights()[0], rtol=1e-6)


def test_numpy_kernels_and_unknown_rules_are_not_fused():
    class Own(optimizers.SGD):
        @property
        def rule(self):
            return lambda weight, grad, learning_rate: (weight - learning_rate * grad,)

    for optimizer, kernels in (("sgd", "numpy"), (Own(), "numba")):
        model = Sequential(network())
        model.compile(optimizer, "categorical_crossentropy", kernels=kernels)
        model.build((None, 37))
        assert plan_of(model) is None


def test_a_model_without_dense_has_no_plan():
    model = Sequential([BatchNormalization()])
    model.compile("sgd", "mse", kernels="numba")
    model.build((None, 37))
    assert plan_of(model) is None


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one processor")
@pytest.mark.parametrize("layers", [network, wide_network])
def test_any_number_of_threads_gives_the_same_bits(layers):
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 700), np.float32), np.eye(5)[rng.integers(0, 5, 300)]
    weights, threads = [], npnet.get_threads()
    try:
        for count in (1, 2, 4, 7):
            npnet.set_threads(count)
            model = Sequential(layers(), seed=1)
            model.compile("rmsprop", "categorical_crossentropy", kernels="numba")
            model.fit(x, y, epochs=2, batch_size=70, verbose=0)
            weights.append([w.tobytes() for w in model.get_weights()])
    finally:
        npnet.set_threads(threads)
    assert weights[0] == weights[1] == weights[2] == weights[3]


@pytest.mark.parametrize("fused", [True, False])
def test_the_memory_of_dead_units_becomes_zero(fused):
    """Momentum that nothing feeds shrinks by 0.9 a step: below 1e-38 every product would take 100 cycles."""
    model = Sequential([Dense(64, activation="relu"), Dense(64, activation="relu"), Dense(5, "softmax")])
    model.compile(
        optimizers.SGD(1e-3, momentum=0.9), "categorical_crossentropy", fused=fused, kernels="numba"
    )
    x, y = samples(640, 64)
    model.fit(x, y, verbose=0)
    for layer in model.layers[:2]:
        layer.bias.value[::2] = -1e6
    model.fit(x, y, epochs=45, verbose=0)  # 900 steps: 0.9 ** 900 is 7e-42
    for parameter in model.trainable_parameters:
        for slot in model.optimizer.slots_of(parameter):
            size = np.abs(slot)
            assert not ((size > 0) & (size < np.finfo(slot.dtype).tiny)).any(), parameter


def test_what_fills_up_a_layer_reaches_no_layer_of_another_precision():
    """Of 10 units most columns of a panel are not computed; products of bfloat16 read whole panels."""
    layers = [Dense(10, "exponential", input_shape=(6,)), Dense(4, dtype="mixed_bfloat16"), Dense(3)]
    model = npnet.Sequential(layers, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a matrix unit it is no faster
        model.compile("sgd", "mse", kernels="numba")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((160, 6)).astype(np.float32), rng.standard_normal((160, 3)).astype(np.float32)
    history = model.fit(0.1 * x, y, batch_size=16, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
