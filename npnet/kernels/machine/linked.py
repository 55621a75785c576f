"""Kernels inside kernels: kept as LLVM's intermediate code, and made machine code as part of their callers.

Numba compiles every function as if Python might call it: with a wrapper that unpacks Python's objects,
optimised, and down to machine code. A function that only other kernels call needs none of this, and most of
npnet's are such.
"""

import pickle
from typing import Any

import llvmlite.binding as llvm
from numba.core import compiler
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps

from npnet.kernels.machine import cache

__all__ = ["Linked", "LinkedCache", "LinkedCode"]


class LinkedCode(JITCodeLibrary):
    """Code that waits to be linked into the kernels that call it."""

    def _optimize_final_module(self) -> None:
        """Do nothing: kernels optimise all that they are made of, whatever was done to it before."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _Compiler(compiler.Compiler):
    """Numba's compiler, stopped before machine code is made."""

    def __init__(
        self, typing: Any, target: Any, library: Any, arguments: Any, result: Any, flags: Any, *rest: Any
    ):
        flags = flags.copy()
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        library = LinkedCode(target.codegen(), "linked")
        super().__init__(typing, target, library, arguments, result, flags, *rest)


class LinkedCache(cache.KernelCache):
    """Keeps intermediate code, where ``KernelCache`` keeps machine code."""

    suffix = ".linked"

    def pack(self, result: Any) -> bytes:
        """Return what ``unpack`` makes the compiled function from in another process."""
        result.fndesc.typemap = result.fndesc.calltypes = None  # not needed, and not to be pickled
        _, _, code = result.library.serialize_using_bitcode()
        return dumps((code, result.fndesc, result.signature))

    def unpack(self, content: bytes, target_context: Any) -> Any:
        """Return the compiled function that ``pack`` described."""
        code, description, signature = pickle.loads(content)
        library = LinkedCode(target_context.codegen(), "linked")
        library._final_module = llvm.parse_bitcode(code)
        library._finalize_final_module()
        return compiler.compile_result(
            typing_context=target_context.typing_context, target_context=target_context, library=library,
            entry_point=object(), fndesc=description, signature=signature, objectmode=False,
        )  # fmt: skip


class Linked(CPUDispatcher):
    """What a kernel is to the kernels that call it."""

    def __init__(self, function: Any, options: dict[str, Any]):
        super().__init__(function, targetoptions=options, pipeline_class=_Compiler)
        self._cache = LinkedCache(self)

    def add_overload(self, result: Any) -> None:
        """Make the code for one set of argument types known to Numba, under a key instead of an address."""
        if result.entry_point is None:
            result = result._replace(entry_point=object())
            self.targetctx.insert_user_function(result.entry_point, result.fndesc, [result.library])
        self.overloads[tuple(result.signature.args)] = result
