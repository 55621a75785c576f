"""Ten shapes in colour on a busy background, drawn on the spot: 32x32 pictures that need no network.

The interface is that of `cifar10`. Position, size, turn, colours, background and distractors differ from
picture to picture.
"""

import math
from collections.abc import Callable

import numpy as np

from npnet.internal import checks

__all__ = ["CLASS_NAMES", "Distance", "Split", "load_data"]

Split = tuple[np.ndarray, np.ndarray]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]

_SIDE = 32
_SIZES = 7.0, 11.0  # radius in pixels
_OFFSET = 5.0  # pixels from the middle, at most
_TURN = 0.5  # radians to either side, at most
# A network without convolutions hardly learns a shape that is lighter than its ground here and darker there.
_DARK, _CONTRAST = 0.6, 0.2  # grounds are darker than the one, inks lighter than the ground by the other
_CELLS, _ROUGHNESS = 5, 0.12  # the ground's colour changes over a grid of so many cells by so much
_SPOTS = 3  # small bars that mean nothing
_NOISE = 0.08

_CHUNK = 200  # pictures drawn at a time: their arrays fit into a processor's cache


# --- the shapes: distance from the outline in units of the size, negative inside ----------------------------


def _star(points: int, inner: float) -> Distance:
    """A star of radius 1 with its valleys at the radius `inner`; a regular polygon if they lie on its edges.

    Folding the plane by the symmetry of the star leaves one edge, from a tip at the angle 0 to a valley at
    pi / points. The distance is the one from the line through that edge.
    """
    wedge = math.pi / points
    across, along = inner * math.sin(wedge), 1.0 - inner * math.cos(wedge)
    normal_x, normal_y = across / math.hypot(across, along), along / math.hypot(across, along)

    def distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        angle = np.abs(np.mod(np.arctan2(u, -v) + wedge, 2 * wedge) - wedge)
        radius = np.hypot(u, v)
        return radius * (np.cos(angle) * normal_x + np.sin(angle) * normal_y) - normal_x

    return distance


def _polygon(corners: int) -> Distance:
    return _star(corners, math.cos(math.pi / corners))


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.85


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(u, v) - 0.7) - 0.2


def _crescent(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(u, v) - 0.95, 0.75 - np.hypot(u - 0.5, v))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(u, v) - 0.27, np.maximum(u, v) - 0.95)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square on its corner with a half disc on each of its upper edges."""
    u, v = np.abs(u), v + 0.08
    return np.minimum((u + np.abs(v) - 0.78) * math.sqrt(0.5), np.hypot(u - 0.39, v + 0.39) - 0.55)


def _bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u) - 1.0, np.abs(v) - 0.3)


_SHAPES: dict[str, Distance] = {
    "circle": _circle,
    "ring": _ring,
    "crescent": _crescent,
    "triangle": _polygon(3),
    "square": _polygon(4),
    "star": _star(5, 0.42),
    "spark": _star(4, 0.35),
    "cross": _cross,
    "heart": _heart,
    "bar": _bar,
}
CLASS_NAMES = tuple(_SHAPES)


def load_data(n_train: int = 20_000, n_test: int = 4_000, seed: int = 0) -> tuple[Split, Split]:
    """``(x_train, y_train), (x_test, y_test)``: drawn pictures of ten shapes, as many of each.

    Parameters
    ----------
    n_train, n_test : int
        Pictures in each part, from 1 on.
    seed : int
        Same seed, same pictures. The test part does not depend on `n_train`.

    Returns
    -------
    x_train, x_test : uint8 array (n_train, 32, 32, 3), (n_test, 32, 32, 3)
        Red, green, blue from 0 to 255.
    y_train, y_test : uint8 array (n_train, 1), (n_test, 1)
        Indices into `CLASS_NAMES`.

    Raises
    ------
    TypeError, ValueError
        A number of pictures is no integer from 1 on, or the seed none from 0 on.
    """
    n_train, n_test = checks.integer("n_train", n_train), checks.integer("n_test", n_test)
    train, test = np.random.SeedSequence(checks.integer("seed", seed, least=0)).spawn(2)
    return _draw_all(n_train, train), _draw_all(n_test, test)


def _draw_all(count: int, seed: np.random.SeedSequence) -> Split:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(CLASS_NAMES)).astype(np.uint8)
    images = np.empty((count, _SIDE, _SIDE, 3), np.uint8)
    for label, distance in enumerate(_SHAPES.values()):
        rows = np.flatnonzero(labels == label)
        for start in range(0, rows.size, _CHUNK):
            chunk = rows[start : start + _CHUNK]
            images[chunk] = _draw(distance, chunk.size, rng)
    return images, labels[:, None]


# --- drawing n pictures at once: arrays (n, 1024 pixels) or (n, 3 colours, 1024), values from 0 to 1 --------

_ROWS, _COLUMNS = np.divmod(np.arange(_SIDE * _SIDE, dtype=np.float32), np.float32(_SIDE))


def _draw(distance: Distance, n: int, rng: np.random.Generator) -> np.ndarray:
    ground = _DARK * _colours(n, rng)
    image = _texture(ground, rng)
    for _ in range(_SPOTS):
        _paint(image, _colours(n, rng), _place(_bar, n, rng, offset=16.0, size=(1.5, 4.0), turn=math.pi))
    ink = ground + _CONTRAST + (1 - _CONTRAST - ground) * _colours(n, rng)
    _paint(image, ink, _place(distance, n, rng, _OFFSET, _SIZES, _TURN))
    image += _NOISE * rng.standard_normal(image.shape, dtype=np.float32)
    pixels = (255 * np.clip(image, 0, 1)).astype(np.uint8)
    return pixels.transpose(0, 2, 1).reshape(n, _SIDE, _SIDE, 3)


def _colours(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((n, 3, 1), dtype=np.float32)


def _texture(ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colours around `ground` on a coarse grid, blended linearly in between."""
    at = np.linspace(0, _CELLS - 1, _SIDE, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(np.arange(_CELLS, dtype=np.float32)[:, None] - at))  # (cells, 32)
    shifts = rng.standard_normal((len(ground), 3, _CELLS * _CELLS), dtype=np.float32)
    return (ground + _ROUGHNESS * shifts) @ np.kron(weights, weights)


def _paint(image: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    image += cover[:, None] * (colour - image)


def _place(
    distance: Distance,
    n: int,
    rng: np.random.Generator,
    offset: float,
    size: tuple[float, float],
    turn: float,
) -> np.ndarray:
    """How much of each pixel the shape covers, somewhere, at some size and turn."""
    column, row = rng.uniform(15.5 - offset, 15.5 + offset, (2, n, 1)).astype(np.float32)
    scale = rng.uniform(*size, (n, 1)).astype(np.float32)
    angle = rng.uniform(-turn, turn, (n, 1)).astype(np.float32)
    x, y = (_COLUMNS - column) / scale, (_ROWS - row) / scale
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return np.clip(0.5 - scale * distance(u, v), 0, 1)  # a pixel on the outline is half covered
