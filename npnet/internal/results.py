"""What methods of classes that are not npnet's own return is looked at, once for each shape of arguments.

What nobody has looked at would be found out somewhere else: by NumPy, which does not know whose mistake it
was, or by a compiled kernel, which reads past the end of an array without a word.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

__all__ = ["Check", "kind", "like", "look_at", "numbers", "of_shape", "rows_of", "title"]

# Given the object, what its method returned and the method's arguments: what is wrong, or None.
Check = Callable[..., str | None]


def look_at(cls: type, name: str, check: Check) -> None:
    """Let a check look at what a method that a class defines returns.

    A method that another one calls with ``super()`` may return what it likes.

    Raises
    ------
    TypeError
        Later, out of the method: the class, the object's name if it has one, and what is wrong.
    """
    method = vars(cls).get(name)
    if not inspect.isfunction(method):
        return

    @wraps(method)
    def looked_at(self: Any, *arguments: Any, **options: Any) -> Any:
        result = method(self, *arguments, **options)
        # Each step comes by here. A layer may do something else in training than in prediction.
        first, last = (arguments[0], arguments[-1]) if arguments else (None, None)
        case = name, getattr(first, "shape", None), last is True, options.get("training")
        if case not in self.__dict__.get("_seen", ()) and getattr(type(self), name) is looked_at:
            wrong = check(self, result, *arguments, *options.values())
            if wrong is not None:
                raise TypeError(f"{title(self)}: {wrong}")
            self.__dict__.setdefault("_seen", set()).add(case)
        return result

    setattr(cls, name, looked_at)


def title(thing: Any) -> str:
    """Return what messages call an object: its class, and its name if it has one."""
    name = getattr(thing, "name", None)
    return type(thing).__name__ if name is None else f"{type(thing).__name__} {name!r}"


def kind(value: Any) -> str:
    """Return what messages call a value that is not what it should be."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return "None" if value is None else f"a {type(value).__name__}"


def numbers(name: str, what: str, shape: tuple[int, ...] | None = ()) -> Check:
    """Return the check that a method returns numbers in an array of a shape: one number, or None for any."""

    def check(_: Any, result: Any, *arguments: Any) -> str | None:
        array = np.asarray(result)
        if array.dtype.kind in "buif" and (shape is None or array.shape == shape):
            return None
        return f"{name} must return {what}, got {kind(result)}."

    return check


def like(name: str, what: str, of: str) -> Check:
    """Return the check that a method returns an array of the shape of its last argument."""

    def check(_: Any, result: Any, *arguments: Any) -> str | None:
        shape = np.shape(arguments[-1])
        if isinstance(result, (np.ndarray, np.generic)) and result.shape == shape:
            return None
        return f"{name} must return {what}, an array of the shape of {of}, {shape}, got {kind(result)}."

    return check


def rows_of(name: str, what: str, or_mean: bool = False) -> Check:
    """Return the check that a method returns an array: a number or more for each row of its last argument.

    ``or_mean``: one number for the whole batch will do.
    """

    def check(_: Any, result: Any, *arguments: Any) -> str | None:
        rows = len(arguments[-1])
        shapes = [(rows,), ()] if or_mean else [(rows,)]
        if isinstance(result, (np.ndarray, np.generic)) and result.shape[:1] in shapes:
            return None
        return f"{name} must return {what}, an array of shape ({rows},), got {kind(result)}."

    return check


def of_shape(_: Any, result: Any, shape: tuple[int, ...], *others: Any) -> str | None:
    """Say what is wrong with what an initializer returns."""
    if isinstance(result, (np.ndarray, np.generic)) and result.shape == tuple(shape):
        return None
    return f"__call__ must return an array of shape {shape}, got {kind(result)}."
