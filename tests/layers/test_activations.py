"""Activations: values against fifty digits, limits, kinks, names, and what they remember."""

import mpmath
import numpy as np
import pytest
from small import compiled, random

import npnet
from npnet import activations
from npnet import kernels as kernel_sets
from npnet.activations import ELU, GELU, SELU, Activation, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax
from npnet.layers import BatchNormalization, Dense, Dropout

POINTS = [-30.0, -8.0, -2.5, -1.0, -0.25, -1e-8, 1e-8, 0.3, 1.0, 2.0, 7.5, 30.0]
ALPHA, SCALE = (
    mpmath.mpf("1.6732632423543772848170429916717"),
    mpmath.mpf("1.0507009873554804934193349852946"),
)
EXACT = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0),
    "leaky_relu": lambda x: x if x > 0 else x / 5,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "selu": lambda x: SCALE * (x if x > 0 else ALPHA * mpmath.expm1(x)),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "swish": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "softsign": lambda x: x / (1 + abs(x)),
    "hard_sigmoid": lambda x: min(max(x / 6 + mpmath.mpf(0.5), 0), 1),
    "relu6": lambda x: min(max(x, 0), 6),
    "exponential": mpmath.exp,
}
PRECISION = {"float64": 2e-12, "float32": 3e-5}


def ready(activation, kernels="numpy"):
    layer = activations.get(activation)
    layer.kernels = kernel_sets.load(kernels)
    return layer


@pytest.mark.parametrize(
    ("kernels", "dtype"), [("numpy", "float64"), ("numpy", "float32"), ("numba", "float32")]
)
@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_against_fifty_digits(name, kernels, dtype):
    layer = ready(name, kernels)
    x = np.array([POINTS], dtype)
    with mpmath.workdps(50):
        numbers = [mpmath.mpf(float(value)) for value in x[0]]
        values = [float(EXACT[name](value)) for value in numbers]
        slopes = [float(mpmath.diff(EXACT[name], value, h=mpmath.mpf("1e-20"))) for value in numbers]
    y = layer.forward(x)
    dx = layer.backward(np.full_like(x, 2.0))
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_allclose(y[0], values, rtol=PRECISION[dtype], atol=np.finfo(dtype).tiny)
    # near 1 sigmoid and tanh have the digits of 1 - y only
    np.testing.assert_allclose(dx[0] / 2, slopes, rtol=PRECISION[dtype], atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", EXACT)
def test_far_out_nothing_overflows(name, kernels):
    layer = ready(name, kernels)
    x = np.array([[-1e15, -1e3, 1e3, 1e15]], np.float32)
    if name == "exponential":  # which overflows by nature
        x = np.minimum(x, 80)
    y, dx = layer.forward(x), layer.backward(np.ones_like(x))
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    if name not in ("linear", "sigmoid", "tanh", "selu", "softsign", "hard_sigmoid", "relu6", "exponential"):
        np.testing.assert_array_equal(y[0, 2:], x[0, 2:])
        np.testing.assert_array_equal(dx[0, 2:], 1)


@pytest.mark.parametrize("name", EXACT)
def test_nan_goes_through(name, kernels):
    y = ready(name, kernels).forward(np.array([[np.nan, 1.0]], np.float32))
    assert np.isnan(y[0, 0]) and not np.isnan(y[0, 1])


def test_softmax_and_log_softmax(kernels):
    x = random(0, 4, 5)
    powers = np.exp(x)
    y = ready("softmax", kernels).forward(x)
    np.testing.assert_allclose(y, powers / powers.sum(axis=1, keepdims=True), rtol=1e-14)
    np.testing.assert_allclose(ready("softmax", kernels).forward(x + 1000), y, rtol=1e-12)
    np.testing.assert_allclose(ready("log_softmax", kernels).forward(x), np.log(y), rtol=1e-12)
    np.testing.assert_array_equal(
        ready("log_softmax", kernels).forward(np.array([[0.0, -5000.0]])), [[0, -5000]]
    )


def test_bounded_relu(kernels):
    layer = ready(ReLU(max_value=6.0, negative_slope=0.1, threshold=1.0), kernels)
    x = np.array([[-2.0, 0.5, 1.5, 5.0, 7.0]])
    np.testing.assert_allclose(layer.forward(x), [[-0.3, -0.05, 1.5, 5, 6]], rtol=1e-15)
    np.testing.assert_allclose(layer.backward(np.full_like(x, 2.0)), [[0.2, 0.2, 2, 2, 0]], rtol=1e-15)
    unbounded = ready(ReLU(negative_slope=0.5), kernels)
    np.testing.assert_array_equal(unbounded.forward(np.array([[-4.0, 1e30]])), [[-2, 1e30]])


def test_derivative_at_the_kink_is_zero(kernels):
    relu = ready("relu", kernels)
    relu.forward(np.array([[0.0, -0.0, 1e-300]]))
    np.testing.assert_array_equal(relu.backward(np.ones((1, 3))), [[0, 0, 1]])


def test_leaky_relu_by_name_and_as_a_layer_have_keras_slopes():
    assert activations.get("leaky_relu").negative_slope == 0.2
    assert LeakyReLU().negative_slope == 0.3
    model = npnet.Sequential([Dense(2, "leaky_relu", input_shape=(1,)), LeakyReLU()])
    assert [link.negative_slope for link in model.links if isinstance(link, LeakyReLU)] == [0.2, 0.3]


def test_selu_keeps_mean_and_variance():
    y = ready("selu").forward(random(0, 400_000, 1))
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.02


def test_activation_in_a_layer_or_as_one_is_the_same_network(kernels):
    x, y = random(0, 6, 3), random(1, 6, 2)
    networks = [
        [Dense(4, "tanh", input_shape=(3,)), Dense(2)],
        [Dense(4, input_shape=(3,)), Activation("tanh"), Dense(2)],
        [Dense(4, input_shape=(3,)), activations.Tanh(), Dense(2)],
    ]
    weights = []
    for layers in networks:
        model = compiled(layers, dtype="float32", kernels=kernels)
        model.build((None, 3))
        model.set_weights([random(2, 3, 4), random(3, 4), random(4, 4, 2), random(5, 2)])
        model.fit(x, y, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for other in weights[1:]:
        for ours, theirs in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_one_object_in_two_places_remembers_two_forwards():
    shared = activations.Tanh()
    layers = [Dense(4, shared, input_shape=(3,)), Dense(4, shared), Activation(shared), shared, Dense(2)]
    result = npnet.check_gradients(compiled(layers), random(0, 5, 3), random(1, 5, 2), verbose=False)
    assert result.passed, f"\n{result}"
    with pytest.raises(ValueError, match="in this model already"):
        npnet.Sequential([Dense(4, input_shape=(3,)), shared, shared])


def test_what_has_parameters_is_no_activation():
    """Nobody would build or train them."""
    for layer in (Dense(3), Activation("relu"), Dropout(0.5), BatchNormalization()):
        for make in (Activation, lambda inner: Dense(3, activation=inner)):
            with pytest.raises(TypeError, match="add it to the model after that one"):
                make(layer)


def test_names():
    for name, cls in {
        "gelu": GELU,
        "swish": SiLU,
        "selu": SELU,
        "log_softmax": LogSoftmax,
        "ELU": ELU,
    }.items():
        assert type(activations.get(name)) is cls
    assert activations.get(None) is None and isinstance(activations.get(Sigmoid), Sigmoid)
    with pytest.raises(ValueError, match=r"Unknown activation 'rellu'. Did you mean \"relu\"\?"):
        Dense(3, activation="rellu")
    with pytest.raises(TypeError, match="plain function"):
        Dense(3, activation=np.tanh)


def test_described_by_their_arguments():
    for layer in (ReLU(max_value=2.0, threshold=0.1), ELU(alpha=0.3), LeakyReLU(0.05), Softmax()):
        twin = type(layer)(**layer.get_config())
        x = random(0, 2, 3)
        np.testing.assert_array_equal(twin.forward(x), layer.forward(x))


def test_softmax_of_pictures_is_refused():
    with pytest.raises(ValueError, match="Flatten"):
        npnet.Sequential([Softmax(input_shape=(4, 4, 3))])
    with pytest.raises(ValueError, match="axis must be -1"):
        Softmax(axis=0)
