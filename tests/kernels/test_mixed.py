"""Kernels whose products multiply bfloat16: what is rounded, how, and what is not."""

import copy
import pickle

import numpy as np
import pytest

from npnet.kernels import load, name_of, reference
from npnet.kernels.geometry import geometry
from npnet.kernels.mixed import computing_in

WINDOW = geometry((7, 6), (3, 2), (2, 1), "same", groups=2)
rng = np.random.default_rng(0)


def numbers(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def of_bits(*bits):
    return np.array(bits, np.uint32).view(np.float32)


def bits_of(x):
    return [hex(bits) for bits in x.view(np.uint32)]


ROUNDED = {
    "between": ((0x3F812345, 0xBF81F345), (0x3F810000, 0xBF820000)),
    "half, to the even one": ((0x3F808000, 0x3F818000, 0xBF808000), (0x3F800000, 0x3F820000, 0xBF800000)),
    "just off a half": ((0x3F808001, 0x3F817FFF), (0x3F810000, 0x3F810000)),
    "into the next exponent": ((0x3FFFFFFF,), (0x40000000,)),
    "subnormal": ((0x00012345, 0x80018000, 0x00007FFF, 0x007FFFFF), (0x00010000, 0x80020000, 0, 0x00800000)),
    "zeros": ((0, 0x80000000), (0, 0x80000000)),
    "too large": ((0x7F7FFFFF, 0xFF7F8000, 0x7F7F7FFF), (0x7F800000, 0xFF800000, 0x7F7F0000)),
    "infinities": ((0x7F800000, 0xFF800000), (0x7F800000, 0xFF800000)),
    "NaN, of lower bits alone too": (
        (0x7FC00000, 0x7F800001, 0xFFFFFFFF),
        (0x7FC00000, 0x7FC00000, 0xFFFF0000),
    ),
}


@pytest.mark.parametrize("case", ROUNDED)
def test_to_the_nearest_bfloat16(case, kernels):
    given, expected = ROUNDED[case]
    assert bits_of(load(kernels).to_bfloat16(of_bits(*given))) == [hex(bits) for bits in expected]


def test_both_sets_round_to_the_same_bits():
    x = rng.integers(0, 2**32, 100_003, dtype=np.uint32).view(np.float32)
    before = x.copy()
    ours, theirs = (load(kernels).to_bfloat16(x) for kernels in ("numba", "numpy"))
    assert ours.tobytes() == theirs.tobytes()
    assert x.tobytes() == before.tobytes()
    assert (np.isnan(ours) == np.isnan(x)).all()
    assert not (ours.view(np.uint32) & 0xFFFF).any()


def test_arrays_of_any_layout_and_dtype_are_rounded(kernels):
    rounded, x = load(kernels).to_bfloat16, numbers(40, 30)
    expected = reference.to_bfloat16(x.copy())
    read_only = x.copy()
    read_only.flags.writeable = False
    for given in (x.T, x[::2, 1:], np.asfortranarray(x), read_only, x.astype(np.float64), x[:0]):
        result = rounded(given)
        assert result.dtype == np.float32 and result.shape == given.shape
        np.testing.assert_array_equal(result, reference.to_bfloat16(given.astype(np.float32)))
    np.testing.assert_array_equal(rounded(x.T), expected.T)


PRODUCTS = {
    "dense_forward": lambda: (numbers(33, 300), numbers(300, 70), numbers(70)),
    "dense_backward_input": lambda: (numbers(33, 70), numbers(300, 70)),
    "dense_backward_parameters": lambda: (numbers(33, 300), numbers(33, 70)),
    "convolution_forward": lambda: (numbers(5, 7, 6, 4), numbers(3, 2, 2, 8), numbers(8), WINDOW),
    "convolution_backward_input": lambda: (numbers(5, 4, 6, 8), numbers(3, 2, 2, 8), WINDOW),
    "convolution_backward_parameters": lambda: (numbers(5, 7, 6, 4), numbers(5, 4, 6, 8), WINDOW),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_operands_are_rounded_and_sums_are_not(name, kernels):
    operands = PRODUCTS[name]()
    first, second, *others = operands
    exact = [reference.to_bfloat16(array).astype(np.float64) for array in (first, second)]
    expected = getattr(reference, name)(*exact, *others)
    found = getattr(computing_in("bfloat16", load(kernels)), name)(*operands)
    if name.endswith("parameters"):  # what db adds up is not multiplied, and not rounded
        axes = tuple(range(second.ndim - 1))
        expected = expected[0], second.astype(np.float64).sum(axis=axes)
    else:
        expected, found = (expected,), (found,)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())
    whole = getattr(reference, name)(*operands)
    difference = np.abs(np.subtract((whole if isinstance(whole, tuple) else (whole,))[0], found[0])).max()
    assert difference > 1e-4 * np.abs(found[0]).max(), "nothing was rounded"


def test_there_is_one_mixed_set_for_each_and_it_stays_one(kernels):
    exact = load(kernels)
    ours = computing_in("bfloat16", exact)
    assert ours is computing_in("bfloat16", exact) is computing_in("bfloat16", ours)
    assert computing_in("float32", ours) is computing_in("float32", exact) is exact
    assert copy.deepcopy(ours) is copy.copy(ours) is pickle.loads(pickle.dumps(ours)) is ours
    assert name_of(ours) is None
    assert ours.softmax_forward is exact.softmax_forward


def test_another_set_can_be_rounded_for_and_copied():
    class Own:
        def multiply_bfloat16(self, a, b):
            return a.shape, b.shape

    ours = copy.deepcopy(computing_in("bfloat16", Own()))
    assert ours.dense_backward_input(numbers(2, 3), numbers(4, 3)) == ((2, 3), (3, 4))
