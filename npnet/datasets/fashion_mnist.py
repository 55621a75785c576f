"""Fashion-MNIST: 70,000 grey pictures of clothes, 28x28 pixels (Xiao, Rasul and Vollgraf, 2017)."""

import os

import numpy as np

from npnet.datasets import digits, published
from npnet.datasets.published import KERAS, Form, Published

__all__ = ["CLASS_NAMES", "DATASET", "Split", "load_data"]

CLASS_NAMES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
DATASET = Published(
    "fashion_mnist",
    "Fashion-MNIST",
    (
        Form(
            digits.files(
                (26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                (29_515, "25c81989df183df01b3e8a0aad5dffbe"),
                (4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
                (5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
            ),
            digits.read_idx,
            servers=(KERAS,),
            keras=("fashion-mnist", "datasets/fashion-mnist"),
            torchvision=("FashionMNIST/raw",),
        ),
    ),
    digits.SHAPES,
    digits.CLASSES,
)

Split = tuple[np.ndarray, np.ndarray]


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)`` of Fashion-MNIST, as Keras returns them.

    npnet's cache is looked at first, then Keras's and torchvision's usual ``./data``, and last the files are
    fetched; ``NPNET_MIRROR`` names a server of your own. The arrays are the caller's to change.

    Parameters
    ----------
    path : path-like, optional
        A folder with the four idx files, packed or not.

    Returns
    -------
    x_train, x_test : uint8 array (60000, 28, 28), (10000, 28, 28)
        Grey from 0, the background, to 255.
    y_train, y_test : uint8 array (60000,), (10000,)
        Indices into `CLASS_NAMES`.

    Raises
    ------
    FileNotFoundError
        There is nothing at the given path.
    CorruptDatasetError
        What is at the given path is not Fashion-MNIST, or damaged.
    DatasetUnavailableError
        No path was given, and it could neither be found nor fetched.
    """
    arrays = published.load(DATASET, path)
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
