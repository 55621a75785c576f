"""Is an object exactly what its class says? For code that computes in another way what the class would.

Whoever replaces the computation of an object may do so only if nobody has changed it: no subclass with a
method of its own, no method replaced on the object or on the class.
"""

from collections.abc import Iterable
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
        return all(_body(base) == self.written[base] for base in bases)


def _body(cls: type) -> dict[str, Any]:
    """Return what the class statement defined; Python itself adds names with underscores later."""
    return {name: value for name, value in vars(cls).items() if name == "__init__" or name[:2] != "__"}


def settings(thing: object, without: frozenset[str] = frozenset()) -> tuple[Any, ...]:
    """Return the class and all attributes of an object but those called ``without``, to be compared later."""
    return (type(thing), *((name, value) for name, value in vars(thing).items() if name not in without))


def same(before: Any, now: Any) -> bool:
    """Whether two settings are the same: equal numbers and texts, otherwise the very same objects."""
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(before, (tuple, list)):
        return len(before) == len(now) and all(map(same, before, now))
    return isinstance(before, (bool, int, float, str)) and before == now
