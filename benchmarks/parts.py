"""Where the time of a fused step goes: each of its kernels, timed in its place between the others."""

import time
from collections import defaultdict

from npnet.kernels.fused import program
from npnet.training.fused.plan import Writer

PARTS = ("gather", "forward", "softmax, cross-entropy", "input gradient", "gradient, update")


def instrument(step, clock):
    """Let a fused step run phase by phase and add the seconds of each to ``clock[part, layer]``."""
    plan, names = step.current(), {}

    def one_by_one(n, on_levels):
        for todo in plan.todos:
            writer = Writer(plan, n, on_levels)
            writer.append(todo, 0, after=writer.last)
            operations, table, work = writer.program()
            layer = todo.fields.get("layer", 0 if todo.part == "gather" else len(plan.layers) - 1)
            names[id(table)] = todo.part, layer
            yield operations, table, work

    def timed(operations, table, operands, work):
        start = time.perf_counter()
        run(operations, table, operands, work)
        clock[names[id(table)]] += time.perf_counter() - start

    run, program.run = program.run, timed
    plan.whole, plan.segments = False, one_by_one
    plan.memories.clear()
    return run


def measure(peer, times):
    """Return [[part, layer, seconds of each step]] of a fused npnet peer, and of the steps as a whole."""
    peer.reset()
    peer.run(1)
    clock = defaultdict(float)
    run = instrument(peer.step, clock)
    try:
        peer.run(3)
        clock.clear()
        start = time.perf_counter()
        peer.run(times)
        whole = time.perf_counter() - start
    finally:
        program.run = run
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
