"""Objects whose attributes cannot be misspelt: a new name that no method of the class assigns is refused."""

import dis
import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from types import CodeType
from typing import Any

__all__ = ["Strict"]

OLD_NAMES = {"lr": "learning_rate", "decay": "weight_decay"}  # of Keras before version 3


class Strict:
    """Base of npnet's layers, models and optimizers.

    Assigning to a name that neither the object, nor its class, nor any of its methods knows raises an
    AttributeError that suggests the nearest one: ``optimizer.lr = 0.1`` would otherwise change nothing.
    Objects of classes that are not npnet's own may hold what they like.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        cls: Any = type(self)
        if name not in self.__dict__ and not hasattr(cls, name) and _is_own(cls):
            known = _assigned(cls)
            if name not in known:
                guess = [OLD_NAMES[name]] if name in OLD_NAMES else get_close_matches(name, known, n=1)
                hint = f" Did you mean {guess[0]!r}?" if guess else ""
                raise AttributeError(f"{cls.__name__} has no attribute {name!r} to set.{hint}")
        object.__setattr__(self, name, value)


def _is_own(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "npnet"


@cache
def _assigned(cls: type) -> set[str]:
    """Return the attributes that a class and its bases declare or their methods assign."""
    known = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", ())}
    for base in cls.__mro__:
        for member in vars(base).values():
            for code in _codes(member):
                known |= {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}
    return known


def _codes(member: Any) -> Iterator[CodeType]:
    """Go through the code of a method or property, and of the functions inside it."""
    functions = (member.fget, member.fset) if isinstance(member, property) else (member,)
    todo = [inspect.unwrap(function).__code__ for function in functions if inspect.isfunction(function)]
    while todo:
        code = todo.pop()
        yield code
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
