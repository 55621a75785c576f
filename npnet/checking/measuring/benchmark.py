"""The tutorial's network on this machine: its kernels and its training step, beside the limits and NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.checking.measuring.cases import CASES, LAYERS, Case, network_cases
from npnet.checking.measuring.limits import Limits
from npnet.checking.measuring.timing import calibrated, interleave, median, stopwatch
from npnet.kernels import Kernels, load, name_of
from npnet.layers import Dense
from npnet.models import Sequential
from npnet.optimizers import RMSprop
from npnet.training.batches import Batch

__all__ = [
    "CHECKED_STEPS",
    "ROUNDS",
    "ROWS",
    "SECONDS",
    "STEPS",
    "TOLERANCE",
    "measure_kernels",
    "measure_steps",
]

ROUNDS, SECONDS = 3, 0.1  # a thread that slept shares the other's processor for some hundredths of a second
ROWS = 4096  # samples that steps go through
CHECKED_STEPS, TOLERANCE = 5, 5e-4  # of the losses; a flipped ReLU moves them by 1e-4
STEPS = {"fused": ("numba", True), "unfused": ("numba", False), "numpy": ("numpy", False)}


def measure_kernels(limits: Limits, batch: int) -> list[dict[str, Any]]:
    """Check each kernel of both sets against float64, then time it.

    Returns
    -------
    list of dict
        "kernel", "numba" and "numpy" (seconds), "gflops", "limit" (seconds), "limited_by", "share" of the
        limit that the Numba kernel reaches.

    Raises
    ------
    ValueError
        If a kernel is wrong: what is wrong is not timed.
    """
    sets = {name: load(name) for name in ("numba", "numpy")}
    rows = []
    for title, (name, sizes) in network_cases(batch).items():
        case = CASES[name]
        calls = {key: _checked_kernel(title, case, kernels, sizes) for key, kernels in sets.items()}
        seconds = {key: median(times) for key, times in interleave(calls, ROUNDS).items()}
        flops = case.flops(*sizes)
        least, limited_by = limits.least(flops, case.bytes(*sizes), case.footprint(*sizes))
        rows.append(
            {"kernel": title, **seconds, "gflops": flops / seconds["numba"] / 1e9, "limit": least,
             "limited_by": limited_by, "share": least / seconds["numba"]}
        )  # fmt: skip
    return rows


def _checked_kernel(
    title: str, case: Case, kernels: Kernels, sizes: tuple[int, int, int]
) -> Callable[[], float]:
    """Return a function that measures the seconds of a kernel that was found right."""
    error = case.error(lambda operands: case.call(kernels, *operands), sizes)
    if not error <= 1:
        raise ValueError(f"{title} of {name_of(kernels)} is {error:.1f} times as wrong as rounding may be.")
    operands = case.operands(*sizes)
    return calibrated(stopwatch(lambda: case.call(kernels, *operands)), SECONDS)


def measure_steps(limits: Limits, batch: int) -> list[dict[str, Any]]:
    """Check the losses of some steps of RMSprop against float64, then time a step.

    Returns
    -------
    list of dict
        "step" ("fused", "unfused", "numpy"), "seconds", "gflops" and "share" of the limit of arithmetic.

    Raises
    ------
    ValueError
        If losses are wrong: what is wrong is not timed.
    """
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, LAYERS[0][0]), dtype=np.float32)
    y = np.eye(LAYERS[-1][1], dtype=np.float32)[rng.integers(0, LAYERS[-1][1], ROWS)]
    truth = _trainer(x, y, batch, "numpy", False, "float64")(CHECKED_STEPS)
    calls = {}
    for name, (kernels, fused) in STEPS.items():
        losses = _trainer(x, y, batch, kernels, fused)(CHECKED_STEPS)
        error = float(np.abs(np.divide(losses, truth) - 1).max())
        if not error <= TOLERANCE:
            raise ValueError(
                f"The losses of the {name} step are off by {error:.1e}, allowed {TOLERANCE:.0e}."
            )
        calls[name] = calibrated(_time_of(_trainer(x, y, batch, kernels, fused)), 2 * SECONDS)
    products = [2 * batch * d * m for d, m in LAYERS]
    flops = 3 * sum(products) - products[0]  # forward, weights, inputs; the first layer's input needs none
    return [
        {"step": name, "seconds": median(times), "gflops": flops / median(times) / 1e9,
         "share": flops / median(times) / 1e9 / limits.peak()}
        for name, times in interleave(calls, ROUNDS).items()
    ]  # fmt: skip


def _time_of(train: Callable[[int], Any]) -> Callable[[int], float]:
    """Return what ``calibrated`` wants: the seconds of so many steps, which may be taken several at once."""
    return lambda steps: stopwatch(lambda: train(steps))(1)


def _trainer(
    x: np.ndarray, y: np.ndarray, batch: int, kernels: str, fused: bool, dtype: str = "float32"
) -> Callable[[int], list[float]]:
    """Return a function that trains so many steps and returns their losses."""
    shapes = dict(LAYERS)
    layers = [Dense(m, "relu" if m in shapes else "softmax", input_shape=(d,)) for d, m in LAYERS]
    model = Sequential(list(layers), dtype=dtype, seed=0)
    model.compile(RMSprop(1e-5), "categorical_crossentropy", kernels=kernels, fused=fused)
    setup = model.require_compiled("a benchmark")
    samples = setup.samples(x, y)
    setup.prepare(samples.x)
    steps, done = setup.step(), 0
    at_once = setup.at_once(steps, batch, heard=False)

    def train(count: int) -> list[float]:
        nonlocal done
        losses: list[float] = []
        while count:
            batches = []
            for number in range(done, done + min(at_once, count)):
                rows = np.arange(number * batch, (number + 1) * batch) % len(x)
                batches.append(Batch(rows, samples.y[rows].astype(model.dtype)))
            losses += [loss for loss, *_ in steps(samples.x, batches)]
            done += len(batches)
            count -= len(batches)
        return losses

    return train
