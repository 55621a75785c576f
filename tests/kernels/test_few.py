"""Products of one, two or three rows, or of so many steps, which go through a matrix once."""

import numpy as np
import pytest

from npnet.kernels.machine import threads
from npnet.kernels.products import blocked

SHAPES = [
    (1, 600, 515),
    (2, 1025, 257),
    (3, 257, 1031),
    (3, 3, 40_001),
    (2, 300_001, 1),
]  # rows, depth, columns


@pytest.fixture(params=[np.float32, np.float64])
def dtype(request):
    """Of the numbers."""
    return request.param


def operands(rows, depth, columns, dtype):
    rng = np.random.default_rng(rows)
    return (rng.normal(size=size).astype(dtype) for size in ((rows, depth), (depth, columns), columns))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_few_rows(shape, dtype, transposed, monkeypatch):
    monkeypatch.setattr(blocked, "_multiply", None)  # tiles are not asked
    a, b, bias = operands(*shape, dtype)
    b = b.T.copy().T if transposed else b
    expected = a.astype(np.float64) @ b.astype(np.float64) + bias
    size = np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(bias)
    most = (shape[1] + 2) * np.finfo(dtype).eps
    assert (np.abs(blocked.multiply(a, b, bias) - expected) <= most * size).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("shape", [(600, 515), (257, 40_001), (100_001, 3)])
def test_sums_of_few_steps(shape, depth, dtype, monkeypatch):
    monkeypatch.setattr(blocked, "_multiply", None)  # tiles are not asked
    rows, columns = shape
    a, b, bias = operands(rows, depth, columns, dtype)
    a = a.T.copy().T
    expected = a.astype(np.float64) @ b.astype(np.float64) + bias
    size = np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(bias)
    most = (depth + 2) * np.finfo(dtype).eps
    assert (np.abs(blocked.multiply(a, b, bias) - expected) <= most * size).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_one_column(transposed, dtype, monkeypatch):
    monkeypatch.setattr(blocked, "_multiply", None)  # tiles are not asked
    a, b, bias = operands(1031, 311, 1, dtype)
    a = a.T.copy().T if transposed else a
    found = blocked.multiply(a, b, bias)
    assert found.shape == (1031, 1) and found.flags.c_contiguous
    size = np.abs(a).astype(np.float64) @ np.abs(b) + np.abs(bias)
    most = 313 * np.finfo(dtype).eps
    assert (np.abs(found - (a.astype(np.float64) @ b.astype(np.float64) + bias)) <= most * size).all()


def test_numpy_multiplies_what_its_blas_does_on_one_thread(monkeypatch):
    ours = []
    monkeypatch.setattr(blocked, "multiply_few", lambda a, b, bias, out: ours.append(b.shape))
    for rows, depth, columns in ((1, 512, 512), (1, 512, 513), (513, 512, 1), (2, 256, 512), (2, 257, 512)):
        blocked.multiply(*list(operands(rows, depth, columns, np.float32))[:2])
    assert ours == [(512, 513), (512, 513), (257, 512)]


@pytest.mark.parametrize("transposed", [False, True])
def test_the_bits_do_not_depend_on_the_number_of_threads(transposed, monkeypatch):
    a, b, bias = operands(2, 1500, 301, np.float32)
    b = b.T.copy().T if transposed else b
    results = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "_chosen", count)
        results.append(blocked.multiply(a, b, bias).tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("transposed", [False, True])
def test_what_is_not_a_number_stays_where_it_belongs(transposed):
    a, b, bias = operands(2, 600, 515, np.float32)
    b = b.T.copy().T if transposed else b
    a[1, 599] = np.nan
    b[3, 514] = np.inf
    found = blocked.multiply(a, b, bias)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[0, :514]).all() and np.isinf(found[0, 514])
