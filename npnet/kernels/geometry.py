"""Where the window of a convolution or a pooling stands: shared by both sets of kernels.

Pictures are (N, H, W, C). A window of (kh, kw) taps, ``dilation`` pixels apart, moves over the padded
picture in steps of ``strides``. Along each axis, with k' = dilation (k - 1) + 1 pixels from the first tap to
the last,

    tap t of the window at place i stands on pixel  i stride + t dilation - before
    places = floor((size + before + after - k') / stride) + 1

A sequence (N, L, C) is a picture of height one.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

__all__ = [
    "Geometry", "Pair", "Place", "geometry", "halves", "span", "taps", "transposed_geometry", "trimmed",
]  # fmt: skip

Pair = tuple[int, int]
Place = tuple[slice, slice]


class Geometry(NamedTuple):
    """What the kernels of convolution and pooling need to know besides the arrays.

    Attributes
    ----------
    size
        Height and width of the picture that the window moves over, without padding.
    kernel
        Height and width of the window: its taps.
    strides
        How far it moves down and to the right from one place to the next.
    dilation
        How many pixels its taps are apart, down and to the right.
    padding
        Pixels added ((above, below), (left, right)).
    groups
        Into how many groups the channels are divided; each filter sees the channels of one group.
    """

    size: Pair
    kernel: Pair
    strides: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]
    groups: int

    @property
    def places(self) -> Pair:
        """In how many places the window stands, down and to the right: the size of the output."""
        return _places(self)


def span(kernel: int, dilation: int) -> int:
    """Return how many pixels lie from the first tap to the last, both included."""
    return dilation * (kernel - 1) + 1


@lru_cache(maxsize=512)
def _places(geometry: Geometry) -> Pair:
    down, right = (
        (size + before + after - span(kernel, dilation)) // stride + 1
        for size, kernel, stride, dilation, (before, after) in zip(
            geometry.size, geometry.kernel, geometry.strides, geometry.dilation, geometry.padding, strict=True
        )
    )
    return down, right


def halves(total: int) -> Pair:
    """Return padding of ``total`` pixels, at least 0, as (before, after): the smaller half comes first."""
    total = max(total, 0)
    return total // 2, total - total // 2


def geometry(
    size: Pair, kernel: Pair, strides: Pair, padding: str, dilation: Pair = (1, 1), groups: int = 1
) -> Geometry:
    """Return the geometry of Keras's ``padding``.

    "valid"
        No padding: the window stays inside the picture.
    "same"
        As much as it takes for ceil(size / stride) places.
    "causal"
        All of it before the first pixel, so that no place sees what comes after it.
    """
    sides = []
    for n, k, stride, d in zip(size, kernel, strides, dilation, strict=True):
        if padding == "same":
            places = -(-n // stride)
            sides.append(halves((places - 1) * stride + span(k, d) - n))
        else:
            sides.append((span(k, d) - 1 if padding == "causal" else 0, 0))
    return Geometry(size, kernel, strides, dilation, (sides[0], sides[1]), groups)


def transposed_geometry(
    places: Pair, kernel: Pair, strides: Pair, padding: str, dilation: Pair, output_padding: Pair | None
) -> Geometry:
    """Return the geometry of the convolution whose backward pass to its input a transposed one computes.

    Its n places are given, and its size, the transposed one's output, is looked for (Keras's rules):

    without ``output_padding``
        n stride for "same", (n - 1) stride + max(k', stride) for "valid".
    with it
        (n - 1) stride + output_padding, and k' more for "valid", 1 more for "same" with an odd k'.
    """
    size, sides = [], []
    for axis, (n, k, stride, d) in enumerate(zip(places, kernel, strides, dilation, strict=True)):
        k = span(k, d)
        if output_padding is None:
            size.append(n * stride if padding == "same" else (n - 1) * stride + max(k, stride))
        else:
            least = k % 2 if padding == "same" else k
            size.append((n - 1) * stride + least + output_padding[axis])
        sides.append(halves((n - 1) * stride + k - size[axis]))
    return Geometry((size[0], size[1]), kernel, strides, dilation, (sides[0], sides[1]), 1)


def trimmed(geometry: Geometry) -> Geometry:
    """Return the windows of an undilated pooling without the taps that stand on no pixel at any place.

    They change nothing there, because padding counts neither as a maximum nor in a mean, but they would take
    time and memory: a window of a billion pixels has a border as wide. Along an axis of n pixels tap t
    stands on one at place i for 0 <= i stride + t - before < n.
    """
    kernel, padding = [], []
    for n, k, stride, places, (before, after) in zip(
        geometry.size, geometry.kernel, geometry.strides, geometry.places, geometry.padding, strict=True
    ):
        first = max(0, before - (places - 1) * stride)
        last = min(k - 1, before + n - 1)
        kernel.append(last + 1 - first)
        padding.append((before - first, after - (k - 1 - last)))
    return geometry._replace(kernel=(kernel[0], kernel[1]), padding=(padding[0], padding[1]))


def taps(geometry: Geometry) -> Iterator[tuple[Pair, Place]]:
    """Go through the taps of the window, row after row: each with the pixels it stands on.

    These are rows and columns of the padded picture, one for each place of the window.
    """
    for tap in product(*map(range, geometry.kernel)):
        rows, columns = (
            slice(t * d, t * d + (places - 1) * stride + 1, stride)
            for t, d, stride, places in zip(
                tap, geometry.dilation, geometry.strides, geometry.places, strict=True
            )
        )
        yield (tap[0], tap[1]), (rows, columns)
