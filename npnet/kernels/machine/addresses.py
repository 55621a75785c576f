"""Kernels that call others by the address of their machine code.

So the caller is compiled once, whichever kernels it is given; these are compiled, and kept, one by one.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["call"]


@intrinsic
def call(typing_context, address, arguments):
    """Return what the kernel at ``address`` returns, an int64; the arguments are those it was compiled for.

    Raises
    ------
    MemoryError
        The kernel could not have the memory it asked for.
    """
    kinds = tuple(arguments)

    def emit(context, builder, signature, values):
        convention = context.call_conv
        function = builder.inttoptr(values[0], convention.get_function_type(types.int64, kinds).as_pointer())
        result = cgutils.alloca_once(builder, context.get_value_type(types.int64))
        problem = cgutils.alloca_once(builder, function.type.pointee.args[1].pointee)
        given = context.get_arg_packer(kinds).as_arguments(builder, cgutils.unpack_tuple(builder, values[1]))
        status = builder.call(function, [result, problem, *given])
        with cgutils.if_unlikely(builder, builder.icmp_signed("!=", status, ir.Constant(status.type, 0))):
            convention.return_user_exc(builder, MemoryError, ("in a kernel called by address",))
        return builder.load(result)

    return types.int64(address, arguments), emit
