"""Pictures as arrays, and folders of them as batches, under Keras's names."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from npnet.datasets import folders
from npnet.internal import checks, config
from npnet.utils.labels import to_categorical
from npnet.utils.py_dataset import PyDataset

__all__ = ["PictureBatches", "image_dataset_from_directory", "img_to_array", "load_img"]

MODES = {"rgb": "RGB", "grayscale": "L", "rgba": "RGBA"}
INTERPOLATIONS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1, "box": 4, "hamming": 5}


def load_img(
    path: str | os.PathLike[str],
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """Return a picture file as a Pillow image, upright as its EXIF orientation says.

    Parameters
    ----------
    color_mode
        "rgb", "grayscale" or "rgba". In the first two, what is transparent lies on white.
    target_size
        (height, width); by default the picture's own.
    interpolation
        "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming".
    keep_aspect_ratio
        Cut the picture to its middle instead of stretching it.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no picture, or damaged, or an argument does not fit.
    """
    from PIL import Image, ImageOps

    from npnet.datasets.picture_file import decoded, in_colours

    mode = config.lookup("color_mode", color_mode, MODES)
    resampling = Image.Resampling(config.lookup("interpolation", interpolation, INTERPOLATIONS))
    picture, _ = decoded(os.fspath(path), None)
    picture = picture.convert("RGBA") if mode == "RGBA" else in_colours(picture, mode)
    if target_size is None:
        return picture
    height, width = _size("target_size", target_size)
    if keep_aspect_ratio:
        return ImageOps.fit(picture, (width, height), resampling)
    return picture if picture.size == (width, height) else picture.resize((width, height), resampling)


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """Return a Pillow image as an array (height, width, channels), float32 by default, of 0 to 255."""
    _require("data_format", data_format, None, "channels_last")
    x = np.asarray(img, np.float32 if dtype is None else dtype)
    if x.ndim not in (2, 3):
        raise ValueError(f"img must be an image (height, width) or (height, width, channels), got {x.shape}.")
    return x[..., None] if x.ndim == 2 else x


def _require(name: str, value: Any, *allowed: Any) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}.")


def _size(name: str, size: Any) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"{name} must be (height, width), got {size!r}.")
    return checks.integer(name, size[0]), checks.integer(name, size[1])


class PictureBatches(PyDataset):
    """Batches of pictures read from their files when they are needed; see ``image_dataset_from_directory``.

    Attributes
    ----------
    class_names
        What the labels stand for.
    file_paths
        The files, in the order of the batches.
    """

    def __init__(
        self,
        pictures: folders.Pictures,
        label_mode: str | None,
        batch_size: int,
        **options: Any,
    ):
        super().__init__(workers=4)
        self.pictures, self.label_mode, self.batch_size = pictures, label_mode, batch_size
        self.options = options
        self.class_names = list(pictures.class_names)
        self.file_paths = [str(path) for path in pictures.files]

    def __len__(self) -> int:
        return -(-len(self.file_paths) // self.batch_size)

    def __getitem__(self, number: int) -> Any:
        rows = slice(number * self.batch_size, (number + 1) * self.batch_size)
        x = np.stack([img_to_array(load_img(path, **self.options)) for path in self.file_paths[rows]])
        labels = self.pictures.labels[rows]
        if self.label_mode is None:
            return x
        if self.label_mode == "categorical":
            return x, to_categorical(labels, len(self.class_names)).astype(np.float32)
        return x, labels[:, None].astype(np.float32) if self.label_mode == "binary" else labels.astype(
            np.int32
        )


@config.keras_arguments(follow_links=config.ANY, pad_to_aspect_ratio=False, format=config.ANY)
def image_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: str = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int = 32,
    image_size: tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    crop_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    verbose: bool = True,
) -> Any:
    """Return a folder of pictures, one sub-folder a class, as batches for ``fit``, ``evaluate``, ``predict``.

    A batch is read when it is needed: x float32 (batch, height, width, channels) of 0 to 255, and labels.
    Links are followed.

    Parameters
    ----------
    labels
        "inferred": from the sub-folders. (Keras takes lists, too.)
    label_mode
        "int": (batch,) indices of classes; "categorical": one-hot rows; "binary": (batch, 1) of 0 or 1;
        None: no labels.
    class_names
        The sub-folders in the order of the labels; by default the alphabetical one.
    color_mode
        "rgb", "grayscale" or "rgba".
    image_size
        (height, width).
    shuffle
        Mix the files once, as ``seed`` says. ``fit`` takes the batches in a new order in each epoch besides.
    validation_split, subset
        The fraction held out, the last files of the mixed ones, and which part to return: "training",
        "validation" or "both". Both parts need the same ``seed``.
    crop_to_aspect_ratio
        Cut pictures to their middle instead of stretching them.
    data_format
        "channels_last" or None.
    verbose
        Print how many files there are.

    Raises
    ------
    OSError, ValueError
        If there is no such folder, a class without pictures, or an argument does not fit. A picture that
        cannot be read raises when its batch is read, with its name.
    """
    _require("labels", labels, "inferred")
    _require("data_format", data_format, None, "channels_last")
    if label_mode not in ("int", "categorical", "binary", None):
        raise ValueError(f'label_mode must be "int", "categorical", "binary" or None, got {label_mode!r}.')
    if (validation_split is None) != (subset is None) or subset not in (
        None,
        "training",
        "validation",
        "both",
    ):
        raise ValueError(
            'validation_split and subset ("training", "validation" or "both") belong together, got'
            f" {validation_split!r} and {subset!r}."
        )
    if validation_split is not None and checks.flag("shuffle", shuffle) and seed is None:
        raise ValueError("validation_split needs a seed, or shuffle=False: both parts must be cut alike.")
    image_size = _size("image_size", image_size)
    config.lookup("color_mode", color_mode, MODES)
    config.lookup("interpolation", interpolation, INTERPOLATIONS)
    pictures = folders.find(directory, class_names)
    if label_mode == "binary" and len(pictures.class_names) != 2:
        raise ValueError(f'label_mode="binary" needs two classes, got {", ".join(pictures.class_names)}.')
    if shuffle:
        rng = np.random.default_rng(None if seed is None else checks.integer("seed", seed, least=0))
        pictures = pictures.some(rng.permutation(len(pictures.files)))
    n = len(pictures.files)
    kept = n if validation_split is None else n - int(n * checks.share("validation_split", validation_split))
    if validation_split is not None and kept == n:
        raise ValueError(f"validation_split={validation_split} of {n} pictures leaves none to validate on.")
    if verbose:
        print(f"Found {n} files belonging to {len(pictures.class_names)} classes.")

    def batches(start: int, stop: int) -> PictureBatches:
        return PictureBatches(
            pictures.some(np.arange(start, stop)),
            label_mode,
            checks.integer("batch_size", batch_size),
            color_mode=color_mode,
            target_size=image_size,
            interpolation=interpolation,
            keep_aspect_ratio=crop_to_aspect_ratio,
        )

    parts = {"training": batches(0, kept), "validation": batches(kept, n)}
    return (parts["training"], parts["validation"]) if subset == "both" else parts[subset or "training"]
