"""The kernels that run: the functions of ``reference``, compiled by Numba and spread over all cores.

Names, arguments and results are those of ``reference``, where the mathematics is explained; the formulas
of single elements are taken from ``rules`` as they stand. What costs too little to be worth compiling, or
with few numbers to be worth a call (``LEAST``), is the reference's own function.

Work is divided over rows, columns or blocks of the result, by shape alone and never along a sum: the bits of
a result do not depend on the number of threads.
"""

from npnet.kernels.convolution import (
    average_pool_backward,
    average_pool_forward,
    convolution_backward_input,
    convolution_backward_parameters,
    convolution_forward,
    max_pool_backward,
    max_pool_forward,
)
from npnet.kernels.parallel.bfloat16 import multiply_bfloat16, to_bfloat16
from npnet.kernels.parallel.columns import (
    batch_norm_backward_input,
    batch_norm_backward_parameters,
    batch_norm_forward,
)
from npnet.kernels.parallel.layers import (
    dense_backward_input,
    dense_backward_parameters,
    dense_forward,
    elementwise,
    log_softmax_backward,
    log_softmax_forward,
    softmax_backward,
    softmax_forward,
)
from npnet.kernels.parallel.optimizers import orthogonalize, update
from npnet.kernels.parallel.pictures import move_pixels, standardize
from npnet.kernels.reference import (
    binary_cross_entropy_backward,
    binary_cross_entropy_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    mean_absolute_error_backward,
    mean_absolute_error_forward,
    mean_squared_error_backward,
    mean_squared_error_forward,
    move_pixels_backward,
    normalize_rows_backward,
    normalize_rows_forward,
    sigmoid_cross_entropy_backward,
    sigmoid_cross_entropy_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

__all__ = [
    "average_pool_backward",
    "average_pool_forward",
    "batch_norm_backward_input",
    "batch_norm_backward_parameters",
    "batch_norm_forward",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
    "convolution_backward_input",
    "convolution_backward_parameters",
    "convolution_forward",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "dense_backward_input",
    "dense_backward_parameters",
    "dense_forward",
    "elementwise",
    "log_softmax_backward",
    "log_softmax_forward",
    "max_pool_backward",
    "max_pool_forward",
    "mean_absolute_error_backward",
    "mean_absolute_error_forward",
    "mean_squared_error_backward",
    "mean_squared_error_forward",
    "move_pixels",
    "move_pixels_backward",
    "multiply_bfloat16",
    "normalize_rows_backward",
    "normalize_rows_forward",
    "orthogonalize",
    "sigmoid_cross_entropy_backward",
    "sigmoid_cross_entropy_forward",
    "softmax_backward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
    "softmax_forward",
    "standardize",
    "to_bfloat16",
    "update",
]
