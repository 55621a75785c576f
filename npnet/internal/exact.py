"""Is an object exactly what its class says? For code that computes in another way what the class would.

Whoever replaces the computation of an object may do so only if nobody has changed it: no subclass with a
method of its own, no method replaced on the object or on the class.
"""

import operator
from collections.abc import Iterable
from itertools import chain
from typing import Any

__all__ = ["Known", "Settings", "same"]


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
        # Of the bases of some classes, as they are and as they were when they were last found unchanged.
        self.namespaces: dict[frozenset[type], tuple[list[Any], list[Any]]] = {}
        self.methods = {
            cls: {name for base in bases for name, value in vars(base).items() if callable(value)}
            for cls, bases in self.bases.items()
        }

    def __contains__(self, thing: object) -> bool:
        """Whether the object is of a known class, with no method of its own."""
        methods = self.methods.get(type(thing))
        return methods is not None and methods.isdisjoint(vars(thing))

    def unchanged(self, things: Iterable[object]) -> bool:
        """Whether the known classes among those of the objects are as they were written."""
        classes = frozenset(self.bases.keys() & map(type, things))
        namespaces = self.namespaces.get(classes)
        if namespaces is None:
            bases = {base for cls in classes for base in self.bases[cls]}
            namespaces = [vars(base) for base in bases], [self.seen[base] for base in bases]
            self.namespaces[classes] = namespaces
        present, seen = namespaces
        if present == seen:
            return True  # as nearly always; each step and each prediction asks
        return all(self._is_as_written(base) for cls in classes for base in self.bases[cls])

    def _is_as_written(self, base: type) -> bool:
        """Whether a known class is as it was written, though a name may have been added: Python does."""
        if _body(base) != self.written[base]:
            return False
        self.seen[base] = dict(vars(base))
        self.namespaces.clear()
        return True


def _body(cls: type) -> dict[str, Any]:
    """Return what the class statement defined; Python itself adds names with underscores later."""
    return {name: value for name, value in vars(cls).items() if name == "__init__" or name[:2] != "__"}


class Settings:
    """Classes and attributes of some objects as they are now, to be compared with what they are later.

    Parameters
    ----------
    things
        Each object with those of its attributes that decide nothing.
    """

    def __init__(self, things: list[tuple[object, frozenset[str]]]):
        self.things = [thing for thing, _ in things]
        self.without = [without for _, without in things]
        self.classes = list(map(type, self.things))
        self.keys = [frozenset(vars(thing)) for thing in self.things]
        self.names = [vars(thing).keys() - without for thing, without in things]
        # One name twice: of a single one there would be no tuple.
        self.read = [operator.itemgetter(*names, min(names)) for names in self.names]
        self.values = self._values()

    def _values(self) -> list[Any]:
        # Here and in ``hold`` no Python code is run for each object: it is asked before every step.
        return list(chain.from_iterable(map(operator.call, self.read, map(vars, self.things))))

    def hold(self) -> bool:
        """Whether they are the same: equal numbers and texts, otherwise the very same objects."""
        keys: list[Any] = list(map(dict.keys, map(vars, self.things)))
        if list(map(type, self.things)) != self.classes:
            return False
        if keys != self.keys:
            if list(map(operator.sub, keys, self.without)) != self.names:
                return False
            self.keys = list(map(frozenset, keys))
        return same(self.values, self._values())


def same(before: Any, now: Any) -> bool:
    """Whether two values are the same: equal numbers and texts, otherwise the very same objects."""
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(before, (tuple, list)):
        if len(before) != len(now):
            return False
        return all(map(operator.is_, before, now)) or all(map(same, before, now))
    return isinstance(before, (bool, int, float, str)) and before == now
