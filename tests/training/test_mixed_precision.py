"""Training with products of bfloat16: the step, its plan, and that all of it stays the same to the bit."""

import numpy as np
import pytest
from small import one_hot, random

import npnet
from npnet import Sequential, distribution, layers
from npnet.checking import gradient_cases
from npnet.kernels import load
from npnet.kernels.machine import threads
from npnet.kernels.reference import to_bfloat16
from npnet.kernels.vectors.registers import AMX
from npnet.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from npnet.models import load_model
from npnet.training.fused import inference
from npnet.training.fused.convolutions import can_convolve
from npnet.training.fused.plan import can_fuse, plan

pytestmark = pytest.mark.filterwarnings("ignore:mixed_bfloat16 is no faster")
MIXED = "mixed_bfloat16"
X, Y = random(0, 40, 70).astype(np.float32), one_hot(40, 5).astype(np.float32)
PICTURES = random(1, 40, 8, 8, 16).astype(np.float32)


def dense(kernels, dtype=MIXED, optimizer="rmsprop", **options):
    net = Sequential(
        [Input((70,)), Dense(130, "relu"), Dense(90, "tanh"), Dropout(0.2), Dense(5, "softmax")],
        dtype=dtype, seed=0,
    )  # fmt: skip
    net.compile(optimizer, "categorical_crossentropy", kernels=kernels, **options)
    return net


def convolutional(kernels, dtype=MIXED, **options):
    net = Sequential(
        [
            Conv2D(24, 3, padding="same", activation="relu", input_shape=PICTURES.shape[1:]), MaxPooling2D(),
            layers.DepthwiseConv2D(3, padding="same"), layers.SeparableConv2D(20, 3, use_bias=False),
            BatchNormalization(), layers.PReLU(), layers.Conv2DTranspose(6, 2), Flatten(),
            layers.Reshape((-1, 2)), layers.Conv1D(8, 3), layers.LayerNormalization(), Flatten(),
            Dense(5, "softmax"),
        ],
        dtype=dtype, seed=0,
    )  # fmt: skip
    net.compile("rmsprop", "categorical_crossentropy", kernels=kernels, **options)
    return net


NETWORKS = {"dense": (dense, X), "convolutional": (convolutional, PICTURES)}
every_network = pytest.mark.parametrize(("make", "x"), NETWORKS.values(), ids=NETWORKS)


def fit(net, x, **options):
    return net.fit(x, Y, verbose=0, **{"batch_size": 16, "epochs": 2, **options}).history["loss"]


def bits(net):
    slots = [slot for parameter in net.parameters for slot in parameter.slots.values()]
    return [array.tobytes() for array in (*net.get_weights(), *slots)]


# --- what a step computes ---------------------------------------------------------------------------------


def test_a_step_is_the_one_written_by_hand(kernels):
    net = Sequential([Input((70,)), Dense(130, "relu"), Dense(5, "softmax")], dtype=MIXED, seed=0)
    net.compile(npnet.optimizers.SGD(0.5), "categorical_crossentropy", kernels=kernels)
    w1, b1, w2, b2 = net.get_weights()

    def r(numbers):
        return to_bfloat16(numbers).astype(np.float64)

    z = r(X) @ r(w1) + b1
    h = np.maximum(z, 0)
    logits = r(h) @ r(w2) + b2
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    dlogits = (p - Y) / len(X)
    dh = r(dlogits) @ r(w2).T
    dz = dh * (z > 0)
    gradients = r(X).T @ r(dz), dz.sum(axis=0), r(h).T @ r(dlogits), dlogits.sum(axis=0)

    loss = net.train_on_batch(X, Y)
    assert loss == pytest.approx(-np.log((p * Y).sum(axis=1)).mean(), rel=1e-6)
    for new, old, gradient in zip(net.get_weights(), (w1, b1, w2, b2), gradients, strict=True):
        # Numbers near the middle of two bfloat16 are rounded apart if their sums differ in the last bit.
        np.testing.assert_allclose((old - new) / 0.5, gradient, rtol=0, atol=2e-4 * np.abs(gradient).max())
    assert {array.dtype for array in net.get_weights()} == {np.dtype(np.float32)}
    assert {slot.dtype for p in net.parameters for slot in p.slots.values()} <= {np.dtype(np.float32)}


PRODUCTS = (
    Dense, Conv2D, layers.Conv1D, layers.DepthwiseConv2D, layers.Conv2DTranspose,
)  # fmt: skip
CASES = [layer for cls in PRODUCTS for layer in gradient_cases.EXAMPLES[cls]()]
OTHERS = (
    layers.PReLU, layers.Embedding, BatchNormalization, layers.LayerNormalization, layers.GroupNormalization,
)  # fmt: skip


def link_of(layer, dtype, kernels):
    """A layer by itself, built in a model of this dtype, as it would be in every other one."""
    layer = type(layer).from_config(layer.get_config() | {"name": None})
    shape = layer.input_shape or (gradient_cases.D,)
    net = Sequential([Input(shape), layer], dtype=dtype, seed=4)
    net.use(load(kernels))
    return layer, random(5, 6, *shape).astype(net.dtype)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n].__class__.__name__}-{n}")
def test_a_layer_multiplies_rounded_numbers_and_nothing_else_is_rounded(number, kernels):
    ours, x = link_of(CASES[number], MIXED, kernels)
    exact, _ = link_of(CASES[number], "float64", "numpy")
    for parameter, theirs in zip(exact.parameters, ours.parameters, strict=True):
        value = theirs.value if theirs.name == "bias" else to_bfloat16(theirs.value)
        parameter.assign(value.astype(np.float64))
    y = ours.forward(x, training=True)
    expected = exact.forward(to_bfloat16(x).astype(np.float64), training=True)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    dy = random(6, *y.shape).astype(np.float32)
    found = [ours.backward(dy), *(p.grad for p in ours.trainable_parameters)]
    wanted = [exact.backward(to_bfloat16(dy).astype(np.float64))]
    wanted += [
        dy.astype(np.float64).sum(axis=tuple(range(dy.ndim - 1))) if p.name == "bias" else p.grad
        for p in exact.trainable_parameters
    ]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("cls", OTHERS)
def test_layers_without_products_round_nothing(cls, kernels):
    for layer in gradient_cases.EXAMPLES[cls]():
        found = []
        for dtype in ("float32", MIXED):
            link, x = link_of(layer, dtype, kernels)
            x = np.floor(np.abs(x)) if cls is layers.Embedding else x
            y = link.forward(x, training=True)
            dx = link.backward(random(6, *y.shape).astype(np.float32))
            arrays = y, dx, *(p.grad for p in link.trainable_parameters)
            found.append([array.tobytes() for array in arrays])
        assert found[0] == found[1]


@every_network
def test_both_sets_of_kernels_train_alike_and_as_float32_does(make, x):
    numpy, numba, exact = make("numpy"), make("numba"), make("numba", "float32")
    ours, theirs, without = (fit(net, x) for net in (numpy, numba, exact))
    np.testing.assert_allclose(ours, theirs, rtol=1e-2)
    np.testing.assert_allclose(theirs, without, rtol=5e-2)
    assert theirs != without
    np.testing.assert_allclose(numpy.predict(x, verbose=0), numba.predict(x, verbose=0), atol=0.02)


@every_network
def test_one_step_of_both_sets_agrees(make, x):
    found = []
    for kernels in ("numpy", "numba"):
        net = make(kernels, fused=False)
        net.train_on_batch(x[:16], Y[:16])
        found.append([parameter.grad for parameter in net.trainable_parameters])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-3 * np.abs(theirs).max())


# --- bits -------------------------------------------------------------------------------------------------


@every_network
def test_the_number_of_threads_changes_no_bit(make, x, monkeypatch):
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "_chosen", count)
        net = make("numba")
        fit(net, x)
        found.append((bits(net), net.predict(x, verbose=0).tobytes()))
    assert found[0] == found[1]


@every_network
def test_a_training_goes_on_to_the_same_bits(make, x, kernels, tmp_path):
    whole, first = make(kernels), make(kernels)
    fit(whole, x, epochs=3)
    fit(first, x, epochs=1)
    first.save(tmp_path / "model.safetensors")
    npnet.config.set_dtype_policy("float64")
    try:
        second = load_model(tmp_path / "model.safetensors")
    finally:
        npnet.config.set_dtype_policy("float32")
    fit(second, x, epochs=3, initial_epoch=second.position)
    assert second.dtype_policy.name == MIXED
    assert bits(second) == bits(whole)


@every_network
def test_shards_of_a_batch_are_computed_alike(make, x, kernels):
    distribution.set_distribution(distribution.DataParallel(2))
    try:
        net = make(kernels)
        losses = fit(net, x)
    finally:
        distribution.set_distribution(None)
    np.testing.assert_allclose(losses, fit(make(kernels), x), rtol=0.1)
    assert all(layer.compute_dtype == "bfloat16" for layer in net.layers)


# --- the plan ---------------------------------------------------------------------------------------------


def test_dense_layers_are_fused_where_a_matrix_unit_multiplies_them():
    links = dense("numba").links
    assert [link for link in links if can_fuse(link)] == [
        link for link in links if isinstance(link, Dense) and AMX
    ]
    assert not any(can_convolve(link) for link in convolutional("numba").links)
    for make in (dense, convolutional):
        assert plan(make("numba", "float32").setup.readable_step()) is not None


def test_a_layer_of_float32_is_fused_beside_those_of_mixed_precision():
    nets = {}
    for fused in (True, False):
        net = nets[fused] = Sequential(
            [Input((70,)), Dense(130, "relu"), Dense(90, "tanh"), Dense(5, "softmax", dtype="float32")],
            dtype=MIXED, seed=0,
        )  # fmt: skip
        net.compile("rmsprop", "categorical_crossentropy", kernels="numba", fused=fused)
        fit(net, X)
    stages = nets[True].setup._fused_step.plan.fused
    assert [stage.link for stage in stages] == (nets[True].layers if AMX else nets[True].layers[2:])
    assert [stage.rounds for stage in stages] == ([True, True, False] if AMX else [False])
    for ours, theirs in zip(nets[True].get_weights(), nets[False].get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_another_policy_makes_another_plan():
    net, exact = dense("numba", "float32"), dense("numba", "float32")
    fit(net, X)
    fit(exact, X)
    assert bits(net) == bits(exact)
    before = net.setup._fused_step.plan
    for layer in net.layers:
        layer.dtype_policy = MIXED
    fit(net, X)
    present = net.setup._fused_step.plan
    assert present is not before and (present is not None) == AMX
    for layer in net.layers:
        layer.dtype_policy = "float32"
    fit(exact, X)
    assert bits(net) != bits(exact)
    fit(net, X)
    assert net.setup._fused_step.plan not in (None, before, present)


def test_a_frozen_layer_of_mixed_precision_before_a_fused_one_rounds():
    found = []
    for dtype in (MIXED, "float32"):
        net = Sequential(
            [Input((70,)), Dense(130, "relu", trainable=False, dtype=dtype), Dense(5, "softmax")], seed=0
        )
        net.compile("sgd", "categorical_crossentropy", kernels="numba")
        found.append(fit(net, X))
        assert net.setup._fused_step.plan is not None
    assert found[0] != found[1]
    np.testing.assert_allclose(*found, rtol=1e-2)


def test_predictions_with_convolutions_are_rounded_too():
    net = convolutional("numba")
    fit(net, PICTURES)
    together = inference.outputs(net, PICTURES)
    np.testing.assert_array_equal(together, net.forward(PICTURES))
    for layer in net.layers:
        layer.dtype_policy = "float32"
    net.use(load("numba"))
    difference = np.abs(inference.outputs(net, PICTURES) - together).max()
    assert 1e-5 < difference < 0.1


def test_a_small_network_of_the_default_kernels_rounds():
    losses = []
    for dtype in (MIXED, "float32"):
        net = Sequential([Input((70,)), Dense(8, "relu"), Dense(5, "softmax")], dtype=dtype, seed=0)
        net.compile("sgd", "categorical_crossentropy")
        losses.append(fit(net, X))
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=1e-2)
