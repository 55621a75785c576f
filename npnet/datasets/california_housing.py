"""California housing: 20,640 districts of the census of 1990, eight numbers each, and what a house cost."""

import os
from pathlib import Path

import numpy as np

from npnet.datasets import npz, published
from npnet.datasets.published import KERAS, Arrays, File, Form, Published
from npnet.internal import checks

__all__ = ["DATASET", "FEATURE_NAMES", "TARGET_NAME", "Split", "load_data"]

FEATURE_NAMES = (
    "longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population",
    "households", "median_income",
)  # fmt: skip

TARGET_NAME = "median_house_value"

SHAPES: dict[str, tuple[int, ...]] = {"x": (20_640, 8), "y": (20_640,)}
SMALL = 600  # districts of the version "small"

Split = tuple[np.ndarray, np.ndarray]


def load_data(
    version: str = "large",
    path: str | os.PathLike[str] = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)`` of California housing, split as Keras splits it.

    npnet's cache is looked at first, then Keras's, and last the file is fetched; ``NPNET_MIRROR`` names a
    server of your own.

    Parameters
    ----------
    version : str
        "large", or "small" for the first 600 districts.
    path : path-like, optional
        california_housing.npz, or a folder with it.
    test_split : float
        Fraction of the districts to test on.
    seed : int
        Of the order in which they are split.

    Returns
    -------
    x_train, x_test : float array (N, 8)
        `FEATURE_NAMES`.
    y_train, y_test : float array (N,)
        The median value of a house, in dollars.

    Raises
    ------
    TypeError, ValueError
        An argument is out of its range.
    FileNotFoundError
        There is nothing at the given path.
    CorruptDatasetError
        What is at the given path is not the data set, or damaged.
    DatasetUnavailableError
        No path was given, and it could neither be found nor fetched.
    """
    if version not in ("large", "small"):
        raise ValueError(f'version must be "large" or "small", got {version!r}.')
    test_split = checks.share("test_split", test_split)
    arrays = published.load(DATASET, path)
    count = SMALL if version == "small" else len(arrays["x"])
    # Keras's own generator, of this call alone: NumPy's global one is left as it is.
    order = np.random.RandomState(checks.integer("seed", seed, least=0)).permutation(count)
    x, y = arrays["x"][:count][order], arrays["y"][:count][order]
    kept = int(count * (1 - test_split))
    return (x[:kept], y[:kept]), (x[kept:], y[kept:])


def _read(paths: dict[str, Path]) -> Arrays:
    (path,) = paths.values()
    return npz.read(path, {name: (shape, "f") for name, shape in SHAPES.items()})


DATASET = Published(
    "california_housing",
    "California housing",
    (
        Form(
            (
                File(
                    "california_housing.npz",
                    743_530,
                    sha256="1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
                ),
            ),
            _read,
            servers=(KERAS,),
            keras=("",),
        ),
    ),
    SHAPES,
    kept=False,
)
