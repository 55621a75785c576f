"""CIFAR-100: 60,000 colour pictures of 32x32 pixels in a hundred classes (Krizhevsky, 2009)."""

import os
from pathlib import Path

import numpy as np

from npnet.datasets import archive, pickled, published
from npnet.datasets.errors import CorruptDatasetError
from npnet.datasets.published import Arrays, File, Form, Published

__all__ = ["CLASS_NAMES", "COARSE_NAMES", "DATASET", "Split", "load_data"]

CLASS_NAMES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
    "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
    "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin",
    "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp",
    "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
    "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television",
    "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf",
    "woman", "worm",
)  # fmt: skip
COARSE_NAMES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores",
    "medium_mammals", "non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees",
    "vehicles_1", "vehicles_2",
)  # fmt: skip

RECORDS = {"train": 50_000, "test": 10_000}
PIXELS = 3 * 32 * 32  # bytes of a picture
_BYTES = 2 * PIXELS + 512  # of a picture, at most: Python 3 may write bytes as text; the rest is for its name

Split = tuple[np.ndarray, np.ndarray]


def load_data(label_mode: str = "fine", path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)`` of CIFAR-100, as Keras returns them.

    npnet's cache is looked at first, then Keras's and torchvision's usual ``./data``, and last the archive is
    fetched; ``NPNET_MIRROR`` names a server of your own. The arrays are the caller's to change.

    Parameters
    ----------
    label_mode : str
        "fine" for 100 classes, "coarse" for the 20 they belong to.
    path : path-like, optional
        An archive in Python or binary form, or a folder with one or with its files.

    Returns
    -------
    x_train, x_test : uint8 array (50000, 32, 32, 3), (10000, 32, 32, 3)
        Red, green, blue from 0 to 255.
    y_train, y_test : uint8 array (50000, 1), (10000, 1)
        Indices into `CLASS_NAMES`, or `COARSE_NAMES`.

    Raises
    ------
    ValueError
        `label_mode` is something else.
    FileNotFoundError
        There is nothing at the given path.
    CorruptDatasetError
        What is at the given path is not CIFAR-100, or damaged.
    DatasetUnavailableError
        No path was given, and it could neither be found nor fetched.
    """
    if label_mode not in ("fine", "coarse"):
        raise ValueError(f'label_mode must be "fine" or "coarse", got {label_mode!r}.')
    arrays = published.load(DATASET, path)
    train, test = (arrays[f"{label_mode}_{part}"] for part in RECORDS)
    return (arrays["x_train"], train), (arrays["x_test"], test)


def _archive(paths: dict[str, Path]) -> Arrays:
    """The arrays of an archive, of the form that its members have."""
    (path,) = paths.values()
    forms = {"cifar-100-python/{}": _pickled, "cifar-100-binary/{}.bin": _binary}
    known = {name.format(part): (part, read) for name, read in forms.items() for part in RECORDS}
    arrays: Arrays = {}
    with path.open("rb") as file:
        for name, content in archive.members(
            file, {name: RECORDS[part] * _BYTES for name, (part, _) in known.items()}
        ):
            part, read = known[name]
            arrays |= read(part, content)
    return _complete(arrays)


def _folder(paths: dict[str, Path]) -> Arrays:
    """The arrays of the two files that an archive holds."""
    arrays: Arrays = {}
    for part, path in zip(RECORDS, paths.values(), strict=True):
        limit = RECORDS[part] * _BYTES
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise CorruptDatasetError(f"{path.name} is larger than the {limit} bytes it may have")
        arrays |= (_binary if path.suffix == ".bin" else _pickled)(part, content)
    return _complete(arrays)


def _complete(arrays: Arrays) -> Arrays:
    for part in RECORDS:
        if f"x_{part}" not in arrays:
            raise CorruptDatasetError(f"{part} is missing")
    return arrays


def _binary(part: str, content: bytes) -> Arrays:
    """Records of a coarse label, a fine label and the pixels."""
    if len(content) != RECORDS[part] * (2 + PIXELS):
        raise CorruptDatasetError(
            f"{part} has {len(content)} bytes, expected {RECORDS[part]} records of {2 + PIXELS}"
        )
    table = np.frombuffer(content, np.uint8).reshape(-1, 2 + PIXELS)
    return _arrays(part, table[:, 2:], table[:, 1], table[:, 0])


def _pickled(part: str, content: bytes) -> Arrays:
    """A pickled dict of ``data``, ``fine_labels`` and ``coarse_labels``."""
    records = RECORDS[part]
    batch = pickled.load(content, most_operations=30 * records + 1000)
    if not isinstance(batch, dict):
        raise CorruptDatasetError(f"{part}: a pickled {type(batch).__name__}, expected a dict")
    match batch.get(b"data", batch.get("data")):
        case pickled.PickledArray(shape, "u1" | b"u1", False, bytes(pixels)) if (
            shape == (records, PIXELS) and len(pixels) == records * PIXELS
        ):
            table = np.frombuffer(pixels, np.uint8).reshape(records, PIXELS)
        case _:
            raise CorruptDatasetError(f"{part}: 'data' is no array of uint8 ({records}, {PIXELS}) in C order")
    found = []
    for name in ("fine_labels", "coarse_labels"):
        labels = batch.get(name.encode(), batch.get(name))
        if not (isinstance(labels, list) and len(labels) == records):
            raise CorruptDatasetError(f"{part}: {name!r} is no list of {records} numbers")
        if not all(type(label) is int and 0 <= label <= 255 for label in labels):
            raise CorruptDatasetError(f"{part}: {name!r} holds something else than small numbers")
        found.append(np.array(labels, np.uint8))
    return _arrays(part, table, *found)


def _arrays(part: str, pixels: np.ndarray, fine: np.ndarray, coarse: np.ndarray) -> Arrays:
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return {
        f"x_{part}": images,
        f"fine_{part}": fine[:, None].copy(),
        f"coarse_{part}": coarse[:, None].copy(),
    }


DATASET = Published(
    "cifar100",
    "CIFAR-100",
    (
        Form(
            (
                File(
                    "cifar-100-python.tar.gz",
                    169_001_437,
                    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                ),
            ),
            _archive,
            servers=("https://www.cs.toronto.edu/~kriz/",),
            keras=("",),
            torchvision=("",),
        ),
        Form(
            (
                File("train", md5="16019d7e3df5f24257cddd939b257f8d"),
                File("test", md5="f0ef6b0ae62326f3e7ffdfab6717acfc"),
            ),
            _folder,
            keras=("cifar-100-python-target/cifar-100-python", "cifar-100-python"),
            torchvision=("cifar-100-python",),
        ),
    ),
    {
        f"{name}_{part}": (count, *shape)
        for part, count in RECORDS.items()
        for name, shape in (("x", (32, 32, 3)), ("fine", (1,)), ("coarse", (1,)))
    },
    {"fine_train": 100, "fine_test": 100, "coarse_train": 20, "coarse_test": 20},
)
