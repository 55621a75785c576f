"""The one job every framework gets: the same network, start, data and order of batches."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

# Keras's names. The rates are small: rounding flips a relu here and there, large steps would magnify that.
OPTIMIZERS = {
    "rmsprop": {"learning_rate": 1e-5, "rho": 0.9, "epsilon": 1e-7},
    "adam": {"learning_rate": 1e-5, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "momentum": {"learning_rate": 1e-3, "momentum": 0.9},
}
DTYPES = ("float32", "mixed_bfloat16")  # Keras's names of policies
SAMPLES = ("pixels", "floats")  # bytes / 255, as in the tutorial; any numbers between 0 and 1


@dataclass(frozen=True)
class Task:
    """Train ``widths`` (relu between, softmax last) by cross-entropy on ``rows`` made-up samples.

    Batch number s is the rows ``s * batch`` to ``(s + 1) * batch`` of the data, starting again at its end.
    ``dtype`` is one of DTYPES, ``samples`` one of SAMPLES.
    """

    batch: int = 32
    optimizer: str = "rmsprop"
    widths: tuple[int, ...] = (3072, 512, 512, 10)
    rows: int = 8192
    seed: int = 0
    dtype: str = "float32"
    samples: str = "pixels"

    @property
    def hyperparameters(self):
        return OPTIMIZERS[self.optimizer]

    @property
    def settings(self):
        """The arguments that make this task, as JSON can carry them to another process."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def batches(self):
        """Batches in one pass over the data."""
        return self.rows // self.batch

    @property
    def parameters(self):
        return sum(d * m + m for d, m in self.layers)

    @property
    def layers(self):
        return tuple(zip(self.widths, self.widths[1:], strict=False))

    @property
    def flops(self):
        """Additions and multiplications of one step's matrix products.

        A layer costs 2 N D M forward, as much for its weights' gradient and for its input's; the first
        layer has no use for the last.
        """
        products = [2 * self.batch * d * m for d, m in self.layers]
        return 3 * sum(products) - products[0]

    def start(self, step):
        """Return the first row of batch number ``step``."""
        return step % self.batches * self.batch

    @cached_property
    def data(self):
        """x (rows, D) in [0, 1], float32; labels (rows,) that a random linear map can tell apart."""
        rng, shape = np.random.default_rng(self.seed), (self.rows, self.widths[0])
        if self.samples == "pixels":
            x = rng.integers(0, 256, shape).astype(np.float32) / np.float32(255)
        else:
            x = rng.random(shape, dtype=np.float32)
        directions = rng.standard_normal((self.widths[0], self.widths[-1]), dtype=np.float32)
        return x, ((x - 0.5) @ directions).argmax(axis=1)

    @cached_property
    def one_hot(self):
        return np.eye(self.widths[-1], dtype=np.float32)[self.data[1]]

    @cached_property
    def weights(self):
        """Glorot-uniform weights and zero biases, one pair per layer."""
        rng = np.random.default_rng(self.seed + 1)
        limits = [(6 / (d + m)) ** 0.5 for d, m in self.layers]
        return [
            (rng.uniform(-limit, limit, (d, m)).astype(np.float32), np.zeros(m, np.float32))
            for limit, (d, m) in zip(limits, self.layers, strict=True)
        ]
