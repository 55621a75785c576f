"""Compile kernels before they are needed."""

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from npnet.checking import gradient_cases
from npnet.models import Sequential
from npnet.runs import recipes

__all__ = ["BATCHES", "compile_kernels"]

BATCHES = 32, 128  # the first for vector units, the second for a matrix unit where there is one


def compile_kernels(dtype: str = "float32") -> None:
    """Run every kernel once, so that its machine code is in the cache.

    Networks of all activations, layers and losses, fused and not, and those of the recipes.

    Parameters
    ----------
    dtype
        "float32" for training or "float64" for gradient checks.
    """
    from npnet.kernels.parallel import arrays

    with arrays.least({}), warnings.catch_warnings():  # these networks are small; those to come may not be
        warnings.simplefilter("ignore")  # some networks make no sense beyond being run
        for model, x, y in _networks(dtype):
            for size in sorted({min(size, len(x)) for size in BATCHES}):
                model.fit(x[:size], y[:size], batch_size=size, verbose=0)
                model.evaluate(x[:size], y[:size], batch_size=size, verbose=0)


def _networks(dtype: str) -> Iterator[tuple[Sequential, Any, Any]]:
    if dtype == "float32":
        x, y = np.zeros((max(BATCHES), 32, 32, 3), np.uint8), np.eye(10)[np.arange(max(BATCHES)) % 10]
        for recipe in recipes.RECIPES.values():
            shorter = dataclasses.replace(recipe, epochs=1)
            measured = np.zeros(3), np.ones(3), x
            yield recipes.build(shorter, x.shape[1:], 10, 10, 0, "numba", *measured), x, y
    for case in gradient_cases.everything():
        if case.group == "models":
            continue
        for fused in (True, False):
            model = Sequential(
                [type(layer)(**layer.get_config()) for layer in case.layers], dtype=dtype, seed=0
            )
            model.compile("rmsprop", case.loss, kernels="numba", fused=fused)
            yield model, case.samples, case.y
