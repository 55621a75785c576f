"""A pass of a convolution as a worker's job: npnet's, or oneDNN's through PyTorch."""

from typing import NamedTuple

import numpy as np

from npnet.kernels import reference
from npnet.kernels.geometry import geometry

PASSES = ("forward", "input gradient", "filter gradient")


class Layer(NamedTuple):
    """A convolution of 3 x 3 pixels that keeps the size of the map."""

    channels: int
    filters: int
    size: int
    batch: int

    def __str__(self):
        return f"{self.channels}->{self.filters} @{self.size}"

    @property
    def flops(self):
        """Operations of each of its passes."""
        return 2 * 9 * self.channels * self.filters * self.size**2 * self.batch

    @property
    def geometry(self):
        return geometry((self.size, self.size), (3, 3), (1, 1), "same")

    def operands(self):
        """Return x, W, b and dy."""
        rng, shape = np.random.default_rng(0), (self.batch, self.size, self.size)
        x, dy = (rng.standard_normal((*shape, c)) for c in (self.channels, self.filters))
        weight = rng.standard_normal((3, 3, self.channels, self.filters)) / np.sqrt(9 * self.channels)
        bias = rng.standard_normal(self.filters)
        return [array.astype(np.float32) for array in (x, weight, bias, dy)]


def npnet_passes(kernels, layer, x, weight, bias, dy):
    """Return {pass: function} of one of npnet's sets of kernels."""
    g = layer.geometry
    return {
        "forward": lambda: kernels.convolution_forward(x, weight, bias, g),
        "input gradient": lambda: kernels.convolution_backward_input(dy, weight, g),
        "filter gradient": lambda: kernels.convolution_backward_parameters(x, dy, g)[0],
    }


def torch_passes(threads, x, weight, bias, dy):
    """Return {pass: function} of PyTorch, whose arrays lie in memory as npnet's do (channels_last)."""
    import torch

    torch.set_num_threads(threads)
    x, dy = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, dy))
    last = torch.channels_last
    weight = torch.from_numpy(weight).permute(3, 2, 0, 1).contiguous(memory_format=last)
    bias = torch.from_numpy(bias)
    backward, ones = torch.ops.aten.convolution_backward, [1, 1]
    rest = [len(bias)], ones, ones, ones, False, [0, 0], 1
    return {
        "forward": lambda: torch.nn.functional.conv2d(x, weight, bias, padding=1).permute(0, 2, 3, 1),
        "input gradient": lambda: backward(dy, x, weight, *rest, [True, False, False])[0].permute(0, 2, 3, 1),
        "filter gradient": lambda: backward(dy, x, weight, *rest, [False, True, True])[1].permute(2, 3, 1, 0),
    }


class Job:
    """One pass of a layer on "npnet" or "torch", to be run by a worker."""

    def __init__(self, library, threads, layer, which):
        self.layer, self.which = Layer(*layer), which
        operands = self.layer.operands()
        if library == "torch":
            passes = torch_passes(threads, *operands)
        else:
            from npnet.kernels import load
            from npnet.kernels.machine.threads import set_threads

            set_threads(threads)
            passes = npnet_passes(load("numba"), self.layer, *operands)
        self.call = passes[which]

    def reset(self):
        """Nothing to do: a pass has no past."""

    def run(self, times):
        for _ in range(times):
            self.call()

    def error(self):
        """Return the largest error against the textbook in float64, relative to the largest number."""
        exact = [array.astype(np.float64) for array in self.layer.operands()]
        right = npnet_passes(reference, self.layer, *exact)[self.which]()
        return float(np.abs(np.asarray(self.call()) - right).max() / np.abs(right).max())
