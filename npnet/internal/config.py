"""Objects known by name: looked up from a string, written as plain JSON, read back without running code."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from npnet.internal.strict import Strict

__all__ = [
    "ANY",
    "Configurable",
    "F",
    "T",
    "custom",
    "custom_objects",
    "get",
    "keras_arguments",
    "lookup",
    "nearest",
    "serialize",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

ANY: Any = object()  # any value will do

custom: ContextVar[Mapping[str, Any]] = ContextVar("custom", default={})  # noqa: B039 (never written to)


@contextmanager
def custom_objects(table: Mapping[str, Any] | None) -> Iterator[None]:
    """Let every lookup inside the block also find the classes of ``table``."""
    if table is not None and not isinstance(table, Mapping):
        raise TypeError(f"custom_objects must be a dict {{name: class}}, got {type(table).__name__}.")
    token = custom.set(table or {})
    try:
        yield
    finally:
        custom.reset(token)


def nearest(name: str, names: Mapping[str, Any] | list[str]) -> str:
    """Return "Did you mean ...?" with the closest of ``names``, if one is close, and the whole list."""
    import difflib  # only where a name is wrong

    original = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), original, n=1)
    guess = f' Did you mean "{original[close[0]]}"?' if close else ""
    return f"{guess} Known: {', '.join(names)}."


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return ``table[name]``, or raise a ValueError that names the nearest match."""
    table = {**table, **custom.get()}
    if not isinstance(name, str):
        raise TypeError(f"{kind} must be a name, got {name!r}. Known: {', '.join(table)}.")
    if name not in table:
        raise ValueError(f"Unknown {kind} {name!r}.{nearest(name, table)}")
    return table[name]


def keras_arguments(**known: Any) -> Callable[[F], F]:
    """Let a method or a function take arguments of Keras's for things that npnet does not do.

    Parameters
    ----------
    known
        name -> the value that asks for nothing (``ANY`` for names, which ask for nothing in any case). Every
        other value raises a TypeError with a sentence, instead of "unexpected argument".
    """

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def checked(*arguments: Any, **options: Any) -> Any:
            for name in known.keys() & options.keys():
                value, nothing = options.pop(name), known[name]
                if nothing is not ANY and not (
                    value is nothing or (type(value), value) == (type(nothing), nothing)
                ):
                    of_class = method.__qualname__ != method.__name__
                    owner = type(arguments[0]).__name__ if of_class else method.__name__
                    raise TypeError(
                        f"{name} must be {nothing!r} or left out, got {value!r}: Keras has it, but npnet's"
                        f" {owner} knows nothing else."
                    )
            return method(*arguments, **options)

        vars(checked)["of_keras"] = known
        return cast(F, checked)

    return decorate


class Configurable(Strict):
    """An object described by its constructor's arguments, each kept in the attribute of the same name."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as values that JSON can hold."""
        names = [
            parameter.name
            for parameter in inspect.signature(type(self).__init__).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        ][1:]
        for name in names:
            if not hasattr(self, name):
                raise AttributeError(
                    f"{type(self).__name__} has no attribute {name!r}: saving needs each argument of __init__"
                    f" in an attribute of the same name. Add self.{name} = {name}."
                )
        return {name: serialize(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        """Return a new object that ``get_config`` described."""
        return cls(**config)

    def _converted(self, name: str, value: Any) -> Any:
        return getattr(type(self)(**(self.get_config() | {name: value})), name)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def serialize(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; a Configurable as {"class_name", "config"}."""
    if isinstance(value, Configurable):
        return {"class_name": type(value).__name__, "config": value.get_config()}
    if isinstance(value, (list, tuple)):
        return [serialize(item) for item in value]
    if isinstance(value, Mapping):
        return {key: serialize(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # a NumPy number or array
        return value.tolist()
    return value


def get(kind: str, identifier: Any, base: type[T], names: Mapping[str, type[T]]) -> T:
    """Return the object meant by ``identifier``: an instance, a class, a name, or a serialized dict.

    ``names`` maps the names people write to classes; a class's own name is known as well.
    """
    classes = {cls.__name__: cls for cls in names.values()}
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, str):
        return classes[identifier]() if identifier in classes else lookup(kind, identifier, names)()
    if isinstance(identifier, type) and issubclass(identifier, base):
        return identifier()
    if isinstance(identifier, Mapping) and set(identifier) == {"class_name", "config"}:
        name, known = identifier["class_name"], {**classes, **custom.get()}
        if name not in known:
            raise ValueError(
                f"Unknown {kind} {name!r}. If it is a class of your own, give it:"
                f' custom_objects={{"{name}": {name}}}.{nearest(name, known)}'
            )
        return known[name](**identifier["config"])
    raise TypeError(
        f"{kind} must be a name or an instance of {base.__name__}, got {type(identifier).__name__}."
        f" Names: {', '.join(names)}."
    )
