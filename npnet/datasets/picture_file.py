"""A picture file as a sample of a network: decoded, upright, in the network's colours and size."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FORMATS", "MODES", "ON_ITS_SIDE", "ORIENTATION", "decoded", "in_colours", "read_picture"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MODES = {1: "L", 3: "RGB"}  # Pillow's names of grey and colour, by channels
OF_PILLOW = r"PIL\."
ORIENTATION, ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # the tag of EXIF, and its values for a quarter turn

_counting, _decoding = threading.Lock(), 0  # how many pictures are being decoded


def read_picture(path: str | Path, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Return a picture as uint8 (H, W, C), and in words what was done to its size.

    It is turned as its EXIF orientation says, put on white where it is transparent, cut to its middle if it
    has other proportions than the network's samples, and brought to their size by cubic interpolation
    that takes every pixel into account.

    Parameters
    ----------
    path
        A PNG, JPEG, WebP, GIF, BMP or TIFF file of any size and mode: colour, grey, palette, CMYK, 16 bits,
        with transparency. Of several frames the first counts.
    shape
        (H, W, C) of a sample; C is 1 for grey or 3 for red, green, blue.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no such file, is damaged, or holds more pixels than any photograph (179 million).
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    upright, size = decoded(path, (4 * width, 4 * height))
    plain = in_colours(upright, MODES[channels])
    result = np.array(ImageOps.fit(plain, (width, height), Image.Resampling.BICUBIC))
    return result.reshape(shape), _changes(size, (width, height))


def decoded(path: str | Path, enough: tuple[int, int] | None) -> tuple[Any, tuple[int, int]]:
    """Return the picture of a file, upright and of ``enough`` pixels (None: all), and its size in the file.

    Nothing but Pillow reading the file happens here: whatever goes wrong is in the file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    data = Path(path).read_bytes()
    try:
        with _without_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            size = picture.size
            if picture.getexif().get(ORIENTATION) in ON_ITS_SIDE:
                size = size[1], size[0]
            if enough:
                picture.draft(None, enough)  # a JPEG need not be unpacked whole to be shrunk
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise ValueError(
            f"{path} is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file, or damaged at its beginning."
        ) from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} holds more pixels than any photograph and is not opened.") from None
    except Exception as error:  # a damaged file ends in anything: SyntaxError, struct.error, EOFError ...
        raise ValueError(f"{path} is damaged: {error}.") from error
    if upright.mode == "F":
        raise ValueError(
            f"{path} holds floating-point numbers, and does not say which are black and white. Save it with 8"
            " or 16 bits a channel."
        )
    return upright, size


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings of what is odd and can be decoded all the same.

    Several threads decode at once, so this is not ``catch_warnings``: of two that overlap, the one that ends
    last puts back what it found, the other's "ignore", and no warning of the process is ever shown again.
    """
    global _decoding
    with _counting:
        if _decoding == 0:
            warnings.filterwarnings("ignore", module=OF_PILLOW)
        _decoding += 1
    try:
        yield
    finally:
        with _counting:
            _decoding -= 1
            if _decoding == 0:
                warnings.filters[:] = [  # type: ignore[index]
                    each for each in warnings.filters if getattr(each[3], "pattern", None) != OF_PILLOW
                ]


def in_colours(picture: Any, mode: str) -> Any:
    """Return a Pillow image in a mode of 8 bits a channel, its transparent parts on white."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits a pixel
        grey = np.asarray(picture).astype(np.int64) >> 8
        picture = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        opaque = Image.new("RGBA", picture.size, "white")
        opaque.alpha_composite(picture.convert("RGBA"))
        picture = opaque
    return picture.convert("RGB").convert(mode)


def _changes(size: tuple[int, int], wanted: tuple[int, int]) -> str:
    """Return "1200x800, middle 800x800 taken, shrunk to 32x32"."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    middle = round(scale * wanted[0]), round(scale * wanted[1])
    words = [f"{size[0]}x{size[1]}"]
    if middle != size:
        words.append(f"middle {middle[0]}x{middle[1]} taken")
    if middle != wanted:
        words.append(f"{'shrunk' if scale > 1 else 'enlarged'} to {wanted[0]}x{wanted[1]}")
    return ", ".join(words)
