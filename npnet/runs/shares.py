"""Where the time of a training step goes."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.models import Sequential
from npnet.training.batches import Batch, cut, gather

__all__ = ["SECONDS", "STEPS", "WARM", "measure"]

STEPS, WARM = 20, 3
SECONDS = 5.0  # after which no further step is taken


def measure(model: Sequential, x: np.ndarray, y: np.ndarray, batch_size: int) -> dict[str, float]:
    """Return the shares of data, forward, backward and update in a step of ``model``, which learns by it.

    The compiled kernels do a step in one piece, which has no parts to time. These are the shares of
    ``STEPS`` steps in the readable order, with the same kernels one by one: an estimate. Of long steps there
    are fewer, as many as begin within ``SECONDS``.
    """
    clock: defaultdict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **options)
            clock[name] += time.perf_counter() - began
            return result

        return call

    setup = model.require_compiled("shares")
    setup.prepare(x)
    step = setup.readable_step()
    links = model.links
    first = next(i for i, link in enumerate(links) if link.parameters)
    for link in links[:first]:
        link.forward = timed("prepared", link.forward)  # type: ignore[method-assign]
    model.forward = timed("forward", model.forward)  # type: ignore[method-assign]
    setup.loss.forward = timed("loss", setup.loss.forward)  # type: ignore[method-assign]
    setup.optimizer.step = timed("update", setup.optimizer.step)  # type: ignore[method-assign]
    gathered = timed("gathered", gather)
    order = cut(np.random.default_rng(0).permutation(len(x)), batch_size)
    began = time.perf_counter()
    for number in range(WARM + STEPS):
        if number and time.perf_counter() - began > SECONDS:
            break
        if number == WARM:
            clock.clear()
        rows = order[number % len(order)]
        gathered(x, rows, x.dtype)
        timed("step", step.take)(x, Batch(rows, y[rows]))
    parts = {
        "data": clock["gathered"] + clock["prepared"],
        "forward": clock["forward"] - clock["prepared"] + clock["loss"],
        "update": clock["update"],
    }
    parts["backward"] = clock["step"] - clock["gathered"] - clock["forward"] - clock["loss"] - clock["update"]
    return {name: parts[name] / clock["step"] for name in ("data", "forward", "backward", "update")}
