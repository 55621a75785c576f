"""Every derivative of npnet against central differences, and the check itself against wrong ones."""

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet.kernels import rules
from npnet.layers import (
    ELU,
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    ReLU,
    Rescaling,
    Softmax,
)
from npnet.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from npnet.regularizers import L1, L1L2, L2

N, D, K = 6, 5, 3
LABELS = np.arange(N) % K
IGNORED = np.where(np.arange(N) == 2, 255, LABELS)
BITS = (np.arange(N * K).reshape(N, K) % 2).astype(float)
SOFT = random(2, N, K) ** 2
SOFT /= SOFT.sum(axis=-1, keepdims=True)


def check(layers, y, loss="mse", kernels="numpy", x=None, sample_weight=None, **options):
    model = compiled(layers, loss, kernels=kernels)
    x = random(1, N, D) if x is None else x
    return npnet.check_gradients(model, x, y, sample_weight, verbose=False, **options)


def assert_right(result):
    assert result.passed and result.tolerance == 1e-8, f"\n{result}"


# --- each part ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "linear", "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus", "softmax",
        "log_softmax", "gelu", "silu",
    ],
)  # fmt: skip
def test_activation(name):
    assert_right(check([Dense(4, name, input_shape=(D,)), Dense(K)], random(3, N, K)))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Dense(4),
        lambda: Dense(4, use_bias=False),
        lambda: Activation("tanh"),
        lambda: ReLU(),
        lambda: ReLU(max_value=0.7),
        lambda: ReLU(max_value=0.9, negative_slope=0.3, threshold=-0.2),
        lambda: LeakyReLU(0.1),
        lambda: ELU(alpha=0.6),
        lambda: Softmax(),
        lambda: Rescaling(0.5, offset=2.0),
        lambda: Dropout(0.4),
        lambda: Dropout(0.4, seed=1),
        lambda: Dropout(0.0),
        lambda: BatchNormalization(),
        lambda: BatchNormalization(center=False),
        lambda: BatchNormalization(scale=False, epsilon=0.1),
        lambda: BatchNormalization(trainable=False, moving_mean_initializer="ones"),
        lambda: Dense(4, "tanh", trainable=False),
    ],
    ids=lambda make: repr(make()),
)
def test_layer(layer):
    layers = [Dense(4, input_shape=(D,)), layer(), Dense(K)]
    assert_right(check(layers, random(3, N, K)))


@pytest.mark.parametrize("layer", [Flatten, BatchNormalization])
def test_layer_of_pictures(layer):
    layers = [layer(input_shape=(2, 3, 2)), Flatten(), Dense(K)]
    assert_right(check(layers, random(3, N, K), x=random(1, N, 2, 3, 2)))


LOSSES = {
    "mse": (MeanSquaredError(), "linear", random(3, N, K)),
    "mse_sum": (MeanSquaredError(reduction="sum"), "linear", random(3, N, K)),
    "mae": (MeanAbsoluteError(), "linear", random(3, N, K)),
    "cross_entropy": (CategoricalCrossentropy(), "softmax", one_hot(N, K)),
    "soft_targets": (CategoricalCrossentropy(), "softmax", SOFT),
    "targets_not_summing_to_one": (CategoricalCrossentropy(), "softmax", SOFT * 0.7),
    "smoothing": (CategoricalCrossentropy(label_smoothing=0.3), "softmax", one_hot(N, K)),
    "not_joined": (CategoricalCrossentropy(), "sigmoid", SOFT),
    "logits": (CategoricalCrossentropy(from_logits=True), None, SOFT * 0.7),
    "logits_smoothing": (CategoricalCrossentropy(True, 0.2), None, one_hot(N, K)),
    "logits_of_softmax": (CategoricalCrossentropy(from_logits=True), "softmax", one_hot(N, K)),
    "sum": (CategoricalCrossentropy(reduction="sum"), "softmax", one_hot(N, K)),
    "sparse": (SparseCategoricalCrossentropy(), "softmax", LABELS),
    "sparse_column": (SparseCategoricalCrossentropy(), "softmax", LABELS[:, None]),
    "sparse_logits": (SparseCategoricalCrossentropy(from_logits=True), None, LABELS),
    "sparse_not_joined": (SparseCategoricalCrossentropy(), "sigmoid", LABELS),
    "ignore_class": (SparseCategoricalCrossentropy(ignore_class=255), "softmax", IGNORED),
    "ignore_class_logits": (SparseCategoricalCrossentropy(True, ignore_class=255), None, IGNORED),
    "ignore_class_sum": (SparseCategoricalCrossentropy(False, 255, "sum"), "softmax", IGNORED),
    "binary": (BinaryCrossentropy(), "sigmoid", BITS),
    "binary_smoothing": (BinaryCrossentropy(label_smoothing=0.3), "sigmoid", BITS),
    "binary_not_joined": (BinaryCrossentropy(), "softmax", BITS),
    "binary_logits": (BinaryCrossentropy(from_logits=True), None, BITS),
    "binary_logits_smoothing": (BinaryCrossentropy(True, 0.3), None, BITS),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, weighted):
    loss, last, y = LOSSES[name]
    weight = np.array([0.5, 1, 2, 0, 1, 3]) if weighted else None
    layers = [Dense(4, "tanh", input_shape=(D,)), Dense(K, last)]
    assert_right(check(layers, y, loss, sample_weight=weight))


@pytest.mark.parametrize("penalty", [L1(0.1), L2(0.1), L1L2(0.1, 0.2)], ids=repr)
def test_regularizer(penalty):
    layers = [
        Dense(4, "tanh", input_shape=(D,), kernel_regularizer=penalty, bias_regularizer=penalty),
        Dense(K, kernel_regularizer=penalty, trainable=False),
    ]
    assert_right(check(layers, random(3, N, K)))


# --- whole models ------------------------------------------------------------------------------------------


def test_tutorial_network(kernels):
    layers = [Dense(512, "relu", input_shape=(3072,)), Dense(512, "relu"), Dense(10, "softmax")]
    x, y = np.random.default_rng(0).random((3, 3072)), one_hot(3, 10)
    assert_right(check(layers, y, "categorical_crossentropy", kernels, x, entries=6))


def test_network_of_everything(kernels):
    layers = [
        Rescaling(0.5, input_shape=(2, 3)), Flatten(), Dense(9, use_bias=False), BatchNormalization(), ReLU(),
        Dropout(0.3), Dense(8, "gelu", kernel_regularizer="l2"), BatchNormalization(), LeakyReLU(),
        Dropout(0.2), Dense(7, "selu", bias_regularizer="l1"), Dense(K, "softmax"),
    ]  # fmt: skip
    loss = CategoricalCrossentropy(label_smoothing=0.1)
    weight = np.linspace(0.2, 2, 16)
    assert_right(check(layers, one_hot(16, K), loss, kernels, random(1, 16, 2, 3), weight))


def test_deep_network(kernels):
    layers = [Dense(7, "tanh", input_shape=(D,)), *(Dense(7, "elu") for _ in range(6)), Dense(K, "sigmoid")]
    assert_right(check(layers, BITS, "binary_crossentropy", kernels))


# --- the check itself --------------------------------------------------------------------------------------


class Square(Layer):
    """y = x^2, with a backward that can be given a slip."""

    factor = 2.0

    def forward(self, x, training=False):
        self.x = x
        return x * x

    def backward(self, dy):
        return self.factor * dy * self.x


class HalfSquare(Square):
    factor = 1.0


class NearlySquare(Square):
    factor = 2.0 + 1e-6


class LeakyBackward(ReLU):
    """A ReLU that forgets its mask on the way back."""

    def backward(self, dy):
        return dy


class SlightlyLeakyBackward(ReLU):
    def backward(self, dy):
        return np.where(self.remembered > 0, dy, 1e-5 * dy)


class BiasForgetsOneSample(Dense):
    def backward_parameters(self, dy):
        super().backward_parameters(dy)
        self.bias.grad = dy[1:].sum(axis=0)


def test_right_custom_layer_passes():
    assert_right(check([Dense(4, input_shape=(D,)), Square(), Dense(K)], random(3, N, K)))


@pytest.mark.parametrize("wrong", [HalfSquare, NearlySquare, LeakyBackward, SlightlyLeakyBackward])
def test_wrong_input_gradient_is_caught(wrong):
    result = check([Dense(4, input_shape=(D,)), wrong(), Dense(K)], random(3, N, K))
    verdicts = {row.tensor: row.passed for row in result.rows}
    assert verdicts == {
        "input": False, "dense/kernel": False, "dense/bias": False,
        "dense_1/kernel": True, "dense_1/bias": True,
    }  # fmt: skip
    assert not result.passed and "WRONG" in str(result)


def test_wrong_parameter_gradient_is_caught():
    result = check([BiasForgetsOneSample(4, input_shape=(D,)), Dense(K)], random(3, N, K))
    assert [row.tensor for row in result.rows if not row.passed] == ["bias_forgets_one_sample/bias"]


def test_vanishing_and_nan_gradients_are_caught():
    class Nothing(Square):
        factor = 0.0

    class NotANumber(Square):
        factor = np.nan

    for wrong in (Nothing, NotANumber):
        assert not check([Dense(4, input_shape=(D,)), wrong(), Dense(K)], random(3, N, K)).passed


@pytest.mark.parametrize("layer", [ReLU, LeakyReLU, lambda: ReLU(threshold=0.0, max_value=1.0)])
def test_points_on_a_kink_are_moved_away(layer):
    """All-zero samples, biases, kernels: every unit sits exactly on its kink."""
    for zeros in (np.zeros((N, D)), random(1, N, D)):
        first = Dense(4, kernel_initializer="zeros", input_shape=(D,))
        assert_right(check([first, layer(), Dense(K)], random(3, N, K), x=zeros))
    on_kink = check([Dense(K, kernel_initializer="zeros", input_shape=(D,))], np.zeros((N, K)), "mae")
    assert_right(on_kink)


@pytest.mark.parametrize("wrong", [LeakyBackward, SlightlyLeakyBackward])
def test_wrong_gradient_is_caught_on_a_kink(wrong):
    first = Dense(16, kernel_initializer="zeros", input_shape=(D,))  # some of them move to each side
    assert not check([first, wrong(), Dense(K)], random(3, N, K), x=np.zeros((N, D))).passed


def test_rounding_of_small_derivatives_is_no_kink():
    """First weights that hardly matter: differences of 1e-5 cannot resolve their gradient."""
    first = Dense(16, "tanh", input_shape=(D,))
    result = check([first, Dense(16, "tanh"), Dense(K)], random(3, N, K), x=1e-4 * random(1, N, D))
    assert result.passed


def test_dead_units_do_not_look_wrong():
    """Behind units that are all dead the next pre-activations are exactly their bias, zero."""
    first = Dense(4, "relu", bias_initializer=npnet.initializers.Constant(-100), input_shape=(D,))
    assert_right(check([first, Dense(4, "relu"), Dense(K)], random(3, N, K)))


def test_a_function_full_of_kinks_is_refused_not_passed():
    class Sawtooth(Layer):
        def forward(self, x, training=False):
            return np.abs((x * 1e5) % 2.0 - 1.0)

        def backward(self, dy):
            return dy

    with pytest.raises(RuntimeError, match="kink"):
        check([Dense(4, input_shape=(D,)), Sawtooth(), Dense(K)], random(3, N, K))


def test_model_and_data_stay_as_they_are(kernels):
    layers = [Dense(4, input_shape=(D,)), BatchNormalization(), Dropout(0.5), Dense(K, "softmax")]
    model = compiled(layers, "categorical_crossentropy", "float32", kernels=kernels, optimizer="adam")
    x, y = random(1, N, D).astype(np.float32), one_hot(N, K)
    model.fit(x, y, epochs=2, verbose=0)
    twin = compiled(
        [type(layer)(**layer.get_config()) for layer in layers],
        "categorical_crossentropy", "float32", kernels=kernels, optimizer="adam",
    )  # fmt: skip
    twin.fit(x, y, epochs=2, verbose=0)
    x.flags.writeable = y.flags.writeable = False
    before = model.get_weights()
    assert_right(npnet.check_gradients(model, x, y, verbose=False))
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)
    model.fit(x, y, epochs=2, verbose=0)
    twin.fit(x, y, epochs=2, verbose=0)
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_table(capsys):
    model = compiled([Dense(40, "tanh", input_shape=(D,)), Dense(K)])
    result = npnet.check_gradients(model, random(1, N, D), random(3, N, K), entries=50)
    printed = capsys.readouterr().out.splitlines()
    assert printed == str(result).splitlines()
    assert printed[0].split() == ["tensor", "shape", "checked", "relative", "error", "verdict"]
    rows = {row.tensor: (row.shape, row.checked) for row in result.rows}
    assert rows == {
        "input": ((N, D), N * D),
        "dense/kernel": ((D, 40), 50),
        "dense/bias": ((40,), 40),
        "dense_1/kernel": ((40, K), 50),
        "dense_1/bias": ((K,), K),
    }
    assert [line.split()[-1] for line in printed[1:]] == ["ok"] * 5


def test_needs_compile():
    with pytest.raises(RuntimeError, match="compile"):
        npnet.check_gradients(
            npnet.Sequential([Dense(2, input_shape=(D,))]), random(1, N, D), random(3, N, 2)
        )


def test_rules_work_on_single_numbers():
    """The formulas are the same for one number and for an array, which is what compiling them relies on."""
    for x in (-1.5, -0.3, 0.0, 0.4, 2.0):
        for rule in (rules.relu, rules.elu, rules.selu, rules.sigmoid, rules.softplus, rules.silu):
            constants = (0.5,) if rule is rules.elu else ()
            assert float(rule(x, *constants)) == rule(np.array([x]), *constants)[0]
