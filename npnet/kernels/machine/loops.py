"""Loops over threads.

Numba has ``prange``: it cuts the loop out of its kernel, wraps it twice and compiles all of it each time.
Here the body of a loop is a kernel of its own, compiled once, and the loop is one call of Numba's threading
layer.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from npnet.kernels.machine.subnormals import flush_subnormals, restore_mode

__all__ = ["parallel_for", "parallel_for_flushing"]

# As Numba's threading layers have them. A task does sizes[0] steps of the loop; args[0] points to what
# belongs to the first, and distances[0] is how far it is to what belongs to the next.
_BYTES, _SIZE = ir.IntType(8).as_pointer(), ir.IntType(64)
_TASK = ir.FunctionType(ir.VoidType(), [_BYTES.as_pointer(), _SIZE.as_pointer(), _SIZE.as_pointer(), _BYTES])
_LOOP = ir.FunctionType(ir.VoidType(), [_BYTES] * 5 + [_SIZE] * 3)
_THREADS = ir.FunctionType(_SIZE, [])


@intrinsic
def parallel_for(typing_context, count, body, arguments):
    """Call body(i, *arguments) for each i below ``count``, shared out among the threads in equal stretches.

    ``body`` is a kernel that returns nothing; the kernel that holds the loop is made with ``parallel=True``.
    No other thread is woken for one step, or where only one is to run.

    Raises
    ------
    MemoryError
        A step could not have the memory it asked for; others may have been done.
    """
    return _loop(typing_context, count, body, arguments, flushes=False)


@intrinsic
def parallel_for_flushing(typing_context, count, body, arguments):
    """``parallel_for`` in which subnormal numbers are zero (``subnormals.py``)."""
    return _loop(typing_context, count, body, arguments, flushes=True)


def _loop(typing_context: Any, count: Any, body: Any, arguments: Any, flushes: bool) -> tuple[Any, Any]:
    """Return the type of a loop, and what writes it."""
    items = tuple(types.unliteral(item) for item in arguments)
    signature = typing_context.resolve_function_type(body, (types.intp, *items), {})

    def emit(context: Any, builder: Any, loop_signature: Any, values: Any) -> Any:
        given = cgutils.unpack_tuple(builder, values[2])
        given = [context.cast(builder, *item) for item in zip(given, arguments, items, strict=True)]
        compiled = body.dispatcher.overloads[signature.args]
        context.add_linking_libs([compiled.library])
        function = context.declare_function(builder.module, compiled.fndesc)
        shared = cgutils.alloca_once_value(
            builder, cgutils.pack_struct(builder, [*given, cgutils.false_bit])
        )  # what all steps read, and whether one failed
        task = _task(context, builder.module, function, signature, shared.type, flushes)
        # The number of a step travels as a pointer that nobody follows, from null on, one byte apart.
        start, size, distance = (
            cgutils.alloca_once_value(builder, value) for value in (_BYTES(None), values[0], _SIZE(1))
        )
        operands = [start, size, distance, builder.bitcast(shared, _BYTES)]
        threads = builder.call(
            cgutils.get_or_insert_function(builder.module, _THREADS, "get_num_threads"), []
        )
        fewest = builder.select(builder.icmp_signed("<", threads, values[0]), threads, values[0])
        with builder.if_else(builder.icmp_signed("<=", fewest, _SIZE(1))) as (alone, together):
            with alone:
                builder.call(task, operands)
            with together:
                loop = cgutils.get_or_insert_function(builder.module, _LOOP, "numba_parallel_for")
                pointers = [builder.bitcast(pointer, _BYTES) for pointer in (task, *operands)]
                builder.call(loop, [*pointers, _SIZE(0), _SIZE(1), threads])
        failed = builder.load(cgutils.gep_inbounds(builder, shared, 0, len(given)))
        with cgutils.if_unlikely(builder, failed):
            context.call_conv.return_user_exc(builder, MemoryError, ("in a loop over threads",))
        return context.get_dummy_value()

    return types.void(count, body, arguments), emit


def _task(context: Any, module: Any, function: Any, signature: Any, shared_type: Any, flushes: bool) -> Any:
    """Write the function that does a stretch of the loop: for each step, function(step, *shared)."""
    task = ir.Function(module, _TASK, module.get_unique_name("steps"))
    task.linkage = "internal"
    builder = ir.IRBuilder(task.append_basic_block())
    args, sizes, distances, data = task.args
    shared = builder.bitcast(data, shared_type)
    number = len(signature.args) - 1
    values = [builder.load(cgutils.gep_inbounds(builder, shared, 0, i)) for i in range(number)]
    first = builder.ptrtoint(builder.load(args), _SIZE)
    distance = builder.load(distances)
    mode = flush_subnormals(builder) if flushes else None
    with cgutils.for_range(builder, builder.load(sizes)) as loop:
        step = builder.add(first, builder.mul(loop.index, distance))
        status, _ = context.call_conv.call_function(
            builder, function, signature.return_type, signature.args, [step, *values]
        )
        with cgutils.if_unlikely(builder, status.is_error):
            builder.store(cgutils.true_bit, cgutils.gep_inbounds(builder, shared, 0, number))
    restore_mode(builder, mode)
    builder.ret_void()
    return task
