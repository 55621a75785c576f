"""Small data and small models for tests."""

import warnings

import numpy as np

import npnet


def random(seed, *shape):
    """Return standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def one_hot(n, classes):
    """Return n one-hot rows that go round the classes."""
    return np.eye(classes)[np.arange(n) % classes]


def compiled(layers, loss="mse", dtype="float64", seed=0, **options):
    """Return a compiled model, silent about a last activation that does not suit the loss."""
    model = npnet.Sequential(layers, dtype=dtype, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.compile(loss=loss, **{"kernels": "numpy", **options})
    return model
