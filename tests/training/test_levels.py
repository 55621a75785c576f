"""Pixels on the matrix unit: found out batch by batch, and multiplied as the whole numbers they are."""

import numpy as np
import pytest

import npnet
from npnet.kernels.fused import program
from npnet.kernels.fused.levels import are_on_levels, levels_of
from npnet.kernels.products.amx import EXACT_LEFT
from npnet.kernels.vectors.registers import AMX
from npnet.layers import Dense, Rescaling

needs_unit = pytest.mark.skipif(not AMX, reason="this processor has no matrix unit")
BYTES = np.random.default_rng(0).integers(0, 256, (160, 100))

PIXELS = {
    "bytes": (BYTES.astype(np.uint8), 1, 0),
    "int64": (BYTES, 1, 0),
    "bytes, rescaled": (BYTES.astype(np.uint8), 1 / 255, 0),
    "bytes around 0": (BYTES.astype(np.uint8), 1 / 127.5, -1),
    "floats, rescaled": (BYTES.astype(np.float32), 1 / 255, -0.5),
    "float64 / 255": (BYTES / 255, 1, 0),
    "float32 / 255": (BYTES.astype(np.float32) / np.float32(255), 1, 0),
    "float64 around 0": (BYTES / 127.5 - 1, 1, 0),
    "black and white": (BYTES > 127, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_on_levels(name):
    x, scale, offset = PIXELS[name]
    levels = levels_of(x.dtype, scale, offset)
    assert are_on_levels(x, np.arange(160), levels).all()
    whole = x.astype(np.float32) * np.float32(levels.scale) + np.float32(levels.offset)
    assert np.abs(np.rint(whole)).max() <= 256
    given = x.astype(np.float64) * scale + offset
    np.testing.assert_allclose(np.rint(whole) * levels.factor, given, rtol=3e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("place", [0, 63, 64, 99])
@pytest.mark.parametrize("wrong", [0.5, 1.0001, 257, -300, 1e-6, 1e30, np.nan, np.inf])
def test_one_number_off_the_levels_is_noticed(dtype, place, wrong):
    if dtype == "int32" and not (np.isfinite(wrong) and float(wrong).is_integer() and abs(wrong) < 2**31):
        pytest.skip("no such integer")
    x = BYTES.astype(dtype) if dtype == "int32" else (BYTES / 255).astype(dtype)
    x[17, place] = wrong if dtype == "int32" else wrong / 255
    levels = levels_of(x.dtype, 1, 0)
    rows = np.array([3, 17, 17, 159])
    assert are_on_levels(x, rows, levels).tolist() == [True, False, False, True]


def test_there_are_no_levels_where_an_offset_would_leave_fractions():
    assert levels_of(np.dtype(np.uint8), 1 / 255, 0.001) is None
    assert levels_of(np.dtype(np.uint8), 0.0, 1.0) is None
    assert levels_of(np.dtype(np.uint8), 1.0, 300.0) is None
    shifted = levels_of(np.dtype(np.uint8), 1.0, 200.0)
    assert not are_on_levels(BYTES.astype(np.uint8), np.arange(9), shifted).any()


def network(rescaling=(), **options):
    model = npnet.Sequential(
        [*rescaling, Dense(96, activation="relu"), Dense(3, activation="softmax")], seed=0
    )
    model.compile("adam", "sparse_categorical_crossentropy", kernels="numba", **options)
    return model


def fit(x, rescaling=(), callbacks=None, batch_size=40, **options):
    """Loss of each epoch, and the weights."""
    model = network(rescaling, **options)
    labels = np.random.default_rng(1).integers(0, 3, len(x))
    history = model.fit(x, labels, epochs=3, batch_size=batch_size, verbose=0, callbacks=callbacks)
    return history.history["loss"], model.get_weights()


@pytest.fixture
def used(monkeypatch):
    """The precisions in which products with batches were computed."""
    precisions, precision_of = [], program.precision_of

    def noted(dtype, n, on_levels=False):
        precisions.append(precision_of(dtype, n, on_levels))
        return precisions[-1]

    monkeypatch.setattr(program, "precision_of", noted)
    return precisions


@needs_unit
@pytest.mark.parametrize("name", ["bytes, rescaled", "bytes around 0", "float64 / 255", "black and white"])
def test_pixels_train_as_in_the_readable_step(name, used):
    x, scale, offset = PIXELS[name]
    rescaling = [] if (scale, offset) == (1, 0) else [Rescaling(scale, offset)]
    losses, weights = fit(x, rescaling)
    assert EXACT_LEFT in used
    others, readable = fit(x, rescaling, fused=False)
    np.testing.assert_allclose(losses, others, rtol=2e-5)
    for found, expected in zip(weights, readable, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-4)


@needs_unit
def test_batches_off_the_levels_have_the_same_bits_however_many_steps_are_taken_at_once(used):
    x = BYTES / 255
    x[100:] += 1e-3 * np.random.default_rng(2).standard_normal((60, 100))
    losses, weights = fit(x, steps_per_execution=1)
    for steps in ("auto", 3):
        others, found = fit(x, steps_per_execution=steps)
        assert others == losses
        for array, expected in zip(found, weights, strict=True):
            np.testing.assert_array_equal(array, expected)
    ordered = network()
    labels = np.zeros(160, int)
    used.clear()
    ordered.fit(x, labels, shuffle=False, batch_size=40, verbose=0)  # two batches on levels, two off them
    assert {EXACT_LEFT} < set(used)


@needs_unit
def test_what_a_callback_makes_of_the_pixels_counts():
    def brighten(x):
        def on_epoch_begin(epoch, logs):
            if epoch:
                x[...] = x * 0.9 + 0.01

        return [npnet.callbacks.LambdaCallback(on_epoch_begin=on_epoch_begin)]

    x, same_x = BYTES / 255, BYTES / 255
    losses, _ = fit(x, callbacks=brighten(x))
    others, _ = fit(same_x, callbacks=brighten(same_x), fused=False)
    assert (x != BYTES / 255).any()
    np.testing.assert_allclose(losses, others, rtol=2e-5)


@needs_unit
def test_pixels_in_every_layout_have_the_same_bits():
    x = (BYTES / 255).astype(np.float32)
    _, weights = fit(x)
    for other in (np.asfortranarray(x), x.astype(">f4"), np.repeat(x, 2, axis=1)[:, ::2]):
        for array, expected in zip(fit(other)[1], weights, strict=True):
            np.testing.assert_array_equal(array, expected)
