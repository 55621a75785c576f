"""Points on spiral arms in the plane, one arm for each class: no straight line tells them apart."""

import numpy as np

from npnet.internal import checks

__all__ = ["Split", "load_data"]

Split = tuple[np.ndarray, np.ndarray]


def load_data(
    n_per_class: int = 200, classes: int = 3, noise: float = 0.2, seed: int = 0
) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)``; the test points are as many again, drawn anew.

    A point of class k at radius r in [0, 1] lies at the angle
    2 pi k / classes + 4 r + noise z,  z ~ N(0, 1).

    Parameters
    ----------
    n_per_class : int
        Points on each arm, from 1 on.
    classes : int
        Number of arms, 2 to 256.
    noise : float
        Standard deviation of the angle, in radians.
    seed : int
        Same seed, same points.

    Returns
    -------
    x_train, x_test : float32 array (n_per_class * classes, 2)
    y_train, y_test : uint8 array (n_per_class * classes, 1)

    Raises
    ------
    TypeError, ValueError
        A number is of another kind, or out of its range.

    References
    ----------
    A. Karpathy, CS231n, "Putting it together: minimal neural network case study".
    """
    n_per_class = checks.integer("n_per_class", n_per_class)
    classes = checks.integer("classes", classes, least=2)
    if classes > 256:
        raise ValueError(f"classes must be at most 256, got {classes}.")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise must be a number of radians from 0 on, got {noise}.")
    train, test = np.random.SeedSequence(checks.integer("seed", seed, least=0)).spawn(2)
    return _draw(n_per_class, classes, noise, train), _draw(n_per_class, classes, noise, test)


def _draw(n_per_class: int, classes: int, noise: float, seed: np.random.SeedSequence) -> Split:
    rng = np.random.default_rng(seed)
    radius = np.tile(np.linspace(0, 1, n_per_class), classes)
    label = np.repeat(np.arange(classes), n_per_class)
    angle = 2 * np.pi * label / classes + 4 * radius + noise * rng.standard_normal(label.size)
    order = rng.permutation(label.size)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    return x[order], label.astype(np.uint8)[order, None]
