"""The emulated matrix unit: the numbers Intel defines, and the same as the processor's own unit has."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import types
from numba.extending import intrinsic

from npnet.kernels.machine import cache
from npnet.kernels.machine.jit import jit
from npnet.kernels.products import amx
from npnet.kernels.products.emulated_unit import EmulatedUnit
from npnet.kernels.vectors import registers
from npnet.kernels.vectors.registers import I64

ROWS = 40  # numbers between rows of a tile in memory


def product(unit_class):
    """A kernel: C += A B for tiles that lie in arrays of 32-bit numbers, their rows ROWS apart."""

    @intrinsic
    def multiply(typing_context, a, b, c):
        def emit(context, builder, signature, arguments):
            unit = unit_class(builder)
            places = [
                builder.bitcast(context.make_array(kind)(context, builder, array).data, amx.I8.as_pointer())
                for kind, array in zip(signature.args, arguments, strict=True)
            ]
            for tile, place in zip((6, 7, 0), places, strict=True):
                unit.load(tile, place, I64(4 * ROWS))
            unit.multiply(0, 6, 7)
            unit.zero(1)
            unit.store(0, places[2], I64(4 * ROWS))
            return context.get_dummy_value()

        return types.void(a, b, c), emit

    @jit
    def on_emulated_unit(a, b, c):
        multiply(a, b, c)

    @jit
    def on_unit(a, b, c):
        amx.start_unit()
        multiply(a, b, c)
        amx.stop_unit()

    return on_emulated_unit if unit_class is EmulatedUnit else on_unit


def flush(x):
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def by_definition(a, b, c):
    """TDPBF16PS for A and B (16, 16 pairs)."""
    a, b = flush(a).astype(np.float64), flush(b).astype(np.float64)
    sums = np.zeros((2, 16, 16), np.float32)
    for k in range(16):
        for half in range(2):  # in float64 the product is exact: float32 is rounded to once
            fused = sums[half] + a[:, k, half, None] * b[k, None, :, half]
            sums[half] = flush(fused.astype(np.float32))
    return flush(flush(c) + flush(sums[0] + sums[1]))


def tiles(scale):
    """A and B as pairs of bfloat16 in float32, and C."""
    rng = np.random.default_rng(0)
    pairs = [rng.standard_normal((16, 16, 2)).astype(np.float32) * scale for _ in range(2)]
    a, b = ((array.view(np.uint32) & 0xFFFF0000).view(np.float32) for array in pairs)
    return a, b, rng.standard_normal((16, 16)).astype(np.float32) * scale**2


def in_memory(array):
    """A tile as it lies in memory: 16 rows of 16 numbers, or of 16 pairs of bfloat16."""
    if array.ndim == 3:
        bits = array.view(np.uint32)
        array = (bits[..., 0] >> 16 | bits[..., 1] & 0xFFFF0000).view(np.float32)
    memory = np.full((16, ROWS), 7, np.float32)
    memory[:, :16] = array
    return memory.reshape(-1)


@pytest.mark.parametrize("scale", [1, 1e-18, 1e-19, 1e-38, 1e19])
@pytest.mark.parametrize(
    "unit",
    [
        EmulatedUnit,
        pytest.param(
            amx._Unit,
            marks=pytest.mark.skipif(
                not registers.AMX or registers.EMULATED, reason="this processor has no matrix unit"
            ),
        ),
    ],
)
def test_the_product_of_tiles_is_intels(scale, unit):
    a, b, c = tiles(np.float32(scale))
    a[0, 3, 1], b[5, 2, 0], c[1, 1] = np.inf, -0.0, np.nan
    with np.errstate(all="ignore"):
        expected = by_definition(a, b, c)
    found = in_memory(c)
    product(unit)(in_memory(a), in_memory(b), found)
    found = found.reshape(16, ROWS)
    assert (found[:, 16:] == 7).all()
    np.testing.assert_array_equal(found[:, :16], expected)
    np.testing.assert_array_equal(np.signbit(found[:, :16]), np.signbit(expected))
    assert np.isfinite(expected[2:]).any() or scale == 1e19


def test_an_unknown_unit_is_refused(monkeypatch):
    monkeypatch.setenv("NPNET_MATRIX_UNIT", "fast")
    with pytest.raises(ValueError, match="NPNET_MATRIX_UNIT must be unset, 'off' or 'emulated', got 'fast'"):
        registers._matrix_unit()


def test_the_unit_can_be_left_out():
    says = "from npnet.kernels.vectors.registers import AMX; print(AMX)"
    for chosen in ("off", "emulated"):
        environment = os.environ | {"NPNET_MATRIX_UNIT": chosen}
        done = subprocess.run(
            [sys.executable, "-c", says], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(chosen == "emulated")


def test_kernels_of_an_emulated_unit_are_kept_apart(monkeypatch):
    keys = set()
    for emulated in (False, True):
        monkeypatch.setattr(cache, "EMULATED", emulated)
        keys.add(cache._key())
    assert len(keys) == 2
