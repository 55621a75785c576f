"""Optimizers: two steps of each rule worked by hand, clipping, decay, the options and their limits.

The expected numbers come from the formulas of the docstrings in plain Python floats.
"""

import json
from math import sqrt

import numpy as np
import pytest

from npnet import constraints, optimizers
from npnet import kernels as kernel_sets
from npnet.constraints import MaxNorm
from npnet.kernels import more_rules, rules
from npnet.layers import Dense
from npnet.layers.parameter import Parameter
from npnet.models import Sequential, load_model
from npnet.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Muon, Nadam, RMSprop
from npnet.schedules import ExponentialDecay
from npnet.training.fused.plan import plan

W, G1, G2 = 2.0, 0.5, -0.25  # the weight and its gradients in two steps
LR, EPS = 0.1, 1e-7


def after(optimizer, gradients, kernels="numpy", value=W, dtype=np.float64):
    """Return the weight after one step along each of the gradients."""
    parameter = Parameter("w", np.full((1,), value, dtype))
    for gradient in gradients:
        parameter.grad = np.full((1,), gradient, dtype)
        optimizer.step([parameter], kernel_sets.load(kernels))
    assert parameter.value.dtype == dtype
    return float(parameter.value[0])


def sgd():
    return W - LR * G1 - LR * G2


def momentum(mu=0.9):
    m1 = -LR * G1
    m2 = mu * m1 - LR * G2
    return W + m1 + m2


def nesterov(mu=0.9):
    m1 = -LR * G1
    w1 = W + mu * m1 - LR * G1
    m2 = mu * m1 - LR * G2
    return w1 + mu * m2 - LR * G2


def rmsprop(rho=0.8, mu=0.0, centered=False, inside=True):
    w, v, a, m = W, 0.0, 0.0, 0.0
    for g in (G1, G2):
        v = rho * v + (1 - rho) * g * g
        a = rho * a + (1 - rho) * g
        d = v - a * a if centered else v
        m = mu * m + LR * g / (sqrt(d + EPS) if inside else sqrt(d) + EPS)
        w -= m
    return w


def adagrad():
    v1 = 0.1 + G1 * G1
    v2 = v1 + G2 * G2
    return W - LR * G1 / sqrt(v1 + EPS) - LR * G2 / sqrt(v2 + EPS)


def adam(b1=0.8, b2=0.9, amsgrad=False, decay=0.0):
    w, m, v, largest = W, 0.0, 0.0, 0.0
    for t, g in ((1, G1), (2, G2)):
        w -= LR * decay * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        largest = max(largest, v)
        a = LR * sqrt(1 - b2**t) / (1 - b1**t)
        w -= a * m / (sqrt(largest if amsgrad else v) + EPS)
    return w


def nadam(b1=0.8, b2=0.9):
    w, m, v, product = W, 0.0, 0.0, 1.0
    for t, g in ((1, G1), (2, G2)):
        u, following = (b1 * (1 - 0.5 * 0.96**step) for step in (t, t + 1))
        product *= u
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        ahead = following * m / (1 - product * following) + (1 - u) * g / (1 - product)
        w -= LR * ahead / (sqrt(v / (1 - b2**t)) + EPS)
    return w


def adamax(b1=0.8, b2=0.9):
    w, m, u = W, 0.0, 0.0
    for t, g in ((1, G1), (2, G2)):
        m, u = b1 * m + (1 - b1) * g, max(b2 * u, abs(g))
        w -= LR / (1 - b1**t) * m / (u + EPS)
    return w


def adadelta(rho=0.8):
    w, v, d = W, 0.0, 0.0
    for g in (G1, G2):
        v = rho * v + (1 - rho) * g * g
        s = g * sqrt(d + EPS) / sqrt(v + EPS)
        d = rho * d + (1 - rho) * s * s
        w -= LR * s
    return w


RULES = [
    (lambda: Nadam(LR, 0.8, 0.9), nadam()),
    (lambda: Adamax(LR, 0.8, 0.9), adamax()),
    (lambda: Adadelta(LR, rho=0.8), adadelta()),
    (lambda: Lion(LR, 0.3, 0.9), W - LR + LR),  # 0.7 of 0.5, then 0.3 of 0.05 - 0.7 of 0.25
    (lambda: SGD(LR), sgd()),
    (lambda: SGD(LR, momentum=0.9), momentum()),
    (lambda: SGD(LR, momentum=0.9, nesterov=True), nesterov()),
    (lambda: SGD(LR, nesterov=True), sgd()),
    (lambda: RMSprop(LR, rho=0.8), rmsprop()),
    (lambda: RMSprop(LR, rho=0.8, momentum=0.7), rmsprop(mu=0.7)),
    (lambda: RMSprop(LR, rho=0.8, centered=True), rmsprop(centered=True)),
    (lambda: RMSprop(LR, rho=0.8, momentum=0.7, centered=True), rmsprop(mu=0.7, centered=True)),
    (lambda: RMSprop(LR, rho=0.8, epsilon_inside=False), rmsprop(inside=False)),
    (
        lambda: RMSprop(LR, rho=0.8, momentum=0.7, centered=True, epsilon_inside=False),
        rmsprop(mu=0.7, centered=True, inside=False),
    ),
    (lambda: Adagrad(LR), adagrad()),
    (lambda: Adam(LR, 0.8, 0.9), adam()),
    (lambda: Adam(LR, 0.8, 0.5, amsgrad=True), adam(b2=0.5, amsgrad=True)),
    (lambda: AdamW(LR, beta_1=0.8, beta_2=0.9), adam(decay=0.004)),
    (lambda: AdamW(LR, 0.3, 0.8, 0.5, amsgrad=True), adam(b2=0.5, amsgrad=True, decay=0.3)),
]


@pytest.mark.parametrize(("make", "expected"), RULES, ids=[repr(make()) for make, _ in RULES])
def test_two_steps_by_hand(make, expected, kernels):
    if kernels == "numpy":
        assert after(make(), [G1, G2]) == pytest.approx(expected, rel=1e-14)
    assert after(make(), [G1, G2], kernels, dtype=np.float32) == pytest.approx(expected, rel=1e-6)


def test_two_steps_in_numbers():
    """The same once more as digits, so that no slip shared by formula and code goes unseen."""
    assert after(SGD(0.1), [0.5, -0.25]) == pytest.approx(1.975)
    assert after(SGD(0.1, momentum=0.9), [0.5, -0.25]) == pytest.approx(1.93)
    assert after(SGD(0.1, momentum=0.9, nesterov=True), [0.5, -0.25]) == pytest.approx(1.912)
    # v: 0.05, 0.0525;  steps: 0.05 / sqrt 0.05 = 0.2236068, -0.025 / sqrt 0.0525 = -0.1091089
    assert after(RMSprop(0.1, rho=0.8), [0.5, -0.25]) == pytest.approx(1.8855021, abs=1e-6)
    # v: 0.35, 0.4125;  steps: 0.0845154, -0.0389249
    assert after(Adagrad(0.1), [0.5, -0.25]) == pytest.approx(1.9544095, abs=1e-6)
    # the first step of Adam is lr whatever the gradient
    assert after(Adam(0.1), [0.5]) == pytest.approx(1.9, abs=1e-6)
    assert after(Adam(0.1), [-7.0]) == pytest.approx(2.1, abs=1e-6)
    # m: 0.05, 0.02;  v: 0.00025, 0.00031225;  a: 0.03162278, 0.02353107
    assert after(Adam(0.1), [0.5, -0.25]) == pytest.approx(1.8733678, abs=1e-6)
    assert after(AdamW(0.1, weight_decay=0.5), [0.5]) == pytest.approx(2 * 0.95 - 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("gradient", "keras", "old_keras", "torch"),
    [
        (1e-2, 3.15, 3.16, 10.0),
        (1e-3, 2.24, 3.16, 10.0),
        (3e-4, 0.91, 3.16, 10.0),
        (1e-4, 0.32, 3.15, 9.99),
        (1e-5, 0.03, 3.07, 9.90),
    ],
)
def test_first_rmsprop_step_of_three_libraries(gradient, keras, old_keras, torch):
    """In units of the learning rate: Keras 3, Keras before 2.11, PyTorch."""
    libraries = {
        keras: RMSprop(1.0),
        old_keras: RMSprop(1.0, epsilon_inside=False),
        torch: RMSprop(1.0, rho=0.99, epsilon=1e-8, epsilon_inside=False),
    }
    for expected, optimizer in libraries.items():
        assert -after(optimizer, [gradient], value=0.0) == pytest.approx(expected, abs=0.01)


def test_defaults_are_those_of_keras():
    assert SGD().hyperparameters() == (0.01,)
    assert RMSprop().hyperparameters() == (0.001, 0.9, 1e-7)
    assert Adagrad().hyperparameters() == (0.001, 1e-7) and Adagrad().initial_accumulator_value == 0.1
    for optimizer in (Adam(), AdamW()):
        assert optimizer.learning_rate == 0.001
        assert optimizer.hyperparameters()[1:] == (0.9, 0.999, 1e-7)
    assert Adam().weight_decay is None and AdamW().weight_decay == 0.004


@pytest.mark.parametrize(
    "make", [SGD, lambda *a, **o: SGD(*a, momentum=0.9, **o), RMSprop, Adagrad, Adam, AdamW]
)
def test_weight_decay_is_apart_from_the_gradient(make):
    """w shrinks by lr * decay * w first; the slots never see it."""
    optimizer = make(0.1, weight_decay=0.25)
    assert after(optimizer, [0.0, 0.0]) == pytest.approx(2 * 0.975**2, rel=1e-14)
    alone = after(make(0.1, weight_decay=0.0), [0.5], value=0.975 * 2)
    assert after(make(0.1, weight_decay=0.25), [0.5]) == pytest.approx(alone, rel=1e-14)


# --- Muon: steps of whole matrices


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (7, 7), (300, 130)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_orthogonalize_keeps_the_directions_and_levels_the_singular_values(shape, dtype, kernels):
    matrix = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    u, _, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    [result] = kernel_sets.load(kernels).orthogonalize([matrix], 5)
    assert result.dtype == dtype
    core = u.T @ result @ vt.T  # diagonal, if U and V are the matrix's own
    np.testing.assert_allclose(core, np.diag(np.diag(core)), atol=1e-4 if dtype == np.float32 else 1e-12)
    assert np.diag(core).min() > 0.6 and np.diag(core).max() < 1.25
    [textbook] = kernel_sets.load("numpy").orthogonalize([matrix], 5)
    np.testing.assert_allclose(result, textbook, atol=1e-5 if dtype == np.float32 else 1e-13)


def test_a_matrix_without_gradient_stays_as_it_is(kernels):
    assert (kernel_sets.load(kernels).orthogonalize([np.zeros((5, 3))], 5)[0] == 0).all()


def test_muon_steps_as_far_as_its_rate_says_and_adam_moves_the_vectors(kernels):
    rng = np.random.default_rng(1)
    matrix, vector = Parameter("kernel", np.zeros((60, 20))), Parameter("bias", np.full(3, 2.0))
    matrix.grad, vector.grad = 1e-3 * rng.standard_normal((60, 20)), np.array([1e-3, -5.0, 0.1])
    Muon(0.1, adam_weight_decay=0.5).step([matrix, vector], kernel_sets.load(kernels))
    # 20 singular values of about 0.1 * 0.2 * sqrt 60, in 60 x 20 elements: about 0.1 * 0.2 each
    assert np.sqrt(np.square(matrix.value).mean()) == pytest.approx(0.02, rel=0.2)
    assert vector.value == pytest.approx(2 * 0.95 - 0.1 * np.array([1, -1, 1]), abs=1e-3)
    assert (set(matrix.slots), set(vector.slots)) == ({"momentum"}, {"first_moment", "second_moment"})


def test_muons_decays_are_apart_for_matrices_and_vectors():
    for options, expected in (({"weight_decay": 0.25}, (0.975, 1)), ({"adam_weight_decay": 0.5}, (1, 0.95))):
        pair = Parameter("kernel", np.ones((4, 4))), Parameter("bias", np.ones(4))
        for parameter in pair:
            parameter.grad = np.zeros(parameter.shape)
        defaults = {"weight_decay": 0.0, "adam_weight_decay": 0.0}
        Muon(0.1, **defaults | options).step(list(pair), kernel_sets.load("numpy"))
        for parameter, factor in zip(pair, expected, strict=True):
            np.testing.assert_allclose(parameter.value, factor, rtol=1e-14)


def test_muon_takes_filters_as_matrices_of_all_that_a_filter_sees(kernels):
    rng = np.random.default_rng(2)
    value, gradient = rng.standard_normal((2, 3, 3, 4, 10))
    filters, matrix = Parameter("kernel", value.copy()), Parameter("kernel", value.reshape(36, 10).copy())
    optimizer, twin = Muon(0.1), Muon(0.1)
    for step in (1, 2):
        filters.grad, matrix.grad = step * gradient, step * gradient.reshape(36, 10)
        optimizer.step([filters], kernel_sets.load(kernels))
        twin.step([matrix], kernel_sets.load(kernels))
    np.testing.assert_array_equal(filters.value.reshape(36, 10), matrix.value)
    assert filters.slots["momentum"].shape == (3, 3, 4, 10)


def test_muon_without_rms_rate_steps_by_the_learning_rate_alone(kernels):
    matrix = Parameter("kernel", np.zeros((60, 20)))
    matrix.grad = np.random.default_rng(1).standard_normal((60, 20))
    Muon(0.1, rms_rate=None, weight_decay=None).step([matrix], kernel_sets.load(kernels))
    [direction] = kernel_sets.load("numpy").orthogonalize([matrix.grad * 1.95], 5)
    np.testing.assert_allclose(matrix.value, -0.1 * direction, rtol=1e-10)


def test_muon_rescales_each_matrix_before_its_step():
    rng = np.random.default_rng(3)
    value, gradient = 7 * rng.standard_normal((3, 3, 4, 10)), rng.standard_normal((3, 3, 4, 10))
    free, rescaled, zero = (Parameter("kernel", v.copy()) for v in (value, value, 0 * value))
    free.value[...] *= 10**0.5 / np.linalg.norm(free.value)
    for parameter, rescale in ((free, False), (rescaled, True), (zero, True)):
        parameter.grad = gradient
        Muon(0.1, weight_decay=None, rescale=rescale).step([parameter], kernel_sets.load("numpy"))
    np.testing.assert_allclose(rescaled.value, free.value, rtol=1e-12)
    assert np.isfinite(zero.value).all()


def test_muon_is_never_fused_and_its_wrong_arguments_are_refused():
    model = Sequential([Dense(5, "relu", input_shape=(4,)), Dense(3, "softmax")], seed=0)
    model.compile("muon", "categorical_crossentropy", kernels="numba", fused=True)
    before = model.get_weights()
    model.fit(np.ones((8, 4)), np.eye(3)[np.arange(8) % 3], verbose=0)
    assert model.setup.step().current() is None
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    for wrong in ({"ns_steps": 0}, {"momentum": 1.0}, {"rms_rate": 0.0}, {"adam_weight_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Muon(**wrong)


def gradients_after_clipping(**options):
    parameters = [Parameter("a", np.zeros(2)), Parameter("b", np.zeros(1))]
    parameters[0].grad, parameters[1].grad = np.array([3.0, -4.0]), np.array([12.0])
    given = [parameter.grad for parameter in parameters]
    SGD(1.0, **options).step(parameters, kernel_sets.load("numpy"))
    assert given[0].tolist() == [3, -4] and given[1].tolist() == [12]
    return [-parameter.value for parameter in parameters]


def test_clipping():
    for options, a, b in [
        ({}, [3, -4], [12]),
        ({"clipvalue": 3.5}, [3, -3.5], [3.5]),
        ({"clipnorm": 1.0}, [0.6, -0.8], [1]),  # norms 5 and 12, each by itself
        ({"clipnorm": 10.0}, [3, -4], [10]),
        ({"global_clipnorm": 6.5}, [1.5, -2], [6]),  # the joint norm is 13
        ({"global_clipnorm": 13.5}, [3, -4], [12]),
    ]:
        clipped = gradients_after_clipping(**options)
        np.testing.assert_allclose(clipped[0], a, rtol=1e-14)
        np.testing.assert_allclose(clipped[1], b, rtol=1e-14)


def test_clipping_comes_before_the_slots_and_decay_stays_whole():
    expected = after(SGD(0.1, momentum=0.9), [1.0, 1.0], value=2 * 0.95)
    one = after(SGD(0.1, momentum=0.9), [1.0], value=2 * 0.95)
    clipped = SGD(0.1, momentum=0.9, clipvalue=1.0, weight_decay=0.5)
    assert after(clipped, [50.0]) == pytest.approx(one)
    assert after(SGD(0.1, momentum=0.9, clipnorm=1.0), [50.0, 70.0], value=1.9) == pytest.approx(expected)


def test_norm_of_large_float32_gradients_does_not_overflow():
    parameter = Parameter("w", np.zeros(4, np.float32))
    parameter.grad = np.full(4, 1e25, np.float32)
    SGD(1.0, clipnorm=1.0).step([parameter], kernel_sets.load("numpy"))
    np.testing.assert_allclose(parameter.value, -0.5, rtol=1e-6)


def test_schedule_is_asked_with_the_steps_done():
    optimizer = SGD(ExponentialDecay(1.0, decay_steps=1, decay_rate=0.5))
    assert after(optimizer, [1.0, 1.0, 1.0], value=0.0) == -1.75
    assert optimizer.iterations == 3 and optimizer.learning_rate == 0.125
    with pytest.raises(TypeError, match="schedule"):
        optimizer.learning_rate = 0.1
    decayed = SGD(ExponentialDecay(1.0, 1, 0.5), weight_decay=0.5)
    assert after(decayed, [0.0, 0.0], value=1.0) == pytest.approx(0.5 * 0.75)


def test_learning_rate_can_be_changed():
    optimizer = SGD(0.1)
    assert after(optimizer, [1.0], value=0.0) == pytest.approx(-0.1)
    optimizer.learning_rate = 0.5
    assert after(optimizer, [1.0], value=0.0) == -0.5


@pytest.mark.parametrize("make", [make for make, _ in RULES], ids=[repr(make()) for make, _ in RULES])
def test_memory_of_dead_units_becomes_zero_not_subnormal(make, kernels):
    parameter = Parameter("w", np.ones(3, np.float32))
    optimizer, kernel_set = make(), kernel_sets.load(kernels)
    for step in range(1500):
        parameter.grad = np.full(3, 1e-3 if step == 0 else 0.0, np.float32)
        optimizer.step([parameter], kernel_set)
    for name, slot in parameter.slots.items():
        tiny = (slot != 0) & (np.abs(slot) < 1e-30)
        assert not tiny.any(), name


def test_what_is_flushed_and_what_is_kept():
    line = np.array([0.99e-30, -0.99e-30, 1.01e-30, -1.01e-30, np.nan])
    np.testing.assert_array_equal(rules.flush(line), [0, 0, 1.01e-30, -1.01e-30, np.nan])


def test_the_memory_of_rmsprop_is_running_means():
    """Files hold it, so its signs matter, though the step takes squares."""
    parameter, optimizer = Parameter("w", np.ones(1)), RMSprop(0.1, rho=0.75, momentum=0.5, centered=True)
    for gradient in (2.0, -4.0):
        parameter.grad = np.array([gradient])
        optimizer.step([parameter], kernel_sets.load("numpy"))
    assert parameter.slots["mean"] == 0.75 * 0.25 * 2 - 0.25 * 4
    assert parameter.slots["mean_square"] == 0.75 * 0.25 * 4 + 0.25 * 16


def test_amsgrad_remembers_the_largest():
    gradients = [10.0] + [0.01] * 50
    assert after(Adam(0.1, beta_2=0.5), gradients) < after(Adam(0.1, beta_2=0.5, amsgrad=True), gradients)


def test_centered_variance_never_turns_negative(kernels):
    """A constant gradient has variance zero, which rounding may take below."""
    with np.errstate(invalid="raise"):
        for gradient in (777.0, 0.1, 1 / 3):
            end = after(RMSprop(1e-3, centered=True), [gradient] * 300, kernels, dtype=np.float32)
            assert np.isfinite(end)


def test_nan_gradients_are_not_hidden(kernels):
    for make, _ in RULES:
        assert np.isnan(after(make(), [np.nan], kernels, dtype=np.float32))


def test_arguments_are_checked():
    for make, message in [
        (lambda: SGD(-0.1), "learning_rate must be finite and at least 0, got -0.1"),
        (lambda: SGD(float("nan")), "learning_rate"),
        (lambda: SGD(momentum=1.0), "momentum must be at least 0 and below 1"),
        (lambda: RMSprop(rho=-0.1), "rho"),
        (lambda: RMSprop(epsilon=0.0), "epsilon must be finite and positive"),
        (lambda: Adam(beta_2=1.5), "beta_2"),
        (lambda: Adam(weight_decay=-1.0), "weight_decay"),
        (lambda: Adam(clipnorm=1.0, clipvalue=1.0), "Only one of"),
        (lambda: Adam(clipnorm=0.0), "clipnorm"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match=r"learning_rate must be a number, got 'fast' \(str\)"):
        SGD("fast")


def test_names():
    assert isinstance(optimizers.get("rmsprop"), RMSprop) and isinstance(optimizers.get("AdamW"), AdamW)
    assert isinstance(optimizers.get(Adagrad), Adagrad)
    with pytest.raises(ValueError, match=r'Unknown optimizer \'rmsprob\'. Did you mean "rmsprop"\?'):
        optimizers.get("rmsprob")
    with pytest.raises(ValueError, match='Did you mean "adam"'):
        optimizers.get("Adam_")


@pytest.mark.parametrize("make", [make for make, _ in RULES], ids=[repr(make()) for make, _ in RULES])
def test_described_by_their_arguments(make):
    optimizer = make()
    twin = type(optimizer)(**optimizer.get_config())
    assert twin.get_config() == optimizer.get_config() and twin.slot_names == optimizer.slot_names
    assert after(twin, [G1, G2]) == after(optimizer, [G1, G2])
    scheduled = Adam(ExponentialDecay(0.1, 2, 0.5), clipnorm=1.0)
    assert after(Adam(**scheduled.get_config()), [G1, G2]) == after(scheduled, [G1, G2])


def test_rules_write_to_nothing():
    w, g, slots = np.ones(3), np.full(3, 0.5), [np.full(3, 0.1) for _ in range(3)]
    for array in (w, g, *slots):
        array.flags.writeable = False
    rules.sgd(w, g, 0.1)
    rules.sgd_momentum(w, g, slots[0], 0.1, 0.9)
    rules.sgd_nesterov(w, g, slots[0], 0.1, 0.9)
    rules.rmsprop(w, g, slots[0], 0.1, 0.9, EPS)
    rules.rmsprop_general(w, g, *slots, 0.1, 0.9, 0.5, EPS, 1.0, 0.0)
    rules.adagrad(w, g, slots[0], 0.1, EPS)
    rules.adam(w, g, *slots[:2], 0.1, 0.9, 0.99, EPS)
    rules.amsgrad(w, g, *slots, 0.1, 0.9, 0.99, EPS)
    more_rules.nadam(w, g, *slots[:2], 0.1, 0.5, 0.5, 0.9, 0.99, 1.0, EPS)
    more_rules.adamax(w, g, *slots[:2], 0.1, 0.9, 0.99, EPS)
    more_rules.adadelta(w, g, *slots[:2], 0.1, 0.9, EPS)
    more_rules.lion(w, g, slots[0], 0.1, 0.9, 0.99)


# --- averages, constraints


def test_the_average_of_the_weights_takes_their_place_at_the_end():
    parameter = Parameter("w", np.array([2.0]))
    optimizer = SGD(1.0, use_ema=True, ema_momentum=0.75)
    for gradient in (1.0, 2.0):
        parameter.grad = np.array([gradient])
        optimizer.step([parameter], kernel_sets.load("numpy"))
    assert parameter.value == -1 and parameter.slots["average"] == 0.75 * 1 + 0.25 * -1
    optimizer.finalize_variable_values([parameter])
    assert parameter.value == 0.5
    often = SGD(1.0, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=2)
    assert after(often, [1.0, 2.0], value=2.0) == 0.5
    for wrong in ({"ema_momentum": 1.5}, {"ema_overwrite_frequency": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SGD(use_ema=True, **wrong)


def test_averages_are_saved_and_never_fused(tmp_path):
    x, y = np.random.default_rng(0).random((12, 4)), np.eye(3)[np.arange(12) % 3]

    def model():
        made = Sequential([Dense(3, "softmax", input_shape=(4,))], seed=0)
        made.compile(Adam(0.1, use_ema=True), "categorical_crossentropy", kernels="numpy")
        return made

    options = {"epochs": 4, "batch_size": 4, "verbose": 0}
    whole, half = model(), model()
    whole.fit(x, y, **options)
    half.fit(x, y, **options | {"epochs": 2})
    half.save(tmp_path / "half")
    loaded = load_model(tmp_path / "half")
    (average, *_), kept = loaded.optimizer.memory.values(), half.optimizer.memory.values()
    np.testing.assert_array_equal(average["average"], next(iter(kept))["average"])
    np.testing.assert_array_equal(loaded.get_weights()[0], average["average"])
    assert loaded.optimizer.use_ema and plan(whole.setup.readable_step()) is None


def test_constraints_hold_after_every_step(kernels):
    layer = Dense(3, kernel_constraint=MaxNorm(0.5), bias_constraint="non_neg", input_shape=(4,))
    model = Sequential([layer, Dense(2, kernel_constraint=constraints.MaxNorm(1, axis=1))], seed=0)
    model.compile(SGD(0.5), "mse", kernels=kernels)
    x, y = np.random.default_rng(0).random((12, 4)), np.ones((12, 2))
    for _ in range(3):
        model.train_on_batch(x, y)
        first, bias, second, _ = model.get_weights()
        assert np.linalg.norm(first, axis=0).max() <= 0.5 and (bias >= 0).all()
        assert np.linalg.norm(second, axis=1).max() <= 1
    assert MaxNorm(2.0)(np.array([[3.0, 0.3], [4.0, 0.4]])) == pytest.approx(
        np.array([[1.2, 0.3], [1.6, 0.4]])
    )
    twin = constraints.get({"class_name": "MaxNorm", "config": MaxNorm(3, (0, 1)).get_config()})
    assert twin.max_value == 3 and twin(np.ones((2, 2, 2))).shape == (2, 2, 2)
    with pytest.raises(ValueError, match="Did you mean"):
        Dense(3, kernel_constraint="maxnorm")


def test_muon_s_adam_goes_by_its_own_names():
    with pytest.raises(TypeError, match=r"'beta_1'\. Did you mean adam_beta_1"):
        Muon(beta_1=0.5)
    optimizer = Muon(adam_beta_2=0.9)
    optimizer.adam_beta_1 = 0.5
    assert (optimizer.beta_1, optimizer.beta_2) == (0.5, 0.9)
    assert optimizer.get_config()["adam_beta_1"] == 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"clipnorm": np.float32(1)}, {"clipvalue": np.float32(1)}, {"global_clipnorm": np.float32(1)},
        {"weight_decay": np.float32(0.5)}, {"ema_overwrite_frequency": np.int64(3), "use_ema": True},
    ],
)  # fmt: skip
def test_numbers_of_numpy_can_be_saved(options):
    assert json.loads(json.dumps(Adam(**options).get_config())) == Adam(**options).get_config()
