"""THE TEXTBOOK: every forward, every backward and every update of npnet as a function of arrays.

Shapes: N samples in the batch, D inputs, M units, K classes; pictures (N, H, W, C) of C channels. Every
gradient ``dname`` is d loss / d name and has the shape of ``name``; any other derivative, of one quantity by
another, is written ∂a/∂b.
Nothing here changes its arguments, except ``update``, whose job it is.
The formulas of single elements (relu, rmsprop, ...) are in ``kernels/rules.py``.

``parallel`` holds the same functions, compiled. Both sets pass the same tests.
"""

from npnet.kernels.reference.convolution import (
    convolution_backward_input,
    convolution_backward_parameters,
    convolution_forward,
)
from npnet.kernels.reference.layers import (
    batch_norm_backward_input,
    batch_norm_backward_parameters,
    batch_norm_forward,
    dense_backward_input,
    dense_backward_parameters,
    dense_forward,
    elementwise,
    log_softmax_backward,
    log_softmax_forward,
    multiply_bfloat16,
    normalize_rows_backward,
    normalize_rows_forward,
    softmax_backward,
    softmax_forward,
    to_bfloat16,
)
from npnet.kernels.reference.losses import (
    binary_cross_entropy_backward,
    binary_cross_entropy_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    mean_absolute_error_backward,
    mean_absolute_error_forward,
    mean_squared_error_backward,
    mean_squared_error_forward,
    sigmoid_cross_entropy_backward,
    sigmoid_cross_entropy_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from npnet.kernels.reference.optimizers import orthogonalize, update
from npnet.kernels.reference.pictures import move_pixels, move_pixels_backward, standardize
from npnet.kernels.reference.pooling import (
    average_pool_backward,
    average_pool_forward,
    max_pool_backward,
    max_pool_forward,
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
