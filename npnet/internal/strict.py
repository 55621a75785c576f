"""Objects whose arguments and attributes cannot be misspelt, nor set where it would change nothing."""

import dis
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache, wraps
from types import CodeType
from typing import Any, ClassVar

from npnet.internal.results import Check, look_at

__all__ = ["Strict"]

OLD_NAMES = {"lr": "learning_rate", "decay": "weight_decay"}  # of Keras before version 3
OF_ITS_PLACE = frozenset({"name", "input_shape"})  # what a layer's model gives it


class Strict:
    """Base of npnet's layers, models, optimizers, losses and other objects: no assignment is ignored.

    An assignment raises an AttributeError

    - to a name that neither the object, nor its class, nor any of its methods knows, and suggests the nearest
      one: ``optimizer.lr = 0.1`` would otherwise change nothing;
    - to an argument of the constructor that is used once and for all, when weights are made for instance:
      nothing would come of ``layer.kernel_regularizer = "l2"``;
    - to a property that has no setter.

    Other arguments of the constructor are checked and converted as the constructor does it. Objects of
    classes that are not npnet's own may hold what they like.

    A constructor that is given an argument by a name it does not know raises a TypeError with the nearest
    one. Python would blame the base class that got it in the end: ``Dense(3, use_biass=False)``.

    Attributes
    ----------
    changeable
        The constructor's arguments that may be assigned later; None for all.
    results
        What looks at what the methods of somebody else's subclasses return, by the methods' names.
    """

    changeable: tuple[str, ...] | None = None
    results: ClassVar[dict[str, Check]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not is_own(cls):
            for name, check in cls.results.items():
                look_at(cls, name, check)
        elif "__init__" in vars(cls):
            cls.__init__ = _without_unknown(cls, cls.__init__)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        cls: Any = type(self)
        if name in self.__dict__:
            if name in _arguments(cls) and value is not self.__dict__[name]:
                value = self._assigned_again(name, value)
        elif not hasattr(cls, name):
            _require_known(cls, name)
        elif (what := _read_only(cls, name)) is not None:
            raise AttributeError(f"{name} of {cls.__name__} cannot be assigned. It is: {what}")
        object.__setattr__(self, name, value)

    def _assigned_again(self, name: str, value: Any) -> Any:
        """Return what the constructor makes of an argument; refuse one that is used once and for all."""
        if name in OF_ITS_PLACE and not getattr(self, "built", False):
            return value
        if self.changeable is not None and name not in self.changeable:
            raise AttributeError(
                f"{name} of {type(self).__name__} cannot be assigned later: it was used when the object, or"
                f" its weights, were made. Make a new one with {name}={value!r}."
            )
        return self._converted(name, value)

    def _converted(self, name: str, value: Any) -> Any:
        return value


STORE_ATTR = dis.opmap["STORE_ATTR"]


@cache  # to look it up takes longer than to assign
def _read_only(cls: type, name: str) -> str | None:
    """Return what a property without a setter is; None for any other attribute of a class."""
    there = inspect.getattr_static(cls, name)
    if isinstance(there, property) and there.fset is None:
        return (there.__doc__ or "").partition("\n")[0]
    return None


def _require_known(cls: type, name: str) -> None:
    if not is_own(cls) or name in (known := _assigned(cls)):
        return
    raise AttributeError(f"{cls.__name__} has no attribute {name!r} to set.{_did_you_mean(name, known)}")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # only where a name is wrong

    close = get_close_matches(name, known, n=1)
    if name in OLD_NAMES and OLD_NAMES[name] in known:
        close = [OLD_NAMES[name]]
    return f" Did you mean {close[0]!r}?" if close else ""


def is_own(cls: type) -> bool:
    """Whether a class is npnet's own."""
    return cls.__module__.partition(".")[0] == "npnet"


def _without_unknown(cls: type, constructor: Callable[..., None]) -> Callable[..., None]:
    """Return a class's constructor, which refuses arguments by names that it does not know."""

    @wraps(constructor)
    def checked(self: Any, *arguments: Any, **options: Any) -> None:
        made: Any = type(self)
        taken = _taken(made, cls)
        if taken is not None and not options.keys() <= taken.keys():
            name = next(name for name in options if name not in taken)
            known = [known for known, of_npnet in taken.items() if of_npnet]
            hint = _did_you_mean(name, known) or f" It takes {', '.join(known) or 'none'}."
            raise TypeError(f"{made.__name__} got an unexpected argument {name!r}.{hint}")
        constructor(self, *arguments, **options)

    return checked


@cache
def _taken(cls: type, first: type) -> dict[str, bool] | None:
    """Return the arguments that the constructor of ``first``, a base, and those behind it take by name.

    False stands for those of Keras's that ask for nothing (``config.keras_arguments``), None instead of the
    table for a constructor that takes any name.
    """
    taken: dict[str, bool] = {}
    behind: Any = cls.__mro__[cls.__mro__.index(first) :]
    for base in behind:
        if base is not object and "__init__" in vars(base):
            _, *parameters = inspect.signature(base.__init__).parameters.values()
            named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            taken |= dict.fromkeys(named, True) | dict.fromkeys(getattr(base.__init__, "of_keras", ()), False)
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                return taken
    return None


@cache
def _arguments(cls: Any) -> frozenset[str]:
    """Return the names of the constructors' arguments; of a class that is not npnet's own none."""
    if not is_own(cls):
        return frozenset()
    return frozenset(
        parameter.name
        for base in cls.__mro__
        if "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )


@cache
def _assigned(cls: type) -> set[str]:
    """Return the attributes that a class and its bases declare or their methods assign."""
    return set().union(*map(_assigned_by, cls.__mro__))


@cache  # many classes share a base
def _assigned_by(base: type) -> set[str]:
    """Return the attributes that a class itself declares or its methods assign."""
    known = set(vars(base).get("__annotations__", ()))
    for member in vars(base).values():
        for code in _codes(member):
            if STORE_ATTR in code.co_code[::2]:  # most code assigns no attribute; taking it apart is slow
                known |= {step.argval for step in dis.get_instructions(code) if step.opcode == STORE_ATTR}
    return known


def _codes(member: Any) -> Iterator[CodeType]:
    """Go through the code of a method or property, and of the functions inside it."""
    functions = (member.fget, member.fset) if isinstance(member, property) else (member,)
    todo = [inspect.unwrap(function).__code__ for function in functions if inspect.isfunction(function)]
    while todo:
        code = todo.pop()
        yield code
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
