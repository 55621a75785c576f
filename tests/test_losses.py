"""Losses: worked examples, fifty digits, confident mistakes, weights, and honest answers to bad numbers."""

import mpmath
import numpy as np
import pytest
from small import compiled, one_hot, random

import npnet
from npnet import kernels as kernel_sets
from npnet import losses
from npnet.layers import BatchNormalization, Dense
from npnet.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from npnet.optimizers import SGD, Adam

PRECISION = {np.float64: 2e-12, np.float32: 3e-5}
LOGITS = [
    [0.0, 0.0, 0.0],
    [1.0, 2.0, 3.0],
    [-3.5, 0.25, 7.125],
    [1000.0, 1001.0, 999.5],
    [-1e6, -1e6 + 1, -1e6 - 1],
    [88.5, 0.0, 1.0],
    [50.0, 40.0, 15.0],
    [1e30, -1e30, 0.0],
    [-1e30, -1e30, -1e30],
    [1e30, 1e30, 5.0],
    [3.0, -1e30, 2.0],
]


def exact_softmax(row):
    with mpmath.workdps(50):
        numbers = [mpmath.mpf(float(x)) for x in row]
        powers = [mpmath.exp(x - max(numbers)) for x in numbers]
        return [power / mpmath.fsum(powers) for power in powers]


def exact_cross_entropy(row, label):
    """Return log sum e^x - x[label], which does not need the probability itself."""
    with mpmath.workdps(50):
        numbers = [mpmath.mpf(float(x)) for x in row]
        shift = max(numbers)
        return mpmath.log(mpmath.fsum(mpmath.exp(x - shift) for x in numbers)) + shift - numbers[label]


# --- against fifty digits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("row", LOGITS, ids=str)
def test_softmax_against_fifty_digits(row, dtype, kernels):
    x = np.array([row], dtype)
    y = kernel_sets.load(kernels).softmax_forward(x)[0]
    assert y.dtype == dtype
    exact = [float(p) for p in exact_softmax(x[0])]
    tiny = np.finfo(dtype).tiny  # below, numbers have fewer digits
    np.testing.assert_allclose(y, exact, rtol=PRECISION[dtype], atol=tiny)


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("row", LOGITS, ids=str)
def test_cross_entropy_of_logits_against_fifty_digits(row, dtype, kernels):
    x = np.array([row] * 3, dtype)
    values, probabilities = kernel_sets.load(kernels).softmax_cross_entropy_forward(np.eye(3, dtype=dtype), x)
    exact = [float(exact_cross_entropy(x[0], label)) for label in range(3)]
    np.testing.assert_allclose(values, exact, rtol=PRECISION[dtype], atol=PRECISION[dtype] / 10)
    gradient = kernel_sets.load(kernels).softmax_cross_entropy_backward(np.eye(3, dtype=dtype), probabilities)
    exact = np.array([[float(p) for p in exact_softmax(x[0])]] * 3) - np.eye(3)
    np.testing.assert_allclose(gradient, exact, rtol=PRECISION[dtype], atol=PRECISION[dtype] / 10)


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("z", [-1e30, -800.0, -90.0, -20.0, -1.0, 0.0, 0.5, 17.0, 90.0, 800.0, 1e30])
def test_binary_cross_entropy_of_logits_against_fifty_digits(z, dtype, kernels):
    logits, t = np.array([[z], [z], [z]], dtype), np.array([[0.0], [1.0], [0.25]], dtype)
    values = kernel_sets.load(kernels).sigmoid_cross_entropy_forward(t, logits)
    with mpmath.workdps(100):  # fifty are left where the large parts cancel
        number = mpmath.mpf(float(logits[0, 0]))
        log_1_plus = max(number, 0) + mpmath.log1p(mpmath.exp(-abs(number)))
        exact = [float(log_1_plus - mpmath.mpf(float(share)) * number) for share in t[:, 0]]
    np.testing.assert_allclose(values, exact, rtol=PRECISION[dtype], atol=np.finfo(dtype).tiny)


def test_loss_of_probabilities_against_fifty_digits():
    y_pred = np.array([[0.2, 0.3, 0.5], [0.9, 0.05, 0.05], [1e-5, 0.5, 0.49999]])
    for label in range(3):
        with mpmath.workdps(50):
            rows = [[mpmath.mpf(float(p)) for p in row] for row in y_pred]
            exact = [float(-mpmath.log(row[label] / mpmath.fsum(row))) for row in rows]
        values = CategoricalCrossentropy(reduction=None)(np.eye(3)[[label] * 3], y_pred)
        np.testing.assert_allclose(values, exact, rtol=2e-12)


# --- confident mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernels", "fused", "dtype"),
    [
        ("numpy", False, "float64"),
        ("numpy", False, "float32"),
        ("numba", False, "float32"),
        ("numba", True, "float32"),
    ],
)
def test_confident_mistake_of_softmax_still_learns(kernels, fused, dtype):
    """The probability of the right class has underflowed to 0; the gradient at the logits is p - t."""
    for loss, y in (("categorical_crossentropy", one_hot(1, 3)), ("sparse_categorical_crossentropy", [0])):
        layers, options = [Dense(3, "softmax", input_shape=(3,))], {"kernels": kernels, "fused": fused}
        model = compiled(layers, loss, dtype, optimizer=SGD(1.0), **options)
        model.set_weights([np.eye(3) * 2048, np.zeros(3)])
        x = np.array([[0.0, 1.0, 0.0]])
        assert model.predict(x, verbose=0).tolist() == [[0, 1, 0]]
        assert model.train_on_batch(x, np.array(y)) == pytest.approx(-np.log(1e-7), rel=1e-6)
        weight, bias = model.get_weights()
        np.testing.assert_array_equal(bias, [1, -1, 0])
        np.testing.assert_array_equal(weight, np.eye(3) * 2048 + [[0, 0, 0], [1, -1, 0], [0, 0, 0]])


def test_confident_mistake_of_sigmoid_still_learns(kernels):
    layers = [Dense(2, "sigmoid", input_shape=(1,))]
    model = compiled(layers, "binary_crossentropy", "float32", kernels=kernels, optimizer=SGD(1.0))
    model.set_weights([[[2048.0, -2048.0]], [0.0, 0.0]])
    model.train_on_batch(np.ones((1, 1)), np.array([[0.0, 1.0]]))
    np.testing.assert_array_equal(model.get_weights()[1], [-0.5, 0.5])


def test_confident_mistake_is_unlearnt(kernels):
    layers, loss = [Dense(3, "softmax", input_shape=(3,))], "categorical_crossentropy"
    model = compiled(layers, loss, "float32", kernels=kernels, optimizer=Adam(1.0))
    model.set_weights([np.roll(np.eye(3), 1, axis=1) * 50, np.zeros(3)])
    model.fit(np.eye(3), np.eye(3), epochs=100, verbose=0)
    assert model.evaluate(np.eye(3), np.eye(3), verbose=0) < 0.01


def test_confident_mistake_without_the_joint_gradient_still_points_the_right_way():
    for loss in (CategoricalCrossentropy(), BinaryCrossentropy()):
        for dtype in (np.float32, np.float64):
            t, p = np.array([[1, 0]], dtype), np.array([[0, 1]], dtype)
            loss.forward(t, p)
            gradient = loss.backward()
            assert np.isfinite(gradient).all() and gradient[0, 0] < -1e6


def test_the_clip_is_one_of_probabilities_whatever_the_outputs_sum_to(kernels):
    """dL/d(c y) = dL/dy / c, for a probability of 0 too."""
    t, y = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    backward = kernel_sets.load(kernels).cross_entropy_backward
    for scale in (1 / 8, 8.0):
        np.testing.assert_array_equal(backward(t, scale * y) * scale, backward(t, y))


# --- worked examples ---------------------------------------------------------------------------------------


def test_worked_examples():
    t, p = [[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]]  # Keras's docstring
    assert CategoricalCrossentropy()(t, p) == pytest.approx((-np.log(0.95) - np.log(0.1)) / 2, rel=1e-9)
    assert SparseCategoricalCrossentropy()([1, 2], p) == CategoricalCrossentropy()(t, p)
    assert SparseCategoricalCrossentropy()([[1], [2]], p) == CategoricalCrossentropy()(t, p)
    smooth = -(0.1 / 3 * np.log([0.2, 0.3]).sum() + (0.9 + 0.1 / 3) * np.log(0.5))
    loss = CategoricalCrossentropy(label_smoothing=0.1)
    assert loss([[0, 0, 1]], [[0.2, 0.3, 0.5]]) == pytest.approx(smooth, rel=1e-12)
    assert MeanSquaredError()([[1.0, 2.0]], [[3.0, 5.0]]) == (4 + 9) / 2
    assert MeanAbsoluteError()([[1.0, 2.0]], [[3.0, 5.0]]) == (2 + 3) / 2
    binary = -(np.log(0.8) + np.log(1 - 0.3)) / 2
    assert BinaryCrossentropy()([[1, 0]], [[0.8, 0.3]]) == pytest.approx(binary, rel=1e-12)
    smooth = -(0.9 * np.log(0.8) + 0.1 * np.log(0.2))
    assert BinaryCrossentropy(label_smoothing=0.2)([[1]], [[0.8]]) == pytest.approx(smooth, rel=1e-12)


def test_probabilities_are_normalized_and_clipped_as_in_keras():
    assert CategoricalCrossentropy()([[1, 0]], [[2.0, 6.0]]) == pytest.approx(-np.log(0.25), rel=1e-12)
    assert CategoricalCrossentropy()([[1, 0]], [[0.0, 1.0]]) == pytest.approx(16.11809565, rel=1e-8)
    assert CategoricalCrossentropy()([[0, 1]], [[0.0, 1.0]]) == pytest.approx(1e-7, rel=1e-6)
    assert BinaryCrossentropy()([[1]], [[0.0]]) == pytest.approx(16.11809565, rel=1e-8)
    assert BinaryCrossentropy()([[0]], [[1.0]]) == pytest.approx(16.11809565, rel=1e-8)


def test_logits_and_probabilities_agree():
    z, t = random(1, 5, 3), one_hot(5, 3)
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    for options in ({}, {"label_smoothing": 0.2}):
        a = CategoricalCrossentropy(from_logits=True, reduction=None, **options)(t, z)
        b = CategoricalCrossentropy(reduction=None, **options)(t, p)
        np.testing.assert_allclose(a, b, rtol=1e-12)
        a = BinaryCrossentropy(from_logits=True, reduction=None, **options)(t, z)
        b = BinaryCrossentropy(reduction=None, **options)(t, 1 / (1 + np.exp(-z)))
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_reductions_and_weights():
    t, y, weight = np.zeros((4, 1)), np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([1.0, 0.0, 2.0, 0.5])
    assert MeanSquaredError()(t, y) == 30 / 4
    assert MeanSquaredError(reduction="sum")(t, y) == 30
    assert MeanSquaredError(reduction=None)(t, y).tolist() == [1, 4, 9, 16]
    assert MeanSquaredError(reduction="none")(t, y).tolist() == [1, 4, 9, 16]
    assert MeanSquaredError()(t, y, weight) == (1 + 18 + 8) / 4  # divided by 4 samples, not by the weights
    assert MeanSquaredError()(t, y, weight[:, None]) == (1 + 18 + 8) / 4
    assert MeanSquaredError(reduction="sum")(t, y, weight) == 27
    assert MeanSquaredError(reduction=None)(t, y, weight).tolist() == [1, 0, 18, 8]


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_outputs_of_more_axes_are_averaged_too(loss):
    """As in Keras: the mean over everything, a sample's weight counting for all its outputs."""
    model = compiled([BatchNormalization(input_shape=(4, 3))], loss, metrics=[loss])
    x, y, weight = random(0, 5, 4, 3), random(1, 5, 4, 3), np.array([0.0, 1, 2, 3, 0.5])
    errors = np.abs(model.predict(x, verbose=0) - y) ** (2 if loss == "mse" else 1)
    assert model.evaluate(x, y, verbose=0) == pytest.approx([errors.mean()] * 2)
    expected = (errors.mean(axis=(1, 2)) * weight).mean()
    assert model.evaluate(x, y, sample_weight=weight, verbose=0)[0] == pytest.approx(expected)
    assert npnet.check_gradients(model, x, y, weight, verbose=False).passed
    assert losses.get({"class_name": type(model.loss).__name__, "config": {"reduction": None}})(
        y, x
    ).shape == (5, 4)


FUNCTIONS = [
    name
    for name in vars(kernel_sets.load("numpy"))
    if name.endswith(("_forward", "_backward"))
    and ("softmax" in name or "entropy" in name or "error" in name)
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_samples_are_the_rows_of_the_last_axis_however_many_there_are(name, kernels):
    """Shape (5, 4, 3) means what (20, 3) does."""
    function = getattr(kernel_sets.load(kernels), name)
    arrays = [np.random.default_rng(seed).uniform(0.1, 0.9, (5, 4, 3)) for seed in (0, 1)]
    if name in ("softmax_forward", "log_softmax_forward"):
        arrays = arrays[:1]
    cubes, rows = function(*arrays), function(*(a.reshape(20, 3) for a in arrays))
    if type(cubes) is not tuple:
        cubes, rows = (cubes,), (rows,)
    for cube, row in zip(cubes, rows, strict=True):
        assert cube.shape[:2] == (5, 4)
        np.testing.assert_allclose(cube.reshape(row.shape), row, rtol=1e-14)


def test_ignored_samples_count_neither_in_the_sum_nor_in_the_number():
    p = [[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]
    loss = SparseCategoricalCrossentropy(ignore_class=-1)
    assert loss([0, -1, 1], p) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, rel=1e-12)
    weighted = loss([0, -1, 1], p, [3.0, 100.0, 1.0])
    assert weighted == pytest.approx(-(3 * np.log(0.5) + np.log(0.8)) / 2, rel=1e-12)
    assert loss([-1, -1, -1], p) == 0
    assert SparseCategoricalCrossentropy(ignore_class=0)([0, 0, 1], p) == pytest.approx(-np.log(0.8))
    total = SparseCategoricalCrossentropy(ignore_class=-1, reduction="sum")([0, -1, 1], p)
    assert total == pytest.approx(-(np.log(0.5) + np.log(0.8)), rel=1e-12)


def test_long_sums_of_float32_keep_their_digits():
    y = np.full((1_000_000, 1), 0.1, np.float32)
    exact = float(np.float32(0.1) * np.float32(0.1))
    assert MeanSquaredError()(np.zeros_like(y), y) == pytest.approx(exact, rel=1e-9)


# --- bad numbers, bad arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "binary_crossentropy", "mse", "mae"])
@pytest.mark.parametrize("logits", [False, True])
def test_nan_is_reported(loss, logits):
    loss = losses.get(loss)
    if logits and not hasattr(loss, "from_logits"):
        return
    if logits:
        loss = type(loss)(from_logits=True)
    t = np.array([[1.0, 0.0]])
    assert np.isnan(loss(t, [[np.nan, 0.5]])) and np.isnan(loss(t, [[0.5, np.nan]]))
    loss.forward(t, np.array([[np.nan, 0.5]]))
    assert np.isnan(loss.backward()).any()


def test_infinite_logits(kernels):
    """-inf is a probability of zero; +inf, or nothing but -inf, has no probabilities."""
    softmax = kernel_sets.load(kernels).softmax_forward
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(softmax(np.array([[-np.inf, 0.0, 0.0]])), [[0, 0.5, 0.5]], rtol=1e-15)
        for row in ([np.inf, 0.0], [-np.inf, -np.inf], [np.nan, 0.0], [0.0, np.nan]):
            assert np.isnan(softmax(np.array([row]))).any()
            assert np.isnan(kernel_sets.load(kernels).log_softmax_forward(np.array([row]))).any()


@pytest.mark.parametrize("dtype", PRECISION)
def test_a_class_of_probability_zero_costs_nothing_unless_it_is_the_target(kernels, dtype):
    """A logit of -inf, by which a class is masked out: 0 log 0 = 0, but 1 log 0 is infinite."""
    logits = np.array([[-np.inf, 0.0, 0.0]] * 4 + [[-np.inf, np.nan, 0.0]], dtype)
    t = np.array([[0, 1, 0], [0, 0.5, 0.5], [1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype)
    values, p = kernel_sets.load(kernels).softmax_cross_entropy_forward(t, logits)
    assert values.dtype == dtype
    np.testing.assert_allclose(values, [np.log(2), np.log(2), np.inf, np.inf, np.nan], rtol=1e-6)
    gradient = kernel_sets.load(kernels).softmax_cross_entropy_backward(t, p)
    np.testing.assert_allclose(gradient[:2], [[0, -0.5, 0.5], [0, 0, 0]], atol=1e-7)


@pytest.mark.parametrize(
    ("loss", "y_true", "message"),
    [
        (
            CategoricalCrossentropy(),
            [[1, 0], [0, 1], [1, 0]],
            r"y_true must have the shape of y_pred, \(2, 3\)",
        ),
        (MeanSquaredError(), [1, 2], "y_true must have the shape"),
        (SparseCategoricalCrossentropy(), [0, 3], r"label 3, but y_pred with 3 outputs allows 0\.\.2"),
        (SparseCategoricalCrossentropy(), [0, -1], "label -1"),
        (SparseCategoricalCrossentropy(ignore_class=-1), [-1, 7], "label 7"),
        (SparseCategoricalCrossentropy(), [0, 1, 2], "same number"),
    ],
)
def test_targets_that_do_not_fit_are_refused(loss, y_true, message):
    with pytest.raises(ValueError, match=message):
        loss(y_true, np.full((2, 3), 1 / 3))


def test_weights_that_do_not_fit_are_refused():
    for weight in ([1.0], [1.0, 2.0, 3.0], [1.0, -1.0], [np.nan, 1.0], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="sample_weight"):
            MeanSquaredError()(np.zeros((2, 1)), np.ones((2, 1)), weight)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="label_smoothing"):
        CategoricalCrossentropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="label_smoothing"):
        BinaryCrossentropy(label_smoothing=-0.1)
    with pytest.raises(ValueError, match="sum_over_batch_size"):
        MeanSquaredError(reduction="mean")


def test_names():
    assert isinstance(losses.get("mse"), MeanSquaredError)
    assert isinstance(losses.get("MeanAbsoluteError"), MeanAbsoluteError)
    assert isinstance(losses.get(BinaryCrossentropy), BinaryCrossentropy)
    with pytest.raises(ValueError, match='Did you mean "categorical_crossentropy"'):
        losses.get("categorical_crossentrop")
    with pytest.raises(TypeError, match="loss must be a name"):
        losses.get(3)


def test_a_call_leaves_training_alone():
    loss = MeanSquaredError()
    loss.forward(np.zeros((2, 1)), np.ones((2, 1)))
    loss(np.zeros((3, 1)), np.full((3, 1), 7.0))
    np.testing.assert_array_equal(loss.backward(), [[1.0], [1.0]])


# --- as functions, and of one's own ------------------------------------------------------------------------


@pytest.mark.parametrize("name", losses.NAMES)
def test_every_loss_is_a_function_too(name):
    cls, function = losses.NAMES[name], getattr(losses, name)
    t = [0, 2] if name.startswith("sparse") else np.eye(3)[[0, 2]]
    y = np.array([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6]])
    values = function(t, y)
    np.testing.assert_array_equal(values, cls(reduction=None)(t, y))
    assert values.shape == (2,) and type(losses.get(function)) is cls and function.__name__ == name
    with pytest.raises(TypeError, match="plain function, whose derivative"):
        losses.get(lambda t, y: values)


def test_keras_s_abbreviations_are_names():
    for short, name in (
        ("bce", "binary_crossentropy"), ("kld", "kl_divergence"), ("mse", "mean_squared_error"),
        ("mae", "mean_absolute_error"), ("mape", "mean_absolute_percentage_error"),
        ("msle", "mean_squared_logarithmic_error"),
    ):  # fmt: skip
        assert type(losses.get(short)) is type(losses.get(short.upper())) is losses.NAMES[name]


def test_functions_take_the_options_of_their_loss():
    t, y = np.array([[0.0, 2.0]]), np.array([[3.0, 2.5]])
    assert losses.huber(t, y, delta=2.0) == pytest.approx(np.array([(2 * 3 - 2 + 0.125) / 2]))
    assert losses.categorical_crossentropy([[0, 1]], y, from_logits=True) == pytest.approx(
        np.log(1 + np.exp(0.5))
    )
    model = compiled([Dense(2, "sigmoid", input_shape=(3,))], losses.binary_crossentropy)
    assert type(model.loss) is BinaryCrossentropy


@pytest.mark.parametrize("loss", [losses.CategoricalFocalCrossentropy, losses.BinaryFocalCrossentropy])
def test_focal_losses_without_focus_are_the_cross_entropies(loss):
    plain = CategoricalCrossentropy if loss is losses.CategoricalFocalCrossentropy else BinaryCrossentropy
    options = {"gamma": 0, "alpha": 1.0}
    t, y = one_hot(5, 3), random(0, 5, 3)
    for given in ({}, {"from_logits": True}):
        p = y if given else np.abs(y) / np.abs(y).sum(axis=1, keepdims=True)
        ours, theirs = loss(**options, **given), plain(**given)
        assert ours(t, p) == pytest.approx(theirs(t, p), rel=1e-12)
        ours.forward(t, p), theirs.forward(t, p)
        np.testing.assert_allclose(ours.backward(), theirs.backward(), rtol=1e-9)


def test_a_confident_mistake_of_a_focal_loss_still_learns():
    for last, loss in (("softmax", "categorical"), ("sigmoid", "binary")):
        model = compiled([Dense(2, last, input_shape=(1,))], f"{loss}_focal_crossentropy", optimizer=SGD(1.0))
        model.set_weights([[[2048.0, -2048.0]], [0.0, 0.0]])
        model.train_on_batch(np.ones((1, 1)), np.array([[0.0, 1.0]]))
        assert model.get_weights()[1][0] < -0.1 and model.get_weights()[1][1] > 0.1


def test_targets_outside_0_to_1_are_refused_where_they_are_probabilities():
    for name, cls in losses.NAMES.items():
        if cls.of_probabilities and cls is not SparseCategoricalCrossentropy:
            model = compiled([Dense(3, input_shape=(2,))], name)
            with pytest.raises(ValueError, match="probabilities, 0 to 1"):
                model.fit(np.ones((2, 2)), np.full((2, 3), 2.0), verbose=0)


def test_a_loss_of_ones_own_without_its_formulas_says_which():
    class Keras(losses.Loss):
        def call(self, y_true, y_pred):
            return 0

    with pytest.raises(NotImplementedError, match=r"Keras has no values\(y_true, y_pred\)"):
        Keras()(np.ones((2, 1)), np.ones((2, 1)))
