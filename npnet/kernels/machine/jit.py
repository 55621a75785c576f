"""How npnet meets Numba: one decorator for every compiled kernel.

Machine code is kept between runs (see ``cache.py``), threads are started and counted in ``threads.py``.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic

from npnet.kernels.machine import announce, cache, threads
from npnet.kernels.machine.linked import Linked
from npnet.kernels.machine.signals import held_back

__all__ = [
    "FASTMATH",
    "AddressedKernel",
    "Kernel",
    "ParallelKernel",
    "get_num_threads",
    "jit",
    "serial_below",
    "set_num_threads",
]

# What LLVM may do with floating-point arithmetic. Never "nnan" or "ninf": with them relu(NaN) is 0 and
# isnan lies.
FASTMATH = {"contract", "reassoc", "arcp", "nsz"}


class Kernel(CPUDispatcher):
    """A function that Numba compiles at its first call, or finds compiled in npnet's cache."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._cache = cache.KernelCache(self)

    @cached_property
    def linked(self) -> Linked:
        """What the kernel is to the kernels that call it."""
        return Linked(self.py_func, self.targetoptions)

    @property
    def _numba_type_(self) -> Any:
        """The type by which kernels know what they call; it does not keep it alive."""
        return types.Dispatcher(self.linked)

    def is_cached(self, arguments: tuple[Any, ...]) -> bool:
        """Whether there is machine code for these argument types, here or in the cache."""
        return arguments in self.overloads or self._cache.holds(arguments)

    def address(self, arguments: tuple[Any, ...]) -> int:
        """Return where the machine code for these argument types lies, for ``addresses.call``."""
        self.compile(arguments)
        result: Any = self.overloads[arguments]
        return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)

    def compile(self, signature: Any) -> Any:
        """Return the machine code for one set of argument types."""
        threads.start()  # the code is linked to what starts its threads
        with announce.waiting(), held_back():
            return super().compile(signature)


class AddressedKernel(Kernel):
    """A kernel that others call by its address. Python cannot: there is no code for that."""

    def __call__(self, *arguments: Any) -> Any:
        """Refuse."""
        raise TypeError(f"{self.py_func.__name__} is called by its address only; see addresses.call.")


class ParallelKernel(Kernel):
    """A kernel with loops over threads (``loops.parallel_for``), to be called from Python only."""

    alone = Kernel.__call__

    def below(self, limit: int, work: int) -> Callable[..., Any]:
        """Return how to run a kernel that begins with ``serial_below(limit, work)``.

        That is itself, or, where it would leave all work to the calling thread anyway, ``alone``, which need
        not wait for threads to be counted.
        """
        return self.alone if work < limit else self

    def __call__(self, *arguments: Any) -> Any:
        """Run on as many threads as ``set_threads`` says."""
        return threads.run(self.alone, arguments)


@intrinsic
def get_num_threads(typing_context):
    """Numba's function, for kernels: called by name, not by an address that holds for this process alone."""

    def emit(context, builder, signature, arguments):
        kind = ir.FunctionType(context.get_value_type(signature.return_type), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "get_num_threads"), [])

    return types.intp(), emit


@intrinsic
def set_num_threads(typing_context, count):
    """Numba's function, for kernels, like ``get_num_threads``. What a kernel sets it sets back."""

    def emit(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, "set_num_threads")
        builder.call(function, [builder.trunc(arguments[0], ir.IntType(32))])
        return context.get_dummy_value()

    return types.void(types.intp), emit


def jit(
    function: Callable | None = None,
    *,
    parallel: bool = False,
    addressed: bool = False,
    inline: bool = False,
    spliced: bool = False,
    refcount: bool = True,
) -> Any:
    """Compile a kernel at its first call, once per set of argument types, and keep the machine code.

    Kernels release the GIL and divide as NumPy divides (1/0 is infinite). A kernel made inside a function may
    close over numbers, strings, tuples, types and functions. Its machine code must not hold addresses of this
    process: it calls no ctypes function, and ``set_num_threads`` from here.

    Parameters
    ----------
    parallel
        The kernel holds a ``parallel_for`` (see ``loops.py``). Such a kernel is called from Python only.
    addressed
        The kernel is called by its address only, so the code by which Python would call it is left out: with
        dozens of arguments it takes longer to compile than the kernel.
    inline
        Let LLVM make the kernel part of its callers.
    spliced
        Let Numba do so, before it compiles: a small function then needs no compilation of its own.
    refcount
        False turns off reference counting of the arguments, for kernels that make no arrays: the atomic
        operations would stall the processor until everything it has begun is done.
    """
    if function is None:
        return partial(
            jit, parallel=parallel, addressed=addressed, inline=inline, spliced=spliced, refcount=refcount
        )
    options = {"nopython": True, "boundscheck": None, "nogil": True, "error_model": "numpy"}
    options |= {"no_cpython_wrapper": addressed, "no_cfunc_wrapper": True}
    options |= {"forceinline": inline, "_nrt": refcount} | ({"inline": "always"} if spliced else {})
    make = ParallelKernel if parallel else AddressedKernel if addressed else Kernel
    return make(function, targetoptions={**options, "fastmath": FASTMATH})


@jit
def serial_below(limit, work):
    """Let the next loop run on the calling thread alone if ``work`` is below ``limit``.

    Return the number of threads before, which the kernel gives to ``set_num_threads`` after the loop. This is
    done inside the kernel: from Python, the two calls would take a tenth of the time of a small kernel.
    """
    threads = get_num_threads()
    if work < limit:
        set_num_threads(1)
    return threads
