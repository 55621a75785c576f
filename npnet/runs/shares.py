"""Where the time of a training step goes."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.models import Sequential
from npnet.training.batches import Batch, cut

__all__ = ["STEPS", "WARM", "measure"]

STEPS, WARM = 20, 3


def measure(model: Sequential, x: np.ndarray, y: np.ndarray, batch_size: int) -> dict[str, float]:
    """Return the shares of data, forward, backward and update in a step of ``model``, which learns by it.

    The compiled kernels do a step in one piece, which has no parts to time. These are the shares of
    ``STEPS`` steps in the readable order, with the same kernels one by one: an estimate.
    """
    seconds = dict.fromkeys(("data", "forward", "backward", "update"), 0.0)
    lap = time.perf_counter()

    def until_now(part: str) -> None:
        """Count the time since the last call as this part's."""
        nonlocal lap
        before, lap = lap, time.perf_counter()
        seconds[part] += lap - before

    def timed(function: Callable, after: str, before: str | None = None) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            if before is not None:
                until_now(before)
            result = function(*arguments, **options)
            until_now(after)
            return result

        return call

    setup = model.require_compiled("shares")
    setup.prepare(x)
    step = setup.readable_step()
    links = model.links
    first = next(i for i, link in enumerate(links) if link.parameters)
    for link in links[:first]:
        link.forward = timed(link.forward, after="data")  # type: ignore[method-assign]
    model.forward = timed(model.forward, "forward", before="data")  # type: ignore[method-assign]
    setup.loss.forward = timed(setup.loss.forward, "forward")  # type: ignore[method-assign]
    setup.optimizer.step = timed(setup.optimizer.step, "update", before="backward")  # type: ignore[method-assign]
    order = cut(np.random.default_rng(0).permutation(len(x)), batch_size)
    for number in range(WARM + STEPS):
        if number == WARM:
            seconds = dict.fromkeys(seconds, 0.0)
        rows = order[number % len(order)]
        lap = time.perf_counter()
        step.take(x, Batch(rows, y[rows]))
    return {part: spent / sum(seconds.values()) for part, spent in seconds.items()}
