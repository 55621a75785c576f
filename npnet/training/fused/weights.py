"""Where the weights of a fused Dense live while a plan trains them.

The plan's layout of the weights holds the truth then. Who reads a parameter's ``value`` waits for the end of
the step and gets the numbers copied back first (``Weights.give_back``). Code that a step itself calls, such
as a loss of one's own, gets them as they are then, and may change them: the plan takes them again before it
goes on. Who only reads (``numbers``: predictions do) leaves them here.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from npnet.training.fused.stages import FusedDense

__all__ = ["GivesBack", "Weights", "copy_back", "lay_out", "slots_of", "taking_steps"]

_this_thread = threading.local()  # ``steps``: it is taking a fused step


@contextmanager
def taking_steps() -> Iterator[None]:
    """Take fused steps in this block and thread, which then does not wait for their end to read weights."""
    _this_thread.steps = True
    try:
        yield
    finally:
        _this_thread.steps = False


class GivesBack(Protocol):
    """Whoever has the slots of a plan in a layout of its own."""

    def give_back(self) -> None:
        """Copy them to where others read them, if they are not there."""


class Layout(Protocol):
    """A plan, as far as its weights need to know it.

    Attributes
    ----------
    slots_apart
        Whether weights lie as their gradients do, without slots.
    slots
        Who has them then.
    """

    slots_apart: bool
    slots: GivesBack | None

    def weights_of(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the squares and biases of a layer."""


class Weights:
    """The home of a fused Dense's parameters and their slots while a plan trains them.

    Of a plan whose slots are apart it is the home of the parameters alone.

    Parameters
    ----------
    lock
        Held while a step is taken.

    Attributes
    ----------
    here
        Whether the numbers here are the truth. They are from the end of ``take`` to the end of ``give_back``,
        so an interrupt or an error within either loses nothing: it begins again with the next call.
    shown
        Whether the parameters' arrays hold the same numbers, for who only reads them.
    """

    def __init__(self, stage: FusedDense, plan: Layout, lock: Any):
        self.stage, self.plan, self.lock = stage, plan, lock
        self.squares, self.biases = plan.weights_of(stage.layer)
        self.here = self.shown = False
        self.arrays: list[Pair] = []

    def take(self) -> None:
        """Copy the parameters and their slots here, unless this is where they are, to be changed."""
        self.shown = False
        if self.here:
            return
        link = self.stage.link
        self.arrays = [(link.weight.value, None if link.bias is None else link.bias.value)]
        if not self.plan.slots_apart:
            self.arrays += slots_of(self.stage)
        for plane, pair in enumerate(self.arrays):
            lay_out(pair, self.squares, self.biases, plane)
        for parameter in link.parameters:
            parameter.home = self
            vars(parameter).pop("grad", None)  # of a step before: there will be no other
        self.here = True

    def show(self) -> None:
        """Copy the parameters to where others read them, and keep them.

        Raises
        ------
        RuntimeError
            As ``give_back``.
        """
        if self.here and not self.shown:
            self._between_steps(self._show)

    def give_back(self) -> None:
        """Copy the parameters and their slots to where others read them, if they are here.

        Raises
        ------
        RuntimeError
            Asked for by another model's step while this one's is under way: they share a layer.
        """
        if self.here:
            self._between_steps(self._copy_back)

    def give_back_slots(self) -> None:
        """Copy the slots as well.

        Raises
        ------
        RuntimeError
            As ``give_back``; or if processes divide them among them.
        """
        self.give_back()
        if self.plan.slots is not None:
            self._between_steps(self.plan.slots.give_back)

    def _between_steps(self, copy: Callable[[], None]) -> None:
        if not getattr(_this_thread, "steps", False):
            with self.lock:  # a step that another thread is taking ends first
                copy()
        elif self.lock.acquire(blocking=False):
            try:
                copy()
            finally:
                self.lock.release()
        else:  # two steps might wait for each other for ever
            raise RuntimeError(
                f"layer {self.stage.link.name!r} belongs to two models that train in two threads at once;"
                " train one after the other."
            )

    def _show(self) -> None:
        if self.here and not self.shown:
            copy_back(self.arrays[0], self.squares, self.biases)
            self.shown = True

    def _copy_back(self) -> None:
        if self.here:
            for plane, pair in enumerate(self.arrays):
                copy_back(pair, self.squares, self.biases, plane)
            self.here = False


Pair = tuple[np.ndarray, np.ndarray | None]  # weights and biases of a layer, or a slot of each


def lay_out(pair: Pair, squares: np.ndarray, biases: np.ndarray, plane: int = 0) -> None:
    """Copy weights and biases, or a slot of each, into one plane of a layer's squares and biases."""
    from npnet.kernels.products.layouts import to_squares

    weight, bias = pair
    to_squares(weight, squares, plane)
    if bias is not None:
        biases[plane, : len(bias)] = bias


def copy_back(pair: Pair, squares: np.ndarray, biases: np.ndarray, plane: int = 0) -> None:
    """Copy one plane of a layer's squares and biases to where others read it."""
    from npnet.kernels.products.layouts import from_squares

    weight, bias = pair
    from_squares(squares, plane, weight)
    if bias is not None:
        bias[...] = biases[plane, : len(bias)]


def slots_of(stage: FusedDense) -> list[Pair]:
    """Return each slot of a fused Dense: of its weights, and of its biases if it has any."""
    link, optimizer = stage.link, stage.optimizer
    weights = optimizer.slots_of(link.weight)
    biases = [None] * len(weights) if link.bias is None else optimizer.slots_of(link.bias)
    return list(zip(weights, biases, strict=True))
