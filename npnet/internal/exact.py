"""Is an object exactly what its class says? For code that computes in another way what the class would.

Whoever replaces the computation of an object may do so only if nobody has changed it: no subclass with a
method of its own, no method replaced on the object or on the class.
"""

from collections.abc import Iterable
from operator import is_
from typing import Any

__all__ = ["Known", "same", "settings"]


class Known:
    """Classes whose computation is known.

    Parameters
    ----------
    classes
        Exactly these, as they are now; no subclasses.
    """

    def __init__(self, classes: Iterable[type]):
        self.bases = {cls: [base for base in cls.__mro__ if base is not object] for cls in classes}
        self.written = {base: _body(base) for bases in self.bases.values() for base in bases}
        self.seen = {base: dict(vars(base)) for base in self.written}  # when it was last found unchanged
        self.methods = {
            cls: {name for base in bases for name, value in vars(base).items() if callable(value)}
            for cls, bases in self.bases.items()
        }

    def __contains__(self, thing: object) -> bool:
        """Whether the object is of a known class, with no method of its own."""
        cls = type(thing)
        return cls in self.bases and self.methods[cls].isdisjoint(vars(thing))

    def unchanged(self, things: Iterable[object]) -> bool:
        """Whether the known classes among those of the objects are as they were written."""
        bases = {base for cls in set(map(type, things)) for base in self.bases.get(cls, ())}
        return all(map(self._is_as_written, bases))

    def _is_as_written(self, base: type) -> bool:
        """Whether a known class is as it was written; quick where not even Python has added a name."""
        present = vars(base)
        if present == self.seen[base]:
            return True
        if _body(base) != self.written[base]:
            return False
        self.seen[base] = dict(present)
        return True


def _body(cls: type) -> dict[str, Any]:
    """Return what the class statement defined; Python itself adds names with underscores later."""
    return {name: value for name, value in vars(cls).items() if name == "__init__" or name[:2] != "__"}


def settings(thing: object, without: frozenset[str] = frozenset()) -> list[Any]:
    """Return the class and all attributes of an object but those called ``without``, to be compared later.

    Names and values follow each other: a list for each would be as many objects, before every step.
    """
    found: list[Any] = [type(thing)]
    for name, value in vars(thing).items():
        if name not in without:
            found += name, value
    return found


def same(before: Any, now: Any) -> bool:
    """Whether two settings are the same: equal numbers and texts, otherwise the very same objects."""
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(before, (tuple, list)):
        if len(before) != len(now):
            return False
        return all(map(is_, before, now)) or all(map(same, before, now))
    return isinstance(before, (bool, int, float, str)) and before == now
