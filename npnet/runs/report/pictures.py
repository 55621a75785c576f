"""The pictures of a report as ``data:`` addresses: pixels without captions, which the page writes itself."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy

from npnet import plotting
from npnet.internal.files import write_atomically
from npnet.models import Sequential
from npnet.plotting.canvas import percent
from npnet.runs.folder import RunFolder

__all__ = [
    "FILE",
    "LOOKS",
    "MAPS",
    "SAMPLES",
    "UNITS",
    "Content",
    "address",
    "keep_images",
    "one_a_class",
    "png",
    "read",
]

FILE = "images.safetensors"
SAMPLES, UNITS, MAPS, LOOKS = 32, 64, 16, 8
Content = dict[str, Any]


def keep_images(folder: RunFolder, samples: np.ndarray, labels: np.ndarray, mistakes: np.ndarray) -> None:
    """Keep the pixels of the first samples and of the mistakes in the run's folder, for its report.

    Parameters
    ----------
    samples, mistakes : uint8 arrays (N, H, W), (N, H, W, 1) or (N, H, W, 3)
        The mistakes in the order of the run's result.json.
    labels : (N,) array
        The samples' class indices.
    """
    arrays = {"samples": samples[:SAMPLES], "labels": labels[:SAMPLES], "mistakes": mistakes}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(folder / FILE, safetensors.numpy.save(arrays))


def read(
    folder: RunFolder,
    model: "Sequential | None",
    names: Sequence[str],
    mistakes: Sequence[Mapping[str, Any]],
) -> Content:
    """Return the samples, the mistakes, and the units or filters of the first layer.

    Of a convolutional network also the feature maps of the first sample, and where it looks in some of them.

    Raises
    ------
    ValueError
        If the file of ``keep_images`` is damaged.
    """
    content: Content = {"samples": [], "mistakes": [], "maps": [], "looks": [], "units": []}
    content["convolves"] = bool(model and plotting.convolves(model))
    if names and (folder / FILE).exists():
        try:
            kept = safetensors.numpy.load_file(folder / FILE)
            content["samples"] = [
                {"source": png(image), "index": int(k), "name": names[k]}
                for image, k in zip(kept["samples"], kept["labels"], strict=True)
            ]
            content["mistakes"] = [
                {
                    "source": png(image),
                    "true": names[mistake["true"]],
                    "answer": names[mistake["predicted"]],
                    "probability": percent(mistake["probability"], 1),
                }
                for image, mistake in zip(kept["mistakes"], mistakes, strict=False)
            ]
            if model and content["convolves"]:
                content |= _inside(model, kept["samples"], kept["labels"], names)
        except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder / FILE} is damaged ({error}). Delete it for a report without."
            ) from error
    if model and model.input_shape and len(model.input_shape) == 3:
        units, noun, total = plotting.first_layer_images(model, model.input_shape, UNITS)
        content |= {"units": [_png(unit) for unit in units], "unit": noun, "units_in_all": total}
        content["unit_shape"] = " x ".join(map(str, units.shape[1:]))
    return content


def one_a_class(labels: np.ndarray) -> np.ndarray:
    """Return where the first picture of each class is, of the first ``LOOKS`` classes that occur."""
    return np.sort(np.unique(labels, return_index=True)[1])[:LOOKS]


def _inside(model: Sequential, samples: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Content:
    """Return the feature maps of the first sample, and where the network looks in a sample of each class."""
    looks = [(names[labels[i]], plotting.occlude(model, samples[i], labels[i])) for i in one_a_class(labels)]
    return {
        "maps": [
            {
                "name": row.name,
                "shape": " x ".join(map(str, row.shape)),
                "sources": [_png(picture) for picture in row.images],
            }
            for row in plotting.feature_map_images(model, samples[0], MAPS)
        ],
        "looks": [
            {
                "name": name,
                "picture": _png(look.picture),
                "spotlight": _png(look.spotlight),
                "probability": percent(look.probability),
                "lowest": percent(look.lowest),
            }
            for name, look in looks
        ],
    }


def _png(image: np.ndarray) -> str:
    """Return an image of floats in 0..1 as the address of a PNG."""
    return png(np.round(255 * image).astype(np.uint8))


def png(image: np.ndarray) -> str:
    """Return an image of bytes as the address of a PNG."""
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).save(memory, "PNG", optimize=True)
    return address(memory.getvalue())


def address(content: bytes) -> str:
    """Return a PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
