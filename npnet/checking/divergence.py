"""Where a training that came to NaN or infinity first did so."""

from typing import Any

import numpy as np

from npnet.training.batches import gather

__all__ = ["first_non_finite"]


def first_non_finite(model: Any, x: np.ndarray, y: np.ndarray) -> str | None:
    """Return in words where the first value that is not finite appears on the way to the loss of a batch.

    Looks at the parameters of each layer and at what the layer makes of the batch, first to last, then at the
    loss. None where all is finite.

    Parameters
    ----------
    model : Sequential
        Compiled, with the weights from before the step that failed. They stay as they are; layers with random
        numbers draw some.
    x, y
        The batch of that step, as given to ``fit``.
    """
    with np.errstate(all="ignore"):
        model.predict_on_batch(x[:1])  # every link gets its kernels
        output = gather(x, np.arange(len(x)), model.dtype)
        for layer in model.layers:
            for parameter in layer.parameters:
                if not np.isfinite(parameter.numbers).all():
                    return f"{parameter.name} of layer {layer.name!r}"
            for link in layer.chain():
                output = link.forward(output, training=True)
                if not np.isfinite(output).all():
                    what = "output" if link is layer else type(link).__name__.lower()
                    return f"the {what} of layer {layer.name!r}{_size(layer)}"
        loss = model.loss.forward(y, output)
    return None if np.isfinite(loss) else "the loss"


def _size(layer: Any) -> str:
    """Say how large the layer's parameters are, which is why its output is not finite."""
    largest = max((float(np.abs(p.numbers).max(initial=0)) for p in layer.parameters), default=None)
    return "" if largest is None else f", whose largest weight is {largest:.2g}"
