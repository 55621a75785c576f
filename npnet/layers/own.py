"""Layers that are not npnet's own: do their methods take and return what a network gives and needs?"""

import inspect

import numpy as np

from npnet.internal.results import kind
from npnet.internal.strict import is_own
from npnet.kernels import name_of
from npnet.layers.layer import Layer, output_shape
from npnet.layers.parameter import Parameter

__all__ = ["check_arguments", "wrong_gradients", "wrong_output"]

# What a model gives the methods of its layers.
ARGUMENTS = {"build": ("input_shape", "rng", "dtype"), "forward": ("x", "training"), "backward": ("dy",)}


def check_arguments(layer: Layer) -> None:
    """Raise a TypeError if a method of a layer of one's own does not take what its model gives it."""
    if is_own(type(layer)):
        return
    for name, arguments in ARGUMENTS.items():
        method = getattr(layer, name)
        try:
            inspect.signature(method).bind(*arguments)
        except TypeError:
            raise TypeError(
                f"{type(layer).__name__}.{name} must be {name}(self, {', '.join(arguments)}), got"
                f" {name}{inspect.signature(getattr(type(layer), name))}."
            ) from None


def wrong_output(link: Layer, y: object, x: np.ndarray, *_: object) -> str | None:
    """Say what is wrong with what forward returned for x, or return None."""
    if not isinstance(y, np.ndarray):
        return f"forward must return y, an array, got {kind(y)}."
    if np.ndim(x) < 2:
        return None  # called by hand, on no batch
    expected = output_shape(link, x.shape[1:])
    if y.shape == (len(x), *expected):
        return None
    if type(link).compute_output_shape is Layer.compute_output_shape and y.shape[:1] == x.shape[:1]:
        return (
            f"forward makes samples of shape {y.shape[1:]} of those of shape {x.shape[1:]}; add"
            f" compute_output_shape(self, input_shape), which returns {y.shape[1:]} here."
        )
    return (
        f"forward returned an array of shape {y.shape} where compute_output_shape says"
        f" {(len(x), *expected)}; they must agree."
    )


def wrong_gradients(link: Layer, dx: object, dy: np.ndarray) -> str | None:
    """Say what is wrong with what backward returned for dy, and set, or return None."""
    # An activation has no input shape, and keeps the shape.
    shape = dy.shape if link.input_shape is None else (len(dy), *link.input_shape)
    if not isinstance(dx, np.ndarray):
        return f"backward must return dx, an array of the shape of x, got {kind(dx)}."
    if dx.shape != shape:
        return f"backward must return dx of the shape of x, {shape}, got {dx.shape}."
    return next(filter(None, (_wrong_grad(link, parameter) for parameter in link.trainable_parameters)), None)


def _wrong_grad(link: Layer, parameter: Parameter) -> str | None:
    grad = getattr(parameter, "grad", None)
    if not isinstance(grad, (np.ndarray, np.generic)):  # the latter for a parameter of one number
        return f"backward must set grad of the parameter {parameter.name!r}, got {kind(grad)}."
    if grad.shape != parameter.shape:
        return (
            f"grad of the parameter {parameter.name!r} must have its shape, {parameter.shape}, got"
            f" {grad.shape}."
        )
    if grad.dtype != parameter.dtype and name_of(link.kernels) == "numba":  # NumPy's kernels convert it
        return (
            f"grad of the parameter {parameter.name!r} must have its dtype, {parameter.dtype}, got"
            f" {grad.dtype}. Convert it with astype."
        )
    return None


Layer.results = {"forward": wrong_output, "backward": wrong_gradients}
