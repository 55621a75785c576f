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

__all__ = ["FILE", "SAMPLES", "UNITS", "Content", "address", "keep_images", "png", "read"]

FILE = "images.safetensors"
SAMPLES, UNITS = 32, 64
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
    """Return the samples, the mistakes, the units of the first layer and the decision boundary.

    Raises
    ------
    ValueError
        If the file of ``keep_images`` is damaged.
    """
    content: Content = {"samples": [], "mistakes": [], "units": [], "units_in_all": 0, "boundary": None}
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
        except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder / FILE} is damaged ({error}). Delete it for a report without."
            ) from error
    if model and model.input_shape and len(model.input_shape) == 3:
        units, total = plotting.first_layer_images(model, model.input_shape, UNITS)
        content["units"] = [png(np.round(255 * unit).astype(np.uint8)) for unit in units]
        content["units_in_all"] = total
    if (folder / "boundary.png").exists():
        content["boundary"] = address((folder / "boundary.png").read_bytes())
    return content


def png(image: np.ndarray) -> str:
    """Return an image of bytes as the address of a PNG."""
    from PIL import Image

    memory = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).save(memory, "PNG", optimize=True)
    return address(memory.getvalue())


def address(content: bytes) -> str:
    """Return a PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
