"""What layers of pictures share: their arguments, and a window that moves over the picture."""

from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.kernels.geometry import Geometry, Pair, geometry
from npnet.layers.layer import Layer, Shape, refuse_larger

__all__ = ["Windowed", "channels_last", "expect_places", "pair", "sizes"]

AXES = {1: "steps", 2: "height, width"}


def sizes(name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """Return ``value``, an integer or ``rank`` of them, as a tuple of ``rank`` integers."""
    try:
        values = (value,) * rank if np.ndim(value) == 0 else tuple(value)
        if len(values) != rank:
            raise ValueError
        return tuple(checks.integer(name, size, least) for size in values)
    except (TypeError, ValueError):
        several = "" if rank == 1 else f", or a tuple of {rank} of them"
        raise ValueError(f"{name} must be an integer of at least {least}{several}, got {value!r}.") from None


def pair(values: tuple[int, ...]) -> Pair:
    """Return sizes down and to the right: a sequence is a picture of height one."""
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


def channels_last(value: Any) -> str | None:
    """Return Keras's ``data_format`` if it is the one npnet has."""
    if value not in (None, "channels_last"):
        raise ValueError(
            f'data_format must be "channels_last" or None, got {value!r}: pictures are (batch, height, width,'
            " channels). Those of (batch, channels, height, width) become so by x.transpose(0, 2, 3, 1)."
        )
    return value


def expect_places(layer: Layer, input_shape: Shape, rank: int) -> None:
    """Raise a ValueError unless samples are pictures, for rank 1 sequences, with channels."""
    if len(input_shape) != rank + 1:
        got = ", ".join(map(str, ("batch", *input_shape)))
        flat = len(input_shape) == 1
        advice = "Put it before Flatten(), or add Reshape" if flat else "Add Reshape"
        raise ValueError(
            f"{type(layer).__name__} {layer.name!r} expects (batch, {AXES[rank]}, channels), got ({got})."
            f" {advice}(({AXES[rank]}, channels)) before it."
        )


class Windowed(Layer):
    """Base of layers that move a window over pictures (N, H, W, C), or with rank 1 over sequences (N, L, C).

    Attributes
    ----------
    rank
        2 for pictures, 1 for sequences: those are computed as pictures of height one.
    paddings
        What ``padding`` may be.
    """

    rank = 2
    paddings: tuple[str, ...] = ("valid", "same")
    padding: str
    strides: tuple[int, ...]

    def check_padding(self, padding: Any) -> str:
        """Return ``padding`` in small letters."""
        lower = padding.lower() if isinstance(padding, str) else padding
        if lower not in self.paddings:
            raise ValueError(f"padding must be {' or '.join(map(repr, self.paddings))}, got {padding!r}.")
        return lower

    @property
    def window(self) -> tuple[int, ...]:
        """The size of the window."""
        raise NotImplementedError

    def windows(self, input_shape: Shape) -> Geometry:
        """Return where the window stands in samples of a shape."""
        size, kernel, strides = map(pair, (input_shape[:-1], self.window, self.strides))
        return geometry(size, kernel, strides, self.padding)

    def places(self, input_shape: Shape) -> Shape:
        """Return the output's shape without channels.

        Raises
        ------
        ValueError
            If the samples are no pictures, or the window has no place in them.
        """
        expect_places(self, input_shape, self.rank)
        found = self.windows(input_shape)
        if min(found.places) < 1:
            window, picture = (" x ".join(map(str, s)) for s in (self.window, input_shape[:-1]))
            raise ValueError(
                f"{type(self).__name__} {self.name!r}: its output's size would be zero or negative. A window"
                f' of {window} has no place in {picture} pixels: make it smaller, use padding="same", or'
                " shrink the pictures less before."
            )
        self.refuse_wide_borders(found, input_shape[-1])
        return found.places[2 - self.rank :]

    def refuse_wide_borders(self, geometry: Geometry, channels: int) -> None:
        """Raise a ValueError if a sample with its padding is more than memory can be meant for."""
        height, width = (n + sum(sides) for n, sides in zip(geometry.size, geometry.padding, strict=True))
        refuse_larger(self, "padded picture", (height, width, channels))

    def as_pictures(self, x: np.ndarray) -> np.ndarray:
        """Return a batch as pictures."""
        return x if self.rank == 2 else x[:, None]

    def as_samples(self, y: np.ndarray) -> np.ndarray:
        """Return pictures as a batch of what this layer takes and gives."""
        return y if self.rank == 2 else y[:, 0]
