"""Where the time of a training step goes."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.models import Sequential
from npnet.training import batches as data

STEPS, WARM = 20, 3


def measure(model: Sequential, x: np.ndarray, y: np.ndarray, batch_size: int) -> dict[str, float]:
    """Return the shares of data, forward, backward and update in a step of ``model``, which learns by it.

    The compiled kernels do a step in one piece, which has no parts to time. These are the shares of
    ``STEPS`` steps in the readable order, with the same kernels one by one: an estimate.
    """
    clock: defaultdict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **options)
            clock[name] += time.perf_counter() - began
            return result

        return call

    model.fused = False
    model.train_on_batch(x[:1], y[:1])  # every link gets its kernels
    links = model.chain
    first = next(i for i, link in enumerate(links) if link.parameters)
    for link in links[:first]:
        link.forward = timed("prepared", link.forward)  # type: ignore[method-assign]
    model.forward = timed("forward", model.forward)  # type: ignore[method-assign]
    model.loss.forward = timed("loss", model.loss.forward)  # type: ignore[method-assign]
    model.optimizer.step = timed("update", model.optimizer.step)  # type: ignore[method-assign]
    gather = timed("gathered", data.gather)
    order = data.batches(np.random.default_rng(0).permutation(len(x)), batch_size)
    for step in range(WARM + STEPS):
        if step == WARM:
            clock.clear()
        index = order[step % len(order)]
        gather(x, index, x.dtype)
        timed("step", model.train_step)(x, index, y[index], None)
    parts = {
        "data": clock["gathered"] + clock["prepared"],
        "forward": clock["forward"] - clock["prepared"] + clock["loss"],
        "update": clock["update"],
    }
    parts["backward"] = clock["step"] - clock["gathered"] - clock["forward"] - clock["loss"] - clock["update"]
    return {name: parts[name] / clock["step"] for name in ("data", "forward", "backward", "update")}
