"""Does a layer of one's own do what a layer must? Where it does not, a sentence says what is missing.

Each is run by itself: forward and backward as ``layers/layer.py`` describes them, and the way into a file and
back, which knows nothing of a layer but its constructor's arguments, its parameters and its random stream.
"""

import copy
import json
from typing import Any, NoReturn

import numpy as np

from npnet import layers
from npnet.internal import config
from npnet.internal.streams import WEIGHTS, stream
from npnet.layers.layer import Layer, output_shape
from npnet.layers.parameter import Parameter
from npnet.models import Sequential

__all__ = ["SUPER", "examine"]

SUPER = "super().__init__(**options)"


def examine(model: Sequential, x: np.ndarray) -> list[str]:
    """Run every layer that is not npnet's; return sentences about what saving and loading them needs.

    Parameters
    ----------
    model
        Built. Its layers may change, so give a copy.
    x
        A batch in the dtype of its parameters.

    Raises
    ------
    TypeError
        Where one cannot be trained as it is; the sentence says what is missing.
    """
    notes, names = [], []
    for index, layer in enumerate(model.layers):
        for link in layer.chain():
            if type(link) not in layers.CLASSES.values():
                _examine_passes(link, x, layer.trainable)
                note = _examine_saving(link, x, stream(model.seed, WEIGHTS, index))
                notes += [note] if note else []
                names.append(type(link).__name__)
            x = link.forward(x, training=True)
    if names:
        table = ", ".join(f'"{name}": {name}' for name in dict.fromkeys(names))
        notes.append(f"To load a saved model: load_model(path, custom_objects={{{table}}}).")
    return notes


# --- forward and backward -----------------------------------------------------------------------------------


def _examine_passes(link: Layer, x: np.ndarray, trainable: bool) -> None:
    """Run forward and backward; raise a TypeError that says what is missing."""

    def missing(what: str) -> NoReturn:
        raise TypeError(f"{type(link).__name__} {link.name!r}: {what}")

    given, rng = x.copy(), copy.deepcopy(link.rng)

    def forward() -> np.ndarray:
        if link.rng is not None and rng is not None:
            link.rng.bit_generator.state = rng.bit_generator.state
        return link.forward(given, training=True)

    y = forward()
    if not isinstance(y, np.ndarray):
        missing(f"forward must return y, an array, got {_kind(y)}.")
    expected = output_shape(link, x.shape[1:])
    if y.shape != (len(x), *expected):
        if type(link).compute_output_shape is Layer.compute_output_shape:
            missing(
                f"forward makes samples of shape {y.shape[1:]} of those of shape {x.shape[1:]}; add"
                f" compute_output_shape(self, input_shape), which returns {y.shape[1:]} here."
            )
        missing(
            f"forward returned an array of shape {y.shape} where compute_output_shape says"
            f" {(len(x), *expected)}; they must agree."
        )
    if y.dtype != x.dtype:
        missing(f"forward must return the dtype of x, {x.dtype}, got {y.dtype}.")
    if not np.array_equal(given, x):
        missing("forward changed x, which other layers still need; write into a new array.")
    y = y.copy()
    if not np.array_equal(forward(), y, equal_nan=True):
        missing(
            "forward gave two results for one batch. Random numbers must come from self.rng, which build"
            " keeps (self.rng = rng), and nothing else may differ from one call to the next."
        )

    dy = np.random.default_rng(0).standard_normal(y.shape)
    given_back = dy.copy()
    learned = [parameter for parameter in link.parameters if trainable and parameter.trainable]
    for parameter in learned:
        vars(parameter).pop("grad", None)  # of the training so far
    dx = link.backward(given_back)
    if not isinstance(dx, np.ndarray):
        missing(f"backward must return dx, an array of the shape of x, got {_kind(dx)}.")
    if dx.shape != x.shape:
        missing(f"backward must return dx of the shape of x, {x.shape}, got {dx.shape}.")
    if not np.array_equal(given_back, dy):
        missing("backward changed dy, which is not its own; write into a new array.")
    for parameter in learned:
        grad = getattr(parameter, "grad", None)
        if not isinstance(grad, (np.ndarray, np.generic)):  # the latter for a parameter of one number
            missing(f"backward must set grad of the parameter {parameter.name!r}, got {_kind(grad)}.")
        if grad.shape != parameter.shape:
            missing(
                f"grad of the parameter {parameter.name!r} must have its shape, {parameter.shape}, got"
                f" {grad.shape}."
            )
    before = [parameter.grad.copy() for parameter in learned]
    forward()
    link.backward(given_back)
    for parameter, grad in zip(learned, before, strict=True):
        if not np.array_equal(parameter.grad, grad, equal_nan=True):
            missing(f"backward must overwrite grad of the parameter {parameter.name!r}, not add to it.")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


# --- into a file and back -----------------------------------------------------------------------------------


def _examine_saving(link: Layer, x: np.ndarray, rng: np.random.Generator) -> str | None:
    """Return a sentence about what a saved and loaded model would lack of this layer, or None."""
    try:
        twin = _loaded(link)
        if link.input_shape is not None:
            twin.build(link.input_shape, rng, x.dtype)
        _compare(link, twin, x)
    except Exception as error:  # whatever its constructor or build does
        return f"Saving misses something of {type(link).__name__} {link.name!r}: {error}"
    return None


def _loaded(link: Layer) -> Layer:
    """Return the layer that the constructor makes of what a file holds."""
    cls = type(link)
    for attribute, value in vars(link).items():
        if isinstance(value, Parameter) and not any(value is known for known in link.parameters):
            raise TypeError(
                f"the parameter self.{attribute} was not made by self.add_parameter, so it is neither trained"
                " nor saved."
            )
    description = config.serialize(link)
    for name, value in description["config"].items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"its argument {name!r} is {_kind(value)}; files hold numbers, text, lists, dicts and npnet's"
                " own objects."
            ) from None
    given = json.loads(json.dumps(description))
    try:
        with config.custom_objects({cls.__name__: cls}):
            twin = layers.from_config(given)
    except TypeError as error:
        raise TypeError(
            f"loading calls {cls.__name__}({', '.join(f'{name}=...' for name in given['config'])}), which"
            f" fails: {error}. Let __init__ take **options and begin with {SUPER}."
        ) from None
    got = json.loads(json.dumps(config.serialize(twin)))
    for name, value in given["config"].items():
        if got["config"].get(name) != value:
            raise TypeError(
                f"made with {name}={value!r} its attribute {name!r} is {got['config'].get(name)!r}. Keep each"
                f" argument as it came (self.{name} = {name}), and hand **options on: {SUPER}."
            )
    return twin


def _compare(link: Layer, twin: Layer, x: np.ndarray) -> None:
    """Raise a TypeError if two layers of the same parameters give different results for a batch."""
    twin.kernels = link.kernels
    for parameter, value in zip(twin.parameters, link.get_weights(), strict=True):
        parameter.assign(value)
    for training in (False, True):
        if link.rng is not None and twin.rng is not None:
            twin.rng.bit_generator.state = link.rng.bit_generator.state
        if not np.array_equal(link.forward(x, training), twin.forward(x, training), equal_nan=True):
            raise TypeError(
                "what is made of its arguments and parameters computes something else. All that forward uses"
                " must be an argument of __init__, made by self.add_parameter, or drawn from self.rng."
            )
