"""Compile kernels before they are needed."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from npnet import optimizers
from npnet.checking import gradient_cases
from npnet.kernels.machine.cpus import usable_cpus
from npnet.models import Sequential
from npnet.runs import recipes

__all__ = ["BATCHES", "compile_kernels"]

# The first goes through kernels for a few samples, the second through those of vector units, the last through
# those of a matrix unit where there is one.
BATCHES = 2, 32, 128
STEPS = 2  # at once: the first layer's update and its next forward pass are then one kernel


def compile_kernels(dtype: str = "float32") -> None:
    """Run every kernel once, so that its machine code is in the cache.

    Networks of all activations, layers and losses, fused and not, those of the recipes, and one with each
    optimizer, in as many processes as there are processors.

    Parameters
    ----------
    dtype
        "float32" for training or "float64" for gradient checks.
    """
    processes = usable_cpus()
    with get_context("spawn").Pool(processes) as pool:  # which ends them at Ctrl-C
        pool.map(_run, [(dtype, first, processes) for first in range(processes)], chunksize=1)


def _run(part: tuple[str, int, int]) -> None:
    """Train and evaluate every so many-th network, in a process of its own."""
    from npnet.kernels.parallel import arrays

    dtype, first, processes = part
    with arrays.least({}), warnings.catch_warnings():  # these networks are small; those to come may not be
        warnings.simplefilter("ignore")  # some networks make no sense beyond being run
        for make in itertools.islice(_networks(dtype), first, None, processes):
            model, x, y = make()
            for size in BATCHES:
                rows = np.arange(STEPS * size)
                some_x, some_y = x[rows % len(x)], y[rows % len(y)]
                model.fit(some_x, some_y, batch_size=size, verbose=0)
                model.evaluate(some_x, some_y, batch_size=size, verbose=0)


Network = tuple[Sequential, Any, Any]  # with samples and targets


def _networks(dtype: str) -> Iterator[Callable[[], Network]]:
    """Go through functions that make the networks."""
    if dtype == "float32":
        for recipe in recipes.RECIPES.values():
            yield partial(_of_recipe, dataclasses.replace(recipe, epochs=1))
        tutorial = dataclasses.replace(recipes.TUTORIAL, epochs=1)
        yield partial(_of_recipe, dataclasses.replace(tutorial, dtype="mixed_bfloat16"))
        for optimizer in optimizers.NAMES:
            yield partial(_of_recipe, tutorial, optimizer)
            yield partial(_of_recipe, tutorial, optimizer, pixels=False)
            yield partial(_of_recipe, tutorial, optimizer, fused=False)
    for case in gradient_cases.everything():
        if case.group != "models":
            for fused in (True, False):
                yield partial(_of_case, case, fused, dtype)


def _of_recipe(
    recipe: recipes.Recipe, optimizer: str | None = None, fused: bool = True, pixels: bool = True
) -> Network:
    x: np.ndarray = np.zeros((max(BATCHES), 32, 32, 3), np.uint8)
    if not pixels:  # a matrix unit needs other kernels for floats
        x = np.random.default_rng(0).random(x.shape, np.float32)
    y = np.eye(10)[np.arange(len(x)) % 10]
    model = recipes.build(recipe, x.shape[1:], 10, 10, 0, "numba", np.zeros(3), np.ones(3), x)
    if optimizer is not None:
        model.compile(optimizer, model.loss, kernels="numba", fused=fused)
    return model, x, y


def _of_case(case: gradient_cases.Case, fused: bool, dtype: str) -> Network:
    layers = [type(layer)(**layer.get_config()) for layer in case.layers]
    model = Sequential(layers, dtype=dtype, seed=0)
    model.compile("rmsprop", case.loss, kernels="numba", fused=fused)
    return model, case.samples, case.y
