"""A picture of a model under Keras's name."""

from typing import Any

from npnet.internal import config
from npnet.plotting import PathLike
from npnet.plotting.network import network

__all__ = ["plot_model"]


@config.keras_arguments(
    show_dtype=False,
    rankdir="TB",
    expand_nested=False,
    dpi=200,
    show_layer_activations=False,
    splines="ortho",
)
def plot_model(
    model: Any,
    to_file: PathLike | None = "model.png",
    show_shapes: bool = False,
    show_layer_names: bool = False,
    show_trainable: bool = False,
) -> Any:
    """Draw a model's layers from first to last with matplotlib.

    Parameters
    ----------
    to_file
        Where to save the picture: png, svg or pdf; None for nowhere.
    show_shapes
        Write the output's shape into each box; the model must be built.
    show_layer_names, show_trainable
        Write them there, too.

    Returns
    -------
    matplotlib.figure.Figure
        The picture, which a notebook shows.
    """
    shape = model.require_built("plot_model") if show_shapes else ()
    boxes = [["Input", f"(None, {', '.join(map(str, shape))})"]] if show_shapes else []
    for layer in model.layers:
        links = ", ".join(type(link).__name__ for link in layer.chain())
        lines = [links if layer.chain()[0] is layer else type(layer).__name__]
        if show_layer_names:
            lines.append(layer.name)
        if show_shapes:
            shape = layer.compute_output_shape(shape)
            lines.append(f"(None, {', '.join(map(str, shape))})")
        if show_trainable:
            lines.append("trained" if layer.trainable else "frozen")
        boxes.append(lines)
    count = sum(layer.count_params() for layer in model.layers)
    return network(model.name, f"{len(model.layers)} layers, {count:,} parameters", boxes, to_file)
