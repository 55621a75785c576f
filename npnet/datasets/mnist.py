"""MNIST: 70,000 grey pictures of handwritten digits, 28x28 pixels (LeCun, Cortes and Burges, 1998)."""

import os

import numpy as np

from npnet.datasets import digits, published
from npnet.datasets.published import KERAS, File, Form, Published

__all__ = ["CLASS_NAMES", "DATASET", "Split", "load_data"]

CLASS_NAMES = tuple("0123456789")
DATASET = Published(
    "mnist",
    "MNIST",
    (
        Form(
            (
                File(
                    "mnist.npz",
                    11_490_434,
                    sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
                ),
            ),
            digits.read_npz,
            servers=(KERAS,),
            keras=("",),
        ),
        Form(
            digits.files(
                (9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                (28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
                (1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
                (4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
            ),
            digits.read_idx,
            servers=("https://ossci-datasets.s3.amazonaws.com/mnist/",),
            torchvision=("MNIST/raw",),
        ),
    ),
    digits.SHAPES,
    digits.CLASSES,
)

Split = tuple[np.ndarray, np.ndarray]


def load_data(path: str | os.PathLike[str] = "mnist.npz") -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)`` of MNIST, as Keras returns them.

    npnet's cache is looked at first, then Keras's and torchvision's usual ``./data``, and last the files are
    fetched; ``NPNET_MIRROR`` names a server of your own. The arrays are the caller's to change.

    Parameters
    ----------
    path : path-like, optional
        mnist.npz, or a folder with it or with the four idx files, packed or not.

    Returns
    -------
    x_train, x_test : uint8 array (60000, 28, 28), (10000, 28, 28)
        Grey from 0, the paper, to 255.
    y_train, y_test : uint8 array (60000,), (10000,)
        Indices into `CLASS_NAMES`.

    Raises
    ------
    FileNotFoundError
        There is nothing at the given path.
    CorruptDatasetError
        What is at the given path is not MNIST, or damaged.
    DatasetUnavailableError
        No path was given, and it could neither be found nor fetched.
    """
    arrays = published.load(DATASET, path)
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
