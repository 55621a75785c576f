"""The predictions of a network with convolutions: each with what follows it, some pictures at a time.

Nothing is remembered, so the maps of a few pictures take turns in two buffers. They stay in the cache, and
however large a batch is, it needs no more memory than a small one.
"""

import threading
from itertools import takewhile

import numpy as np

from npnet.internal.exact import Known
from npnet.kernels import name_of
from npnet.layers import activations
from npnet.layers.chain import Chain
from npnet.layers.convolution import Conv1D, Conv2D, DepthwiseConv2D, SeparableConv2D
from npnet.layers.core import BatchNormalization, Dropout, Flatten, Rescaling, SpatialDropout2D
from npnet.layers.layer import Layer
from npnet.layers.pooling import AveragePooling2D, MaxPooling2D
from npnet.layers.preprocessing import Normalization, RandomFlip, RandomTranslation
from npnet.layers.reshaping import ZeroPadding2D
from npnet.training.fused.convolutions import Followed, can_convolve

__all__ = ["outputs"]

NUMBERS = 1 << 22  # of the largest map of the pictures that are computed together: 16 MiB of float32

# Layers that look at each sample by itself, whatever else is in its batch.
ALONE = Known(
    [
        Conv1D, Conv2D, DepthwiseConv2D, SeparableConv2D, MaxPooling2D, AveragePooling2D, ZeroPadding2D,
        BatchNormalization, Dropout, SpatialDropout2D, Rescaling, Normalization, Flatten, RandomFlip,
        RandomTranslation, *activations.NAMES.values(),
    ]
)  # fmt: skip

_kept = threading.local()


class Resting(Followed):
    """A convolution that is not trained, with what follows it: batch normalisation is a factor then."""

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
    links = chain.links
    if name_of(chain.kernels) != "numba" or not any(isinstance(link, Conv2D) for link in links):
        return chain.forward(x)
    stages, rest = _staged(links)
    maps = [stage.largest_map for stage in stages if isinstance(stage, Resting)]
    if not maps or len(x) == 0:
        return chain.forward(x)
    together = max(1, NUMBERS // max(maps))
    parts = [_through(stages, x[i : i + together]) for i in range(0, len(x), together)]
    y = parts[0] if len(parts) == 1 else np.concatenate(parts)
    for link in rest:
        y = link.forward(y)
    return y


def _staged(links: list[Layer]) -> tuple[list[Resting | Layer], list[Layer]]:
    """Return the stages up to the last convolution with what follows it, and the links behind them."""
    alone = list(takewhile(ALONE.__contains__, links))
    if not ALONE.unchanged(alone):
        return [], links
    stages: list[Resting | Layer] = []
    last = end = 0
    for number, link in enumerate(alone):
        stage = stages[-1] if stages else None
        if not (isinstance(stage, Resting) and stage.absorb(link)):
            stage = Resting(link) if can_convolve(link) else link
            stages.append(stage)
        if isinstance(stage, Resting):
            last, end = len(stages), number + 1
    return stages[:last], links[end:]


def _through(stages: list[Resting | Layer], x: np.ndarray) -> np.ndarray:
    """Return the output of the stages for some pictures, a new array."""
    buffer = 0
    for stage in stages:
        if isinstance(stage, Resting):
            x = stage(x, buffer)
            buffer = 1 - buffer
        else:
            x = stage.forward(x)
    return x.copy()


def _buffer(number: int, dtype: np.dtype, size: int) -> np.ndarray:
    """Return memory that this thread uses again and again."""
    name = f"{dtype.char}{number}"
    memory = getattr(_kept, name, None)
    if memory is None or memory.size < size:
        memory = np.empty(size, dtype)
        setattr(_kept, name, memory)
    return memory[:size]
