"""What the pictures of ``plotting`` are given, checked."""

from typing import Any

import numpy as np

from npnet.internal import checks

__all__ = ["check_classes", "check_images", "class_probabilities", "in_unit"]


def check_images(name: str, values: np.ndarray) -> np.ndarray:
    """Return images (N, H, W), (N, H, W, 1) or (N, H, W, 3) of bytes or of floats in 0..1."""
    images = checks.array(name, values)
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)) or not images.size:
        hint = " Unflatten them: images.reshape(-1, 32, 32, 3)." if images.ndim == 2 else ""
        raise ValueError(
            f"{name} must be (N, H, W), (N, H, W, 1) or (N, H, W, 3), got shape {images.shape}.{hint}"
        )
    low, high = images.min(), images.max()
    if images.dtype != np.uint8 and (images.dtype.kind != "f" or not (low >= 0 and high <= 1)):
        raise ValueError(
            f"{name} must be uint8 in 0..255 or floats in 0..1, got {images.dtype} in {low:.4g}..{high:.4g}."
            " Pass the pixels as they were before normalisation."
        )
    return images


def in_unit(images: np.ndarray) -> np.ndarray:
    """Return checked images as floats in 0..1."""
    return images / 255 if images.dtype == np.uint8 else images


def check_classes(name: str, values: np.ndarray, size: int) -> np.ndarray:
    """Class indices (N,), whichever way the labels were given."""
    labels = checks.array(name, values)
    if labels.ndim == 2 and labels.shape[1] == size > 1:
        if not np.isfinite(labels).all():
            row = np.flatnonzero(~np.isfinite(labels).all(axis=1))[0]
            raise ValueError(f"{name} must be finite, got nan or inf in row {row}. Did the training diverge?")
        return labels.argmax(axis=1)
    if not labels.size or labels.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name} must be class indices (N,) or (N, 1), or scores (N, {size}), got shape {labels.shape}."
        )
    classes = checks.labels(name, labels.reshape(-1))
    checks.label_range(name, classes, size, f"a choice of {size} classes")
    return classes


def class_probabilities(model: Any, x: np.ndarray) -> np.ndarray:
    """The model's probabilities (N, K); a single output is the probability of the second of two classes."""
    y = np.asarray(model.predict(x, batch_size=4096, verbose=0), dtype=float)
    if not np.isfinite(y).all():
        raise ValueError("model must predict finite numbers, got nan or inf. Did the training diverge?")
    return np.hstack([1 - y, y]) if y.shape[1] == 1 else y
