"""Every derivative of npnet against central differences, and the check itself against wrong ones."""

import dataclasses

import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet import activations, layers, losses, regularizers
from npnet.checking import gradient_cases
from npnet.kernels import rules
from npnet.layers import BatchNormalization, Dense, Dropout, Layer, LeakyReLU, ReLU

N, D, K = gradient_cases.N, gradient_cases.D, gradient_cases.K
CASES = gradient_cases.everything()
LOSSES = [case for case in CASES if case.group == "losses"]
DRAWN = 12  # numbers of each tensor that are nudged one by one; all others together, along one direction


def check(layers, y, loss="mse", kernels="numpy", x=None, sample_weight=None, **options):
    model = compiled(layers, loss, kernels=kernels)
    x = random(1, N, D) if x is None else x
    return npnet.check_gradients(model, x, y, sample_weight, verbose=False, **options)


def few(case, **changes):
    """The case with fewer differences."""
    return dataclasses.replace(case, entries=min(DRAWN, case.entries), **changes)


def assert_right(result):
    assert result.passed and result.tolerance == 1e-8, f"\n{result}"


# --- everything --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_are_right(case):
    assert_right(few(case).check("numpy"))


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
def test_weighted_losses(case):
    assert_right(few(case, sample_weight=np.array([0.5, 1, 2, 0, 1, 3])).check("numpy"))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.group == "models"], ids=lambda case: case.name
)
def test_whole_models_with_compiled_kernels(case):
    assert_right(few(case).check("numba"))


def test_everything_is_checked():
    """What stands in a registry has a case, so what is added there is checked."""
    kinds = {type(layer) for case in CASES for layer in case.layers}
    kinds |= {type(link) for case in CASES for layer in case.layers for link in layer.chain()}
    assert kinds >= set(layers.CLASSES.values()) - {layers.Input}
    assert kinds >= set(activations.NAMES.values())
    assert {type(losses.get(case.loss)) for case in CASES} >= set(losses.NAMES.values())
    penalties = {
        type(layer.kernel_regularizer) for case in CASES for layer in case.layers if type(layer) is Dense
    }
    assert penalties >= set(regularizers.NAMES.values())


def test_a_new_layer_is_checked_without_a_word_and_a_wrong_one_is_found(monkeypatch):
    for right, cls in ((True, Square), (False, HalfSquare)):
        monkeypatch.setitem(layers.CLASSES, cls.__name__, cls)
        (case,) = [case for case in gradient_cases.everything() if case.name == cls.__name__]
        assert case.check().passed is right


def test_a_new_layer_that_needs_arguments_is_asked_for_an_example(monkeypatch):
    class Power(Square):
        def __init__(self, exponent):
            super().__init__()

    monkeypatch.setitem(layers.CLASSES, "Power", Power)
    with pytest.raises(TypeError, match=r"Power has no gradient check.*EXAMPLES"):
        gradient_cases.everything()


def test_what_a_wrong_gradient_looks_like():
    verdicts = [row.passed for row in gradient_cases.wrong_case().check().rows]
    assert verdicts == [False, False, False, True, True]


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


def test_steep_functions_are_not_accused():
    """Batch normalization of few samples with a small epsilon: plain differences are wrong by 1.3e-8."""
    for seed in range(20):
        x = np.random.default_rng(seed).uniform(-1, 1, (4, 2))
        layers = [Dense(8, "relu", input_shape=(2,)), BatchNormalization(epsilon=1e-5), Dense(K, "softmax")]
        model = compiled(layers, "sparse_categorical_crossentropy", seed=seed)
        result = npnet.check_gradients(model, x, np.arange(4) % K, entries=6, verbose=False)
        assert max(row.error for row in result.rows) < 1e-9, f"\n{result}"


@pytest.mark.parametrize(
    ("loss", "last", "y"),
    [
        ("categorical_crossentropy", "softmax", one_hot(N, K)),
        ("sparse_categorical_crossentropy", "softmax", np.arange(N) % K),
        ("binary_crossentropy", "sigmoid", one_hot(N, K)),
    ],
)
def test_a_network_that_is_sure_of_its_mistakes_is_not_accused(loss, last, y):
    """The reported loss is clipped and flat, the gradient is not: bytes that were not scaled, say."""
    layers = [Dense(16, "relu", input_shape=(D,)), Dense(K, last)]
    result = check(layers, y, loss, x=255 * np.abs(random(1, N, D)))
    assert_right(result)
    wrong = [Dense(16, input_shape=(D,)), LeakyBackward(), Dense(K, last)]
    assert not check(wrong, y, loss, x=255 * np.abs(random(1, N, D))).passed


def test_a_clipped_loss_without_its_activation_is_refused():
    layers = [Dense(K, "sigmoid", input_shape=(D,))]
    with pytest.raises(RuntimeError, match="is clipped, because a probability is below 1e-7"):
        check(layers, one_hot(N, K), "categorical_crossentropy", x=255 * random(1, N, D))


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        (losses.CategoricalFocalCrossentropy(), "softmax"),
        (losses.CategoricalFocalCrossentropy(from_logits=True), None),
        (losses.BinaryFocalCrossentropy(), "sigmoid"),
        (losses.BinaryFocalCrossentropy(from_logits=True), None),
        (losses.KLDivergence(), "softmax"),
    ],
    ids=lambda value: str(value) if isinstance(value, str | None) else type(value).__name__,
)
def test_losses_that_clip_whatever_they_are_given_are_refused_where_they_do(loss, last):
    with pytest.raises(RuntimeError, match="is clipped, because a probability is below 1e-7"):
        check([Dense(K, last, input_shape=(D,))], one_hot(N, K), loss, x=255 * random(1, N, D))


def test_a_loss_that_is_not_finite_is_refused():
    class Logarithm(Square):
        def forward(self, x, training=False):
            with np.errstate(invalid="ignore"):
                return np.log(super().forward(x) - 1)

    with pytest.raises(RuntimeError, match="the loss is nan"):
        check([Logarithm(input_shape=(D,)), Dense(K)], random(3, N, K))


def test_numbers_that_are_not_drawn_are_checked_along_a_direction():
    class SlipInOneNumber(Dense):
        def backward_parameters(self, dy):
            super().backward_parameters(dy)
            self.weight.grad[17, 23] *= 1.01

    x = random(1, N, 30)
    for cls, right in ((Dense, True), (SlipInOneNumber, False)):
        for seed in range(5):
            network = [cls(40, "tanh", input_shape=(30,)), Dense(K)]
            result = check(network, random(3, N, K), x=x, entries=20, seed=seed)
            assert result.passed is right, f"\n{result}"


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


@pytest.mark.parametrize(
    ("name", "value"), [("epsilon", 0.0), ("tolerance", -1), ("entries", 0), ("fused", "yes"), ("seed", -1)]
)
def test_arguments_are_checked(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        check([Dense(K, input_shape=(D,))], random(3, N, K), **{name: value})


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
