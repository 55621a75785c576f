"""A part of a long array, seen as an array of its own, without counting references."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

__all__ = ["view"]


@intrinsic
def view(typing_context, array, start, shape):
    """The numbers of a one-dimensional array from ``start`` on, as an array of this shape.

    It holds no reference: it is valid as long as the array is, which its caller sees to. Slicing and
    reshaping would count references, and be a page of machine code each time.
    """
    result = types.Array(array.dtype, len(shape), "C", aligned=array.aligned)

    def emit(context, builder, signature, arguments):
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0]).data
        sizes = cgutils.unpack_tuple(builder, arguments[2])
        item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        strides, stride = [], item
        for size in reversed(sizes):
            strides.insert(0, stride)
            stride = builder.mul(stride, size)
        out = context.make_array(result)(context, builder)
        populate_array(
            out,
            data=builder.gep(data, [arguments[1]]),
            shape=sizes,
            strides=strides,
            itemsize=item,
            meminfo=ir.Constant(context.get_value_type(types.MemInfoPointer(types.voidptr)), None),
        )
        return out._getvalue()

    return result(array, types.intp, types.UniTuple(types.intp, len(shape))), emit
