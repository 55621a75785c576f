"""Does a layer of one's own do what a layer must? Where it does not, a sentence says what is missing.

Each is run by itself: forward and backward as ``layers/layer.py`` describes them, and the way into a file and
back, which knows nothing of a layer but its constructor's arguments, its parameters and its random stream.
"""

import copy
import json
from typing import NoReturn

import numpy as np

from npnet import layers
from npnet.internal import config
from npnet.internal.results import kind, title
from npnet.internal.streams import WEIGHTS, stream
from npnet.layers.layer import Layer
from npnet.layers.own import wrong_gradients, wrong_output
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
                _examine_passes(link, x)
                note = _examine_saving(link, x, stream(model.seed, WEIGHTS, index))
                notes += [note] if note else []
                names.append(type(link).__name__)
            x = link.forward(x, training=True)
    if names:
        table = ", ".join(f'"{name}": {name}' for name in dict.fromkeys(names))
        notes.append(f"To load a saved model: load_model(path, custom_objects={{{table}}}).")
    return notes


# --- forward and backward -----------------------------------------------------------------------------------


def _examine_passes(link: Layer, x: np.ndarray) -> None:
    """Run forward and backward; raise a TypeError that says what is missing."""

    def missing(what: str) -> NoReturn:
        raise TypeError(f"{title(link)}: {what}")

    given, rng = x.copy(), copy.deepcopy(link.rng)

    def forward() -> np.ndarray:
        if link.rng is not None and rng is not None:
            link.rng.bit_generator.state = rng.bit_generator.state
        return link.forward(given, training=True)

    def look(wrong: str | None) -> None:
        if wrong is not None:
            missing(wrong)

    y = forward()
    look(wrong_output(link, y, x))
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
    learned = link.trainable_parameters
    for parameter in learned:
        vars(parameter).pop("grad", None)  # of the training so far
    look(wrong_gradients(link, link.backward(given_back), dy))
    if not np.array_equal(given_back, dy):
        missing("backward changed dy, which is not its own; write into a new array.")
    before = [parameter.grad.copy() for parameter in learned]
    forward()
    link.backward(given_back)
    for parameter, grad in zip(learned, before, strict=True):
        if not np.array_equal(parameter.grad, grad, equal_nan=True):
            missing(f"backward must overwrite grad of the parameter {parameter.name!r}, not add to it.")


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
                f"its argument {name!r} is {kind(value)}; files hold numbers, text, lists, dicts and npnet's"
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
