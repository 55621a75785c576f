"""Read a pickle as data: numbers, text, bytes, tuples, lists, dicts, arrays of them, and nothing else.

A pickle is a program for a small stack machine, and `pickle.load` runs it: it imports, calls and allocates
whatever the author of the file asks for. Here the operations that describe data are carried out, each one
visible below; any other ends in `CorruptDatasetError`. Nothing is imported or called, and no memory is taken
that the file itself does not fill.
"""

import pickletools
from dataclasses import dataclass

from npnet.datasets.errors import CorruptDatasetError

__all__ = ["PickledArray", "load"]


@dataclass
class PickledArray:
    """The description of an array: its bytes are checked by the reader before NumPy sees them."""

    shape: object = None
    dtype: object = None
    fortran_order: object = None
    content: object = None


@dataclass(frozen=True)
class _Name:
    """Stands for a function or class the pickle names; it cannot be called."""

    meaning: str


@dataclass(frozen=True)
class _Dtype:
    code: object


_ARRAY, _NDARRAY, _DTYPE, _ENCODE = map(_Name, ("array", "ndarray", "dtype", "encode"))
_FROM_BUFFER = _Name("frombuffer")
_NAMES = {
    "numpy.core.multiarray _reconstruct": _ARRAY,
    "numpy._core.multiarray _reconstruct": _ARRAY,
    "numpy.core.numeric _frombuffer": _FROM_BUFFER,  # how NumPy writes arrays in protocol 5
    "numpy._core.numeric _frombuffer": _FROM_BUFFER,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes in protocols 0 to 2
}


def load(content: bytes, most_operations: int) -> object:
    """The value a pickle of protocol 2 to 5 describes.

    Byte strings of Python 2 come as bytes, arrays as `PickledArray`.

    Parameters
    ----------
    content : bytes
        The pickle.
    most_operations : int
        How many operations honest data of this kind may need: the bound on time and memory.

    Raises
    ------
    CorruptDatasetError
        The pickle is damaged, or asks for anything but data.
    """
    try:
        return _run(content, most_operations)
    except CorruptDatasetError:
        raise
    except Exception as error:  # the stream decides what goes wrong, so no list of types would be complete
        raise CorruptDatasetError(f"a damaged pickle ({type(error).__name__})") from error


def _run(content: bytes, most_operations: int) -> object:
    stack: list = []
    below: list[list] = []  # the stacks under the open marks
    memo: dict = {}
    encoded = 0

    def take(count: int) -> list:
        if count > len(stack):
            raise CorruptDatasetError("a damaged pickle: its stack runs empty")
        items = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return items

    for step, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if step == most_operations:
            raise CorruptDatasetError(
                f"a pickle of more than {most_operations} operations, too many for its data"
            )
        match operation.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                below.append(stack)
                stack = []
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[operation.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "BYTEARRAY8":
                stack.append(bytes(argument or b""))
            case "BINSTRING" | "SHORT_BINSTRING":
                stack.append(str(argument).encode("latin1"))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(take(int(operation.name[-1]))))
            case "TUPLE":
                items, stack = stack, below.pop()
                stack.append(tuple(items))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND":
                _append(stack, take(1))
            case "APPENDS":
                items, stack = stack, below.pop()
                _append(stack, items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                _set_items(stack, take(2))
            case "SETITEMS":
                items, stack = stack, below.pop()
                _set_items(stack, items)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_name(str(argument)))
            case "STACK_GLOBAL":
                module, name = take(2)
                if not (isinstance(module, str) and isinstance(name, str)):
                    raise CorruptDatasetError("a damaged pickle: a name that is no text")
                stack.append(_name(f"{module} {name}"))
            case "REDUCE":
                match take(2):
                    case [_Name("array"), (_Name("ndarray"), *_)]:
                        stack.append(PickledArray())
                    case [_Name("frombuffer"), (bytes(data), _Dtype(code), shape, str(order))]:
                        stack.append(PickledArray(shape, code, order != "C", data))
                    case [_Name("dtype"), (code, *_)]:
                        stack.append(_Dtype(code))
                    case [_Name("encode"), (str(text), "latin1")]:
                        encoded += len(text)  # the same text may not be encoded again and again
                        if encoded > len(content):
                            raise CorruptDatasetError("a pickle that grows while it is read")
                        stack.append(text.encode("latin1"))
                    case _:
                        raise CorruptDatasetError("a pickle that asks for a call, not only for data")
            case "BUILD":
                (state,) = take(1)
                _build(stack[-1], state)
            case _:
                raise CorruptDatasetError(
                    f"a pickle with the operation {operation.name}, which data do not need"
                )
    raise CorruptDatasetError("a damaged pickle: it has no end")


def _name(text: str) -> _Name:
    if text not in _NAMES:
        raise CorruptDatasetError(
            f"a pickle that asks for {text[:80].replace(' ', '.', 1)!r}, not only for data"
        )
    return _NAMES[text]


def _append(stack: list, items: list) -> None:
    if not isinstance(stack[-1], list):
        raise CorruptDatasetError("a damaged pickle: it appends to something that is no list")
    stack[-1].extend(items)


def _set_items(stack: list, items: list) -> None:
    if not isinstance(stack[-1], dict):
        raise CorruptDatasetError("a damaged pickle: it sets a key of something that is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Only these are hashed: the hash of a tuple nested a million deep overruns the machine's stack.
        if not isinstance(key, (str, bytes)):
            raise CorruptDatasetError("a pickle with a dict whose keys are not text")
        stack[-1][key] = value


def _build(target: object, state: object) -> None:
    match target, state:
        case PickledArray(), (_, shape, _Dtype(code), fortran_order, content):
            target.shape, target.dtype = shape, code
            target.fortran_order, target.content = fortran_order, content
        case _Dtype(), tuple():  # byte order and alignment: nothing that one byte per element has
            pass
        case _:
            raise CorruptDatasetError("a pickle that sets the state of an object, not only data")
