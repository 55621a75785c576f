"""Convolution and pooling: the textbook against definitions written as loops, the compiled against both."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npnet.kernels import convolution, parallel, reference, rules
from npnet.kernels.convolution import Epilogue, winograd
from npnet.kernels.geometry import Geometry, geometry, halves, transposed_geometry, trimmed
from npnet.kernels.machine import threads


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@st.composite
def geometries(draw, paddings=("valid", "same", "causal"), groups=(1, 2, 3), dilation=2):
    """Windows that stand in one place at least: kernels larger than the map too, where padding allows it."""
    padding = draw(st.sampled_from(paddings))
    kernel, strides, dilation = (
        (draw(st.integers(1, most)), draw(st.integers(1, most))) for most in (4, 3, dilation)
    )
    least = [d * (k - 1) + 1 if padding == "valid" else 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(draw(st.integers(n, n + 6)) for n in least)
    return geometry(size, kernel, strides, padding, dilation, draw(st.sampled_from(groups)))


def windows(g):
    """Go through all places of the window: the place, and (tap, pixel) for the taps on a pixel."""
    axes = [
        [
            [
                (t, i * stride + t * d - before)
                for t in range(k)
                if 0 <= i * stride + t * d - before < n
            ]
            for i in range(places)
        ]
        for n, k, stride, d, (before, _), places in zip(
            g.size, g.kernel, g.strides, g.dilation, g.padding, g.places, strict=True
        )
    ]  # fmt: skip
    for (i, down), (j, right) in itertools.product(*map(enumerate, axes)):
        pixels = [((p, q), (u, v)) for (p, u), (q, v) in itertools.product(down, right)]
        yield (i, j), pixels


def by_loops(x, weight, bias, g):
    """The definition, number by number."""
    channels, filters = weight.shape[2], weight.shape[3]
    y = np.zeros((len(x), *g.places, filters)) + bias
    for (i, j), pixels in windows(g):
        for f in range(filters):
            first = f // (filters // g.groups) * channels
            for (p, q), (u, v) in pixels:
                for c in range(channels):
                    y[:, i, j, f] += x[:, u, v, first + c] * weight[p, q, c, f]
    return y


CHANNELS = st.sampled_from([1, 3])
POOLS = geometries(("valid", "same"), groups=(1,), dilation=1)


@given(geometries(), CHANNELS, CHANNELS)
def test_a_convolution_is_what_its_definition_says(g, channels, filters):
    x = random(0, 2, *g.size, channels * g.groups)
    weight, bias = random(1, *g.kernel, channels, filters * g.groups), random(2, filters * g.groups)
    y = reference.convolution_forward(x, weight, bias, g)
    np.testing.assert_allclose(y, by_loops(x, weight, bias, g), rtol=1e-12, atol=1e-12)
    without = reference.convolution_forward(x, weight, None, g)
    np.testing.assert_allclose(y, without + bias, rtol=1e-12, atol=1e-12)


@given(geometries(), st.sampled_from([1, 3, 17]), st.sampled_from([1, 3, 17]))
def test_both_backward_passes_are_the_adjoints_of_forward(g, channels, filters):
    """y is linear in x and in W, so <dy, y> = <dx, x> = <dW, W> for any dy."""
    x, weight = random(0, 3, *g.size, channels * g.groups), random(1, *g.kernel, channels, filters * g.groups)
    y = reference.convolution_forward(x, weight, None, g)
    dy = random(2, *y.shape)
    dx = reference.convolution_backward_input(dy, weight, g)
    dweight, dbias = reference.convolution_backward_parameters(x, dy, g)
    assert (dx.shape, dweight.shape) == (x.shape, weight.shape)
    bound = 1e-12 * np.abs(dy).sum() * np.abs(weight).sum()
    assert abs((dy * y).sum() - (dx * x).sum()) < bound
    assert abs((dy * y).sum() - (dweight * weight).sum()) < bound
    np.testing.assert_allclose(dbias, dy.sum(axis=(0, 1, 2)), rtol=1e-10, atol=1e-12)


@given(POOLS, CHANNELS)
def test_max_pooling_takes_the_first_of_the_largest(g, channels):
    x = np.random.default_rng(0).integers(0, 3, (2, *g.size, channels)).astype(float)  # many ties
    y, taken = reference.max_pool_forward(x, g)
    dy = random(1, *y.shape)
    dx = np.zeros_like(x)
    for (i, j), pixels in windows(g):
        for n, c in itertools.product(range(2), range(channels)):
            tap, (u, v) = max(pixels, key=lambda pixel: x[n, pixel[1][0], pixel[1][1], c])
            assert y[n, i, j, c] == x[n, u, v, c]
            assert taken[n, i, j, c] == tap[0] * g.kernel[1] + tap[1]
            dx[n, u, v, c] += dy[n, i, j, c]
    np.testing.assert_allclose(reference.max_pool_backward(dy, taken, g), dx, atol=1e-12)


@given(POOLS, CHANNELS)
def test_average_pooling_divides_by_the_pixels_that_are_there(g, channels):
    x = random(0, 2, *g.size, channels)
    y = reference.average_pool_forward(x, g)
    for (i, j), pixels in windows(g):
        expected = np.mean([x[:, u, v] for _, (u, v) in pixels], axis=0)
        np.testing.assert_allclose(y[:, i, j], expected, atol=1e-12)
    dy = random(1, *y.shape)
    dx = reference.average_pool_backward(dy, g)
    np.testing.assert_allclose((dx * x).sum(), (dy * y).sum(), rtol=1e-9, atol=1e-9)


@given(POOLS, CHANNELS)
def test_taps_that_stand_on_no_pixel_change_nothing(g, channels):
    x, small = random(0, 2, *g.size, channels), trimmed(g)
    assert small.places == g.places
    assert all(k <= 2 * n for k, n in zip(small.kernel, g.size, strict=True))
    results = []
    for each in (small, g):
        y, taken = reference.max_pool_forward(x, each)
        means = reference.average_pool_forward(x, each)
        backward = reference.max_pool_backward(y, taken, each), reference.average_pool_backward(y, each)
        results.append((y, means, *backward))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_nan_reaches_every_window_it_is_under_and_no_other():
    x = np.zeros((1, 6, 6, 1), np.float32)
    x[0, 2, 3] = np.nan
    g = geometry((6, 6), (3, 3), (1, 1), "valid")
    expected = np.zeros((4, 4), bool)
    expected[0:3, 1:4] = True
    y, taken = reference.max_pool_forward(x, g)
    for result in (
        y,
        reference.average_pool_forward(x, g),
        reference.convolution_forward(x, np.ones((3, 3, 1, 1), np.float32), None, g),
    ):
        np.testing.assert_array_equal(np.isnan(result[0, :, :, 0]), expected)
    assert taken[0, 0, 1, 0] == 2 * 3 + 2  # NaN is the largest
    dx = reference.max_pool_backward(np.ones_like(y), taken, g)
    assert dx[0, 2, 3, 0] == 9


def test_of_several_nans_the_first_is_taken():
    x = np.full((1, 2, 2, 1), np.nan)
    x[0, 0, 0] = np.inf
    _, taken = reference.max_pool_forward(x, geometry((2, 2), (2, 2), (2, 2), "valid"))
    assert taken.item() == 1


def test_everything_is_computed_in_the_dtype_of_the_pictures():
    g = geometry((5, 5), (3, 3), (2, 2), "same")
    x, weight = random(0, 2, 5, 5, 3).astype(np.float32), random(1, 3, 3, 3, 4).astype(np.float32)
    y = reference.convolution_forward(x, weight, weight[0, 0, 0], g)
    pooled, taken = reference.max_pool_forward(x, g)
    found = [
        y, reference.convolution_backward_input(y, weight, g),
        *reference.convolution_backward_parameters(x, y, g),
        pooled, reference.max_pool_backward(pooled, taken, g),
        reference.average_pool_forward(x, g), reference.average_pool_backward(pooled, g),
    ]  # fmt: skip
    assert {array.dtype for array in found} == {np.dtype(np.float32)}


# --- compiled -----------------------------------------------------------------------------------------------

SIZES = st.sampled_from([1, 3, 17, 33])


def passes(kernels, x, weight, bias, dy, g):
    """All three passes of a convolution: y, dx, dW, db."""
    return [
        kernels.convolution_forward(x, weight, bias, g), kernels.convolution_backward_input(dy, weight, g),
        *kernels.convolution_backward_parameters(x, dy, g),
    ]  # fmt: skip


def operands(g, pictures, channels, filters, dtype=np.float64):
    """x, W, b and dy of a convolution; ``channels`` and ``filters`` are those of a group."""
    shapes = [
        (pictures, *g.size, channels * g.groups), (*g.kernel, channels, filters * g.groups),
        (filters * g.groups,), (pictures, *g.places, filters * g.groups),
    ]  # fmt: skip
    return [random(seed, *shape).astype(dtype) for seed, shape in enumerate(shapes)]


def agree(g, pictures, channels, filters):
    """Compare the compiled passes with the textbook's; a sum of K terms may differ by some roundings."""
    given_ = operands(g, pictures, channels, filters)
    for ours, theirs in zip(passes(parallel, *given_, g), passes(reference, *given_, g), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * np.abs(theirs).max(initial=1))


@given(geometries(), SIZES, SIZES, st.integers(1, 4))
def test_compiled_passes_are_the_textbook_s(g, channels, filters, pictures):
    agree(g, pictures, channels, filters)


@pytest.mark.slow
@settings(max_examples=2000)
@given(
    geometries(groups=(1, 2, 3, 17), dilation=3), st.integers(1, 50), st.integers(1, 50), st.integers(1, 9)
)
def test_compiled_passes_are_the_textbook_s_for_many_shapes(g, channels, filters, pictures):
    agree(g, pictures, channels, filters)


CASES = {  # size, kernel, strides, padding, dilation, groups; pictures, C/groups, F/groups
    "several tasks": ((32, 30), (3, 3), (1, 1), "same", (1, 1), 1, 9, 5, 33),
    "several pictures in a task": ((6, 5), (3, 3), (1, 1), "same", (1, 1), 1, 40, 17, 17),
    "a kernel larger than the map": ((3, 2), (7, 7), (1, 1), "same", (1, 1), 1, 3, 3, 17),
    "strides larger than the kernel": ((11, 13), (2, 1), (3, 3), "valid", (1, 1), 1, 3, 4, 5),
    "dilation and strides": ((13, 17), (3, 3), (2, 3), "same", (2, 3), 2, 3, 5, 9),
    "many channels": ((5, 4), (3, 3), (1, 1), "same", (1, 1), 1, 3, 300, 70),
    "Winograd": ((9, 11), (3, 3), (1, 1), "same", (1, 1), 1, 12, 33, 40),
    "Winograd, valid": ((33, 30), (3, 3), (1, 1), "valid", (1, 1), 1, 3, 16, 16),
    "Winograd, several tasks": ((8, 9), (3, 3), (1, 1), "same", (1, 1), 1, 19, 70, 150),
    "depthwise": ((9, 10), (3, 3), (1, 1), "same", (1, 1), 19, 18, 1, 1),
    "depthwise, three filters a channel": ((9, 10), (2, 3), (2, 2), "same", (1, 1), 5, 18, 1, 3),
    "a dense layer on each pixel": ((7, 8), (1, 1), (1, 1), "same", (1, 1), 1, 9, 33, 40),
    "a sequence": ((1, 40), (1, 5), (1, 1), "causal", (1, 2), 1, 3, 6, 20),
}


def case(name):
    *arguments, pictures, channels, filters = CASES[name]
    return geometry(*arguments), pictures, channels, filters


@pytest.mark.parametrize("name", CASES)
def test_compiled_passes_for_what_is_special(name):
    agree(*case(name))


@pytest.mark.parametrize("name", ["several tasks", "dilation and strides"])
def test_no_pass_errs_by_more_than_its_roundings(name):
    """A sum of K terms: at most 8 u sqrt(K) of the sum of their sizes; errors are mostly independent."""
    g, *sizes = case(name)
    given_ = operands(g, *sizes, dtype=np.float32)
    exact = passes(reference, *(a.astype(np.float64) for a in given_), g)
    sizes = passes(reference, *(np.abs(a).astype(np.float64) for a in given_), g)
    _, weight, _, dy = given_
    terms = weight[..., 0].size, weight[..., 0, :].size, dy[..., 0].size, dy[..., 0].size
    for ours, right, size, count in zip(passes(parallel, *given_, g), exact, sizes, terms, strict=True):
        assert ours.dtype == np.float32
        assert (np.abs(ours - right) <= 8 * 2.0**-24 * np.sqrt(count) * size).all()


@pytest.mark.parametrize("name", CASES)
def test_any_number_of_threads_gives_the_same_bits(name, monkeypatch):
    g, *sizes = case(name)
    given_, found = operands(g, *sizes), []
    for count in (1, 2, 5):
        monkeypatch.setattr(threads, "_chosen", count)
        found.append([a.tobytes() for a in passes(parallel, *given_, g)])
    assert found[0] == found[1] == found[2]


def test_no_pictures():
    g = geometry((4, 4), (3, 3), (1, 1), "same")
    given_ = operands(g, 0, 3, 5)
    for ours, theirs in zip(passes(parallel, *given_, g), passes(reference, *given_, g), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# By the definition, by Winograd's convolution, depthwise.
@pytest.mark.parametrize(("size", "groups", "channels"), [((3, 8), 1, 17), ((9, 8), 1, 17), ((9, 8), 18, 1)])
@pytest.mark.parametrize("which", range(4))
def test_nan_and_infinity_go_where_they_go_in_the_textbook(which, size, groups, channels):
    g = geometry(size, (3, 3), (1, 1), "same", groups=groups)
    given_ = operands(g, 3, channels, 18 // groups)
    places = tuple(np.random.default_rng(1).integers(0, size, 3) for size in given_[which].shape)
    given_[which][places] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        results = passes(parallel, *given_, g), passes(reference, *given_, g)
    for ours, theirs in zip(*results, strict=True):
        for holds in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(holds(ours), holds(theirs))


# --- Winograd's convolution ---------------------------------------------------------------------------------


def test_the_matrices_make_a_convolution():
    """A' [(G g) . (B' d)] is sum_a g_a d_(i+a), in rational numbers: coefficient by coefficient."""
    g, b, a = winograd.matrices(winograd.POINTS)
    for i, p, d in itertools.product(range(4), range(3), range(6)):
        coefficient = sum(a[i][k] * g[k][p] * b[k][d] for k in range(6))
        assert coefficient == (d == i + p)


@pytest.mark.parametrize(
    ("transform", "which", "transposed"),
    [
        (winograd.weight_values, 0, False), (winograd.input_values, 1, False),
        (winograd.output_pixels, 2, False), (winograd.pixel_values, 2, True),
        (winograd.weights_of_values, 0, True),
    ],
)  # fmt: skip
def test_the_transforms_are_the_matrices(transform, which, transposed):
    matrix = np.array(winograd.matrices(winograd.POINTS)[which], float)
    matrix = matrix.T if transposed else matrix
    columns = [transform.py_func(column) for column in np.eye(matrix.shape[1])]
    np.testing.assert_allclose(np.transpose(columns), matrix, rtol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_winograd_s_convolution_errs_by_little_more_than_a_sum(seed):
    """At C = 256 by at most 2e-6 of the largest output (float32)."""
    g = geometry((8, 8), (3, 3), (1, 1), "same")
    rng = np.random.default_rng(seed)
    shapes = (4, 8, 8, 256), (3, 3, 256, 256), (256,), (4, 8, 8, 256)
    given_ = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    assert winograd.suits(g, 256, 256, g.places)
    exact = passes(reference, *(a.astype(np.float64) for a in given_), g)
    for ours, right in zip(passes(parallel, *given_, g), exact, strict=True):
        assert np.abs(ours - right).max() <= 2e-6 * np.abs(right).max()


# --- what is applied to the sums ----------------------------------------------------------------------------

# Height and width, channels, filters.
OPERANDS = {"by the definition": (7, 9, 3, 18), "winograd": (9, 13, 17, 40)}


@pytest.mark.parametrize("size", OPERANDS.values(), ids=OPERANDS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("special", [None, np.nan, np.inf])
@np.errstate(invalid="ignore")  # NumPy's products of infinities warn on some processors
def test_an_epilogue_is_what_an_operation_of_its_own_would_be(size, dtype, special):
    *places, channels, filters = size
    g = geometry(tuple(places), (3, 3), (1, 1), "same")
    x, weight = (
        random(0, 3, *places, channels).astype(dtype),
        random(1, 3, 3, channels, filters).astype(dtype),
    )
    bias, dy = random(2, filters).astype(dtype), random(3, 3, *places, filters).astype(dtype)
    if special is not None:
        x[1, 4, 4, 1] = dy[1, 5, 6, 2] = special
    close = {"rtol": 1e-5, "atol": 1e-4} if dtype is np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    sums = reference.convolution_forward(x, weight, bias, g)
    y, z = np.full_like(sums, 9), np.full_like(sums, 9)
    convolution.convolve(x, weight, bias, g, Epilogue(rules.elu, (0.7,), z), y)
    np.testing.assert_allclose(z, sums, **close)
    np.testing.assert_allclose(y, reference.elementwise(rules.elu, sums, 0.7), **close)
    dx, beside = np.full_like(x, 9), random(4, *x.shape).astype(dtype)
    epilogue = Epilogue(rules.relu_backward, (), beside, reads=True)
    convolution.convolve_back(dy, weight, g, epilogue, dx)
    np.testing.assert_allclose(
        dx, np.where(beside > 0, reference.convolution_backward_input(dy, weight, g), 0), **close
    )


@pytest.mark.parametrize("size", OPERANDS.values(), ids=OPERANDS.keys())
@pytest.mark.parametrize("reads", [False, True])
def test_an_epilogue_scales_the_sums_before_the_bias(size, reads):
    *places, channels, filters = size
    g = geometry(tuple(places), (3, 3), (1, 1), "same")
    x, weight = random(0, 3, *places, channels), random(1, 3, 3, channels, filters)
    bias, scale, beside = random(2, filters), random(3, filters), random(4, 3, *places, filters)
    sums = scale * reference.convolution_forward(x, weight, None, g) + bias
    y = np.full_like(sums, 9)
    if reads:
        epilogue = Epilogue(rules.relu_backward, (), beside, reads=True, scale=scale)
        expected = np.where(beside > 0, sums, 0)
    else:
        epilogue, expected = Epilogue(rules.relu, scale=scale), np.maximum(sums, 0)
    convolution.convolve(x, weight, bias, g, epilogue, y)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (13, 10)])
@pytest.mark.parametrize("special", [None, np.nan, np.inf])
@pytest.mark.parametrize("asked", [True, False])
def test_pooling_in_the_write_out_is_pooling_afterwards(size, special, asked):
    g = geometry(size, (3, 3), (1, 1), "same")
    x, weight = random(0, 3, *size, 16), random(1, 3, 3, 16, 33)
    if special is not None:
        x[1, 4, 4, 1] = special
    with np.errstate(invalid="ignore"):
        sums = np.maximum(reference.convolution_forward(x, weight, None, g), 0)  # many ties among zeros
    best, taps = reference.max_pool_forward(sums, convolution.WINDOW_OF_TWO._replace(size=size))
    y, taken = np.full_like(best, 9), np.full(best.shape, 9, np.int32) if asked else None
    convolution.convolve(x, weight, None, g, Epilogue(rules.relu, pool="results", taken=taken), y)
    np.testing.assert_allclose(y, best, rtol=1e-12, atol=1e-12)
    if asked:
        np.testing.assert_array_equal(taken, taps)


@pytest.mark.parametrize("special", [None, np.nan, np.inf])
def test_pooling_of_the_sums_comes_before_scale_bias_and_rule(special):
    size = 9, 12
    g = geometry(size, (3, 3), (1, 1), "same")
    x, weight = random(0, 3, *size, 16), random(1, 3, 3, 16, 33)
    bias, scale = random(2, 33), random(3, 33)  # negative scales, too: the largest becomes the smallest
    if special is not None:
        x[1, 4, 4, 1] = special
    with np.errstate(invalid="ignore"):
        best, taps = reference.max_pool_forward(
            reference.convolution_forward(x, weight, None, g), convolution.WINDOW_OF_TWO._replace(size=size)
        )
        numbers = scale * best + bias
        expected = reference.elementwise(rules.gelu, numbers)
    y, z, taken = np.full_like(best, 9), np.full_like(best, 9), np.full(best.shape, 9, np.int32)
    epilogue = Epilogue(rules.gelu, (), z, scale=scale, pool="sums", taken=taken)
    with np.errstate(invalid="ignore"):
        convolution.convolve(x, weight, bias, g, epilogue, y)
    np.testing.assert_allclose(z, numbers, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(taken, taps)


def pooled(kernels, x, dy, g):
    """All results of both poolings."""
    y, taken = kernels.max_pool_forward(x, g)
    return [
        y, taken, kernels.max_pool_backward(dy, taken, g),
        kernels.average_pool_forward(x, g), kernels.average_pool_backward(dy, g),
    ]  # fmt: skip


VALUES = st.sampled_from([[0, 1, 2], [0, 1, np.nan], [0, np.inf, -np.inf], [-1, -np.inf]])


@given(geometries(("valid", "same"), groups=(1,)), SIZES, VALUES, st.sampled_from([np.float32, np.float64]))
def test_compiled_pooling_is_the_textbook_s_with_ties_and_nan(g, channels, among, dtype):
    rng = np.random.default_rng(0)
    x, dy = (rng.choice(among, (3, *sides, channels)).astype(dtype) for sides in (g.size, g.places))
    with np.errstate(all="ignore"):
        results = pooled(parallel, x, dy, g), pooled(reference, x, dy, g)
    for ours, theirs in zip(*results, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


# --- geometry -----------------------------------------------------------------------------------------------


def test_padding_is_uneven_with_the_smaller_half_first():
    assert geometry((32, 5), (3, 3), (2, 2), "same").padding == ((0, 1), (1, 1))
    assert geometry((7, 7), (3, 2), (2, 1), "same").padding == ((1, 1), (0, 1))
    assert geometry((4, 4), (1, 1), (3, 3), "same").padding == ((0, 0), (0, 0))  # halves of -2
    assert halves(-1) == (0, 0)


def test_causal_padding_comes_before_the_first():
    g = geometry((1, 6), (1, 3), (1, 1), "causal", (1, 2))
    assert (g.padding, g.places) == (((0, 0), (4, 0)), (1, 6))


@given(geometries(("same", "causal")))
def test_same_padding_gives_the_size_divided_by_the_stride(g):
    assert g.places == tuple(-(-n // stride) for n, stride in zip(g.size, g.strides, strict=True))


def test_a_window_that_does_not_fit_has_no_place():
    assert geometry((2, 9), (3, 3), (1, 1), "valid").places == (0, 7)


@given(
    st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(1, 2),
    st.sampled_from(["valid", "same"]), st.data(),
)  # fmt: skip
def test_a_transposed_convolution_s_places_are_those_asked_for(n, kernel, stride, dilation, padding, data):
    output_padding = data.draw(st.none() | st.integers(0, stride - 1))
    sides = None if output_padding is None else (output_padding, output_padding)
    g = transposed_geometry((n, n), (kernel, kernel), (stride, stride), padding, (dilation,) * 2, sides)
    if min(g.size) > 0:
        assert g.places == (n, n)
    assert isinstance(g, Geometry)
