"""Arrays that hold no reference to the memory they lie in, whose owner sees to it that it stays."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

__all__ = ["array_at", "view"]


@intrinsic
def view(typing_context, array, start, shape):
    """The numbers of a one-dimensional array from ``start`` on, as an array of this shape.

    Slicing and reshaping would count references, and be a page of machine code each time.
    """
    result = types.Array(array.dtype, len(shape), "C", aligned=array.aligned)

    def emit(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return _array(context, builder, result, builder.gep(data, [arguments[1]]), arguments[2])

    return result(array, types.intp, types.UniTuple(types.intp, len(shape))), emit


@intrinsic
def array_at(typing_context, address, dtype, shape):
    """The numbers that lie at an address, as a C-ordered array of this dtype and shape."""
    result = types.Array(dtype.dtype, len(shape), "C")

    def emit(context, builder, signature, arguments):
        data = builder.inttoptr(arguments[0], context.get_data_type(result.dtype).as_pointer())
        return _array(context, builder, result, data, arguments[2])

    return result(types.intp, dtype, types.UniTuple(types.intp, len(shape))), emit


def _array(context, builder, kind, data, shape):
    """Write the code that makes an array of memory."""
    sizes = cgutils.unpack_tuple(builder, shape)
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides, stride = [], item
    for size in reversed(sizes):
        strides.insert(0, stride)
        stride = builder.mul(stride, size)
    out = context.make_array(kind)(context, builder)
    nobody = ir.Constant(context.get_value_type(types.MemInfoPointer(types.voidptr)), None)
    populate_array(out, data=data, shape=sizes, strides=strides, itemsize=item, meminfo=nobody)
    return out._getvalue()
