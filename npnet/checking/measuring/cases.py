"""The kernels to measure: operands, the call, what it costs at the least, and how wrong it may be.

``CASES[name]`` works on N rows, D inputs and M units. Bytes count every operand read once and every result
written once: no implementation can move less through memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npnet.kernels import reference, rules

__all__ = ["ADAM", "CASES", "LAYERS", "MOMENTUM", "PRODUCTS", "RMSPROP", "Case", "Shapes", "network_cases"]

RMSPROP, ADAM, MOMENTUM, SGD = (1e-3, 0.9, 1e-7), (1e-3, 0.9, 0.999, 1e-7), (1e-2, 0.9), (1e-2,)
LAYERS = [(3072, 512), (512, 512), (512, 10)]  # of the tutorial's network

Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    """One kernel: shapes of its operands, the call on a kernel set, operations for N, D, M, summed length."""

    shapes: Callable[[int, int, int], Shapes]
    call: Callable[..., Any]
    flops: Callable[[int, int, int], int]
    results: Callable[[int, int, int], Shapes]
    depth: Callable[[int, int, int], int] = lambda n, d, m: 1
    in_place: bool = False

    def operands(self, n: int, d: int, m: int, dtype: Any = np.float32) -> list[np.ndarray]:
        """Return made-up operands; all positive, as a squared gradient has to be."""
        rng = np.random.default_rng(n + d + m)
        return [rng.random(shape).astype(dtype) for shape in self.shapes(n, d, m)]

    def bytes(self, n: int, d: int, m: int) -> int:
        """Return the bytes of all operands and results: what has to be moved."""
        return _bytes([*self.shapes(n, d, m), *self.results(n, d, m)])

    def footprint(self, n: int, d: int, m: int) -> int:
        """Return the bytes of all arrays: where what is moved may lie."""
        return _bytes(self.shapes(n, d, m)) if self.in_place else self.bytes(n, d, m)

    def error(self, call: Callable[[list[np.ndarray]], Any], sizes: tuple[int, int, int]) -> float:
        """Return the largest error of ``call(operands)`` against float64, in units of what rounding may do.

        4 sqrt(depth) 2^-24 of the sum of absolute products; operands are positive, so that is the result.
        """
        operands = self.operands(*sizes)
        exact = [a.astype(np.float64) for a in operands]
        found, truth = call(operands), self.call(reference, *exact)
        if truth is None:  # an update: the results are in the operands
            found, truth = operands, exact
        if not isinstance(truth, (tuple, list)):
            found, truth = [found], [truth]
        allowed = 4 * max(self.depth(*sizes), 4) ** 0.5 * 2.0**-24
        worst = [
            np.abs(np.asarray(f, np.float64) - t).max() / np.abs(t).max()
            for f, t in zip(found, truth, strict=True)
        ]
        return float(max(worst)) / allowed


def _bytes(shapes: Shapes) -> int:
    return 4 * sum(int(np.prod(shape)) for shape in shapes)


def _product(shapes: Callable, call: Callable, results: Callable, depth: Callable) -> Case:
    return Case(shapes, call, lambda n, d, m: 2 * n * d * m, results, depth)


def _update(rule: Callable, slots: int, numbers: tuple[float, ...], operations: int) -> Case:
    return Case(
        lambda n, d, m: [(d, m)] * (2 + slots),
        lambda k, w, g, *memory: k.update(rule, w, g, memory, numbers),
        lambda n, d, m: operations * d * m,
        lambda n, d, m: [(d, m)] * (1 + slots),
        in_place=True,
    )


def _elementwise(name: str, arrays: int, *numbers: float) -> Case:
    """Return the case of an activation's rule or of its derivative, one operation an element."""
    rule = getattr(rules, name)
    return Case(
        lambda n, d, m: [(n, m)] * arrays,
        lambda k, *operands: k.elementwise(rule, *operands, *numbers),
        lambda n, d, m: n * m,
        lambda n, d, m: [(n, m)],
    )


CASES: dict[str, Case] = {
    "dense_forward": _product(
        lambda n, d, m: [(n, d), (d, m), (m,)],
        lambda k, x, w, b: k.dense_forward(x, w, b),
        lambda n, d, m: [(n, m)],
        lambda n, d, m: d,
    ),
    "dense_backward_parameters": _product(
        lambda n, d, m: [(n, d), (n, m)],
        lambda k, x, dy: k.dense_backward_parameters(x, dy),
        lambda n, d, m: [(d, m), (m,)],
        lambda n, d, m: n,
    ),
    "dense_backward_input": _product(
        lambda n, d, m: [(n, m), (d, m)],
        lambda k, dy, w: k.dense_backward_input(dy, w),
        lambda n, d, m: [(n, d)],
        lambda n, d, m: m,
    ),
    **{name: _elementwise(name, 1) for name in ("relu", "sigmoid", "hyperbolic_tangent", "gelu")},
    "elu": _elementwise("elu", 1, 1.0),
    **{
        f"{name}_backward": _elementwise(f"{name}_backward", 2)
        for name in ("relu", "sigmoid", "hyperbolic_tangent", "gelu")
    },
    "elu_backward": _elementwise("elu_backward", 2, 1.0),
    "softmax_forward": Case(
        lambda n, d, m: [(n, m)],
        lambda k, x: k.softmax_forward(x),
        lambda n, d, m: 4 * n * m,
        lambda n, d, m: [(n, m)],
    ),
    "softmax_backward": Case(
        lambda n, d, m: [(n, m)] * 2,
        lambda k, dy, y: k.softmax_backward(dy, y),
        lambda n, d, m: 4 * n * m,
        lambda n, d, m: [(n, m)],
    ),
    "rmsprop": _update(rules.rmsprop, 1, RMSPROP, 8),
    "adam": _update(rules.adam, 2, ADAM, 11),
    "sgd_momentum": _update(rules.sgd_momentum, 1, MOMENTUM, 4),
    "sgd": _update(rules.sgd, 0, SGD, 2),
}
PRODUCTS = [name for name in CASES if name.startswith("dense")]


def network_cases(batch: int) -> dict[str, tuple[str, tuple[int, int, int]]]:
    """Return {title: (case, sizes)}: what a training step of 3072-512-512-10 computes."""
    cases = {}
    for d, m in LAYERS:
        for case in PRODUCTS:
            if (case, d) != ("dense_backward_input", 3072):  # the first layer has no use for it
                cases[f"{case} {d}x{m}"] = (case, (batch, d, m))
    for case in ("relu", "relu_backward"):
        cases[f"{case} {batch}x512"] = (case, (batch, 512, 512))
    for case in ("softmax_forward", "softmax_backward"):
        cases[f"{case} {batch}x10"] = (case, (batch, 512, 10))
    for d, m in LAYERS:
        cases[f"rmsprop {d}x{m}"] = ("rmsprop", (batch, d, m))
    for case in ("adam", "sgd_momentum"):
        cases[f"{case} 3072x512"] = (case, (batch, 3072, 512))
    return cases
