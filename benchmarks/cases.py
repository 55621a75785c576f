"""The kernels to measure: operands, the call, and what it costs at the least.

``CASES[name]`` works on N rows, D inputs and M units. Bytes count every operand read once and every result
written once: no implementation can move less through memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npnet.kernels import reference, rules

RMSPROP, ADAM, MOMENTUM = (1e-3, 0.9, 1e-7), (1e-3, 0.9, 0.999, 1e-7), (1e-2, 0.9)


@dataclass(frozen=True)
class Case:
    """One kernel: shapes of its operands, the call on a kernel set, operations for N, D, M, summed length."""

    shapes: Callable
    call: Callable
    flops: Callable
    results: Callable
    depth: Callable = lambda n, d, m: 1
    in_place: bool = False

    def operands(self, n, d, m, dtype=np.float32):
        """Return made-up operands; all positive, as a squared gradient has to be."""
        rng = np.random.default_rng(n + d + m)
        return [rng.random(shape).astype(dtype) for shape in self.shapes(n, d, m)]

    def bytes(self, n, d, m):
        """Return the bytes of all operands and results: what has to be moved."""
        return _bytes([*self.shapes(n, d, m), *self.results(n, d, m)])

    def footprint(self, n, d, m):
        """Return the bytes of all arrays: where what is moved may lie."""
        return _bytes(self.shapes(n, d, m)) if self.in_place else self.bytes(n, d, m)


def _bytes(shapes):
    return 4 * sum(int(np.prod(shape)) for shape in shapes)


def _product(shapes, call, results, depth):
    return Case(shapes, call, lambda n, d, m: 2 * n * d * m, results, depth)


def _update(rule, slots, numbers, operations):
    return Case(
        lambda n, d, m: [(d, m)] * (2 + slots),
        lambda k, w, g, *memory: k.update(rule, w, g, memory, numbers),
        lambda n, d, m: operations * d * m,
        lambda n, d, m: [(d, m)] * (1 + slots),
        in_place=True,
    )


CASES = {
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
    "relu": Case(
        lambda n, d, m: [(n, m)],
        lambda k, x: k.elementwise(rules.relu, x),
        lambda n, d, m: n * m,
        lambda n, d, m: [(n, m)],
    ),
    "relu_backward": Case(
        lambda n, d, m: [(n, m)] * 2,
        lambda k, dy, y: k.elementwise(rules.relu_backward, dy, y),
        lambda n, d, m: n * m,
        lambda n, d, m: [(n, m)],
    ),
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
}
PRODUCTS = [name for name in CASES if name.startswith("dense")]


def torch_kernels(threads):
    """Return the products as PyTorch computes them (with MKL on x86), writing to memory it already has."""
    import torch

    torch.set_num_threads(threads)

    class Kernels:
        def __init__(self):
            self.memory = {}

        def out(self, *shape):
            return self.memory.setdefault(shape, torch.empty(shape))

        def dense_forward(self, x, w, b):
            x, w, b = map(torch.from_numpy, (x, w, b))
            return torch.addmm(b, x, w, out=self.out(len(x), w.shape[1]))

        def dense_backward_parameters(self, x, dy):
            x, dy = map(torch.from_numpy, (x, dy))
            return torch.matmul(x.T, dy, out=self.out(x.shape[1], dy.shape[1])), dy.sum(0)

        def dense_backward_input(self, dy, w):
            dy, w = map(torch.from_numpy, (dy, w))
            return torch.matmul(dy, w.T, out=self.out(len(dy), len(w)))

    return Kernels()


class Job:
    """One case on one kernel set ("npnet", "numpy" or "torch"), to be run by a worker."""

    def __init__(self, kernel_set, threads, case, sizes):
        if kernel_set == "torch":
            kernels = torch_kernels(threads)
        else:
            from npnet.kernels import load
            from npnet.kernels.threads import set_threads

            set_threads(threads)
            kernels = load("numba" if kernel_set == "npnet" else "numpy")
        self.case, self.sizes = CASES[case], sizes
        self.operands = self.case.operands(*sizes)
        self.call = lambda operands: self.case.call(kernels, *operands)

    def reset(self):
        """Nothing to do: a kernel has no past. Updates go on with their own results."""

    def run(self, times):
        for _ in range(times):
            self.call(self.operands)

    def error(self):
        """Return the largest error against float64, in units of what rounding may do to it.

        4 sqrt(depth) 2^-24 of the sum of absolute products; operands are positive, so that is the result.
        """
        operands = self.case.operands(*self.sizes)
        exact = [a.astype(np.float64) for a in operands]
        found, truth = self.call(operands), self.case.call(reference, *exact)
        if truth is None:  # an update: the results are in the operands
            found, truth = operands, exact
        if not isinstance(truth, (tuple, list)):
            found, truth = [found], [truth]
        allowed = 4 * max(self.case.depth(*self.sizes), 4) ** 0.5 * 2.0**-24
        worst = [
            np.abs(np.asarray(f, np.float64) - t).max() / np.abs(t).max()
            for f, t in zip(found, truth, strict=True)
        ]
        return float(max(worst)) / allowed
