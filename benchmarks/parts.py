"""Where the time of a fused step goes: each of its kernels, timed in its place between the others."""

import time
from collections import defaultdict
from functools import wraps

PARTS = ("gather", "forward", "softmax, cross-entropy", "input gradient", "gradient, update")


def instrument(step, clock):
    """Make the parts of a ``fusion.FusedSteps`` add their seconds to ``clock[part, index of the layer]``."""

    def timed(function, *key):
        @wraps(function)
        def run(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            clock[key] += time.perf_counter() - start
            return result

        return run

    step.whole = None  # stage by stage, not all in one parallel loop
    step.start = timed(step.start, "gather", 0)
    step.end = timed(step.end, "softmax, cross-entropy", len(step.stages) - 1)
    for i, stage in enumerate(step.stages):
        stage.forward = timed(stage.forward, "forward", i)
        stage.learn = timed(stage.learn, "gradient, update", i)
        stage.backward = timed(stage.backward, "input gradient", i)


def measure(peer, times):
    """Return [[part, layer, seconds of each step]] of a fused npnet peer, and of the steps as a whole."""
    peer.reset()
    clock = defaultdict(float)
    instrument(peer.step, clock)
    peer.run(3)
    clock.clear()
    start = time.perf_counter()
    peer.run(times)
    whole = time.perf_counter() - start
    for part, layer in list(clock):
        if part == "input gradient":  # the stage's backward calls its learn
            clock[part, layer] -= clock["gradient, update", layer]
    ordered = sorted(clock, key=lambda key: (PARTS.index(key[0]), key[1]))
    return [[*key, clock[key] / times] for key in ordered] + [["whole step", 0, whole / times]]


def cost(part, layer, task):
    """Return the operations of a part and the bytes it has to move: every operand and result once."""
    d, m = task.layers[layer]
    n, slots = task.batch, 2 if task.optimizer == "adam" else 1
    product = 2 * n * d * m
    weights, inputs, outputs = 4 * d * m, 4 * n * d, 4 * n * m
    return {
        "gather": (0, 2 * inputs),
        "forward": (product, inputs + weights + outputs),
        "softmax, cross-entropy": (10 * n * m, 4 * outputs),
        "input gradient": (product, outputs + weights + 2 * inputs),
        "gradient, update": (product, inputs + outputs + 2 * (1 + slots) * weights),
    }[part]


def unfused(part, layer, task):
    """Return the names of the unfused kernels that do the same work as a part."""
    d, m = task.layers[layer]
    relu = [] if layer == len(task.layers) - 1 else [f"relu {task.batch}x{m}"]
    return {
        "gather": [],
        "forward": [f"dense_forward {d}x{m}", *relu],
        "softmax, cross-entropy": [],
        "input gradient": [f"dense_backward_input {d}x{m}", f"relu_backward {task.batch}x{d}"],
        "gradient, update": [f"dense_backward_parameters {d}x{m}", f"{task.optimizer} {d}x{m}"],
    }[part]
