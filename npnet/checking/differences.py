"""Derivatives measured from values of a function alone, and how far each of them can be trusted.

The central difference with a step h misses the derivative by even powers of h:

    n(h) = (L(v + h) - L(v - h)) / 2h = L'(v) + c h^2 + d h^4 + ...

With half the step the first term is a quarter, so (4 n(h/2) - n(h)) / 3 is without it (Richardson 1911). Two
of these, combined with 16 and 15, are without the next term, and so on. Small steps are no substitute,
because the rounding of L is divided by h. Ridders (1982) therefore halves h from a large step on, combines
all that is known, and takes the result that changed least in its last refinement. That change stays large
where the function has a kink within h, so kinks are recognised without looking at the gradient to be checked.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

__all__ = [
    "CAUTION",
    "HALVINGS",
    "PROBES",
    "PROBE_STEP",
    "Derivatives",
    "compare",
    "differentiate",
    "differentiate_along",
    "relative_error",
    "rounding_noise",
]

HALVINGS = 7  # from the largest step h down to h / 128
PROBES = 24  # values of a function from which its rounding is estimated
PROBE_STEP = 1e-9
CAUTION = 10  # times the rounding of a difference is blamed on nobody


class Derivatives(NamedTuple):
    """Derivatives by some numbers, and the two parts of the error of each.

    Attributes
    ----------
    values
        The derivatives.
    spread
        How much each changed in its last refinement: next to nothing, or much beside a kink.
    rounding
        How much of each may come from the rounding of the function.
    """

    values: np.ndarray
    spread: np.ndarray
    rounding: np.ndarray


def differentiate(
    function: Callable[[], float], numbers: np.ndarray, chosen: np.ndarray, step: float, noise: float
) -> Derivatives:
    """Return the derivatives of ``function`` with respect to the ``chosen`` elements of ``numbers``.

    Parameters
    ----------
    function
        Computes its value from ``numbers``, whose elements are changed one by one and put back.
    step
        The largest step h.
    noise
        How far rounding can move a value of the function; see ``rounding_noise``.
    """
    flat = numbers.reshape(-1)

    def value_at(move: float, position: int) -> float:
        original = flat[position]
        flat[position] = original + move
        value = function()
        flat[position] = original
        return value

    found = [_ridders(partial(value_at, position=i), step, noise) for i in chosen]
    return Derivatives(*np.array(found).reshape(-1, 3).T)


def differentiate_along(
    function: Callable[[], float], numbers: np.ndarray, direction: np.ndarray, step: float, noise: float
) -> Derivatives:
    """Return the one derivative with respect to a move of all ``numbers`` along ``direction``."""
    original = numbers.copy()

    def value_at(move: float) -> float:
        numbers[...] = original + move * direction
        value = function()
        numbers[...] = original
        return value

    return Derivatives(*np.array([_ridders(value_at, step, noise)]).T)


def _ridders(value_at: Callable[[float], float], step: float, noise: float) -> tuple[float, float, float]:
    """Return the derivative at 0 of ``value_at``, its spread and its rounding."""
    derivative, spread, rounding = np.nan, np.inf, 0.0
    coarser: list[float] = []  # n(2h) and what it was refined to
    for halvings in range(HALVINGS + 1):
        h = step / 2**halvings
        finer = [(value_at(h) - value_at(-h)) / (2 * h)]
        for order, before in enumerate(coarser, 1):
            finer.append(finer[-1] + (finer[-1] - before) / (4**order - 1))
            moved = max(abs(finer[-1] - finer[-2]), abs(finer[-1] - before))
            if moved + noise / h < spread + rounding:
                derivative, spread, rounding = finer[-1], moved, noise / h
        if spread <= rounding:
            break  # a smaller step would only let more rounding through
        coarser = finer
    return derivative, spread, rounding


def rounding_noise(
    function: Callable[[], float], arrays: Iterable[np.ndarray], rng: np.random.Generator
) -> float:
    """Return how far rounding can move a value of ``function``, which computes it from ``arrays``.

    Of a smooth function the fourth differences over tiny steps vanish. What is left of them is rounding,
    with its variance multiplied by 1 + 16 + 36 + 16 + 1 = 70 (Moré & Wild 2011). Their median, 0.6745
    standard deviations of a normal distribution, does not mind a kink among the steps. Returned are four
    standard deviations, and at least the rounding of the value itself.
    """
    arrays = list(arrays)
    originals = [array.copy() for array in arrays]
    steps = [PROBE_STEP * (1 + np.abs(array)) * rng.standard_normal(array.shape) for array in arrays]
    values = []
    for k in range(PROBES):
        for array, original, step in zip(arrays, originals, steps, strict=True):
            array[...] = original + k * step
        values.append(function())
    for array, original in zip(arrays, originals, strict=True):
        array[...] = original
    deviation = np.median(np.abs(np.diff(values, n=4))) / (0.6745 * 70**0.5)
    return max(4 * float(deviation), np.finfo(np.float64).eps * max(1.0, abs(values[0])))


def compare(gradient: np.ndarray, found: Derivatives, tolerance: float) -> float | None:
    """Return the relative error of a gradient beside the derivatives found, or None if they prove nothing.

    They prove nothing where their own spread, a kink's for instance, exceeds the tolerance. Ten times their
    rounding over the tolerance is added to the sizes the error is relative to: so much of a difference is
    never blamed on the gradient, not even on one that is exactly 0 (a bias before batch normalization).
    """
    size, spread, rounding = (float(np.linalg.norm(part)) for part in found)
    if not spread <= tolerance * size + rounding:
        return None
    return relative_error(gradient, found.values, CAUTION * rounding / tolerance)


def relative_error(a: np.ndarray, n: np.ndarray, unresolved: float) -> float:
    """Return |a - n| / (|a| + |n| + unresolved), NaN if one of them is."""
    total = np.linalg.norm(a) + np.linalg.norm(n) + unresolved
    return float(np.linalg.norm(a - n) / total)
