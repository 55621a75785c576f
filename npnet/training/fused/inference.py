"""The predictions of a network: convolutions with what follows each, some pictures at a time.

Nothing is remembered, so the maps of some pictures take turns in two buffers. However large a batch is, only
the last map that is computed so exists for all of it. What comes after them is computed link by link, or as
``few_samples.py`` says.
"""

import threading
from functools import cache
from itertools import takewhile
from types import ModuleType

import numpy as np

from npnet.internal.exact import Known
from npnet.kernels import name_of
from npnet.layers import activations
from npnet.layers.chain import Chain
from npnet.layers.convolution import Conv1D, Conv2D, DepthwiseConv2D, SeparableConv2D
from npnet.layers.core import BatchNormalization, Dense, Dropout, Flatten, Rescaling, SpatialDropout2D
from npnet.layers.layer import Layer
from npnet.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from npnet.layers.preprocessing import Normalization, RandomFlip, RandomTranslation
from npnet.layers.reshaping import ZeroPadding2D
from npnet.training.fused.convolutions import Followed, can_convolve
from npnet.training.setup import blas_threads

__all__ = ["expect", "outputs"]

MOST_NUMBERS = 1 << 22  # of the largest map of the pictures that are computed together: 16 MiB of float32

# Layers that look at each sample by itself, whatever else is in its batch.
SAMPLEWISE = Known(
    [
        Conv1D, Conv2D, DepthwiseConv2D, SeparableConv2D, MaxPooling2D, AveragePooling2D, ZeroPadding2D,
        GlobalAveragePooling2D, GlobalMaxPooling2D, BatchNormalization, Dropout, SpatialDropout2D, Rescaling,
        Normalization, Flatten, RandomFlip, RandomTranslation, *activations.NAMES.values(),
    ]
)  # fmt: skip

_buffers = threading.local()


class InferenceConvolution(Followed):
    """A convolution in inference, with what follows it: batch normalisation is a factor and a shift then."""

    norm: BatchNormalization | None = None

    @property
    def largest_map(self) -> int:
        """Numbers of a picture's map before it is pooled."""
        assert self.link.input_shape is not None  # can_convolve has looked
        return int(np.prod(self.link.windows(self.link.input_shape).places)) * self.link.filters

    def absorb(self, link: Layer) -> bool:
        """Compute the next link as well, if it is one of those that can be; return whether it is."""
        if type(link) is BatchNormalization and self.norm is None and self.activation is None:
            self.norm = link
            return True
        if isinstance(link, MaxPooling2D) and self.norm is not None and self.activation is None:
            return False  # what is pooled first are the sums, and they are not normalised yet
        return super().absorb(link)

    def __call__(self, x: np.ndarray, buffer: int) -> np.ndarray:
        """Return y of some pictures, in the buffer of this number."""
        from npnet.kernels.convolution import convolve

        link, epilogue = self.link, self.epilogue
        pictures, bias = link.as_pictures(x), link.bias_value
        windows = link.windows(x.shape[1:])
        if self.norm is not None:
            scale, shift = self.norm.scale_and_shift()
            epilogue, bias = epilogue._replace(scale=scale), shift if bias is None else scale * bias + shift
        shape = self.output_shape(len(x), windows)
        y = _buffer(buffer, x.dtype, int(np.prod(shape))).reshape(shape)
        return link.as_samples(convolve(pictures, link.bank, bias, windows, epilogue, y))


def outputs(chain: Chain, x: np.ndarray) -> np.ndarray:
    """Return what ``chain.forward`` does, to rounding, for a batch in the chain's dtype."""
    if name_of(chain.kernels) != "numba" or not _is_as_written(chain) or len(x) == 0:
        with blas_threads(chain):
            return chain.forward(x)
    links = chain.links
    if any(isinstance(link, Conv2D) for link in links):
        with blas_threads(chain):
            x, links = _convolved(links, x)
    return _few_samples().outputs(chain, links, x)


def expect(chain: Chain, samples: int) -> None:
    """Let what predictions of so many samples need most be compiled with the kernels of the first step."""
    if name_of(chain.kernels) != "numba":
        return
    from npnet.kernels.machine import helper
    from npnet.kernels.products.blocked import product_job

    jobs = set()
    for link in chain.links:
        if isinstance(link, Dense) and link.kernels is chain.kernels:
            inputs, units = link.weight.shape
            jobs.add(product_job(samples, inputs, units, chain.dtype))
    helper.expect([job for job in jobs if job is not None])


def _convolved(links: list[Layer], x: np.ndarray) -> tuple[np.ndarray, list[Layer]]:
    """Return the output of the first links, convolutions among them, and the links that are left."""
    alone = list(takewhile(SAMPLEWISE.__contains__, links))
    stages = _staged(alone) if SAMPLEWISE.unchanged(alone) else []
    maps = [stage.largest_map for stage in stages if isinstance(stage, InferenceConvolution)]
    if not maps:
        return x, links
    together = max(1, MOST_NUMBERS // max(maps))
    y = None
    for first in range(0, len(x), together):
        part = _run(stages, x[first : first + together])
        if y is None:
            y = np.empty((len(x), *part.shape[1:]), part.dtype)
        y[first : first + together] = part
    assert y is not None
    return y, links[len(alone) :]


@cache
def _few_samples() -> ModuleType:
    """Return what computes the outputs for a few samples; Numba is imported here and not before."""
    from npnet.training.fused import few_samples

    return few_samples


def _is_as_written(chain: Chain) -> bool:
    """Whether nobody has given the chain a forward pass of its own."""
    return type(chain).forward is Chain.forward and "forward" not in vars(chain)


def _staged(links: list[Layer]) -> list[InferenceConvolution | Layer]:
    """Return the links, convolutions with what each has absorbed."""
    stages: list[InferenceConvolution | Layer] = []
    for link in links:
        last = stages[-1] if stages else None
        if not (isinstance(last, InferenceConvolution) and last.absorb(link)):
            stages.append(InferenceConvolution(link) if can_convolve(link) else link)
    return stages


def _run(stages: list[InferenceConvolution | Layer], x: np.ndarray) -> np.ndarray:
    """Return the output of the stages for some pictures; it may lie in a buffer."""
    buffer = 0
    for stage in stages:
        if isinstance(stage, InferenceConvolution):
            x = stage(x, buffer)
            buffer = 1 - buffer
        else:
            x = stage.forward(x)
    return x


def _buffer(number: int, dtype: np.dtype, size: int) -> np.ndarray:
    """Return memory that this thread uses again and again, unless it is that of a huge picture."""
    name = f"{dtype.char}{number}"
    memory = getattr(_buffers, name, None)
    if memory is None or memory.size < size:
        memory = np.empty(size, dtype)
        if size <= MOST_NUMBERS:
            setattr(_buffers, name, memory)
    return memory[:size]
