"""The moving average of the weights, which ``use_ema=True`` keeps (Polyak & Juditsky 1992; Keras's form).

It is a slot called "average", so it is saved with the model. It begins as the weight after the first step; at
the end of ``fit`` the weights become the average.
"""

from typing import Any

from npnet.layers.parameter import Parameter

__all__ = ["SLOT", "follow", "put_in_place"]

SLOT = "average"


def follow(optimizer: Any, parameters: list[Parameter]) -> None:
    """average <- momentum average + (1 - momentum) w, before the step is counted."""
    momentum = optimizer.ema_momentum if optimizer.iterations else 0.0
    for parameter in parameters:
        (average,) = optimizer.slots_of(parameter, (SLOT,))
        average[...] = momentum * average + (1 - momentum) * parameter.value
    every = optimizer.ema_overwrite_frequency
    if every and (optimizer.iterations + 1) % every == 0:
        put_in_place(optimizer, parameters)


def put_in_place(optimizer: Any, parameters: list[Parameter]) -> None:
    """w <- average, where there is one."""
    for parameter in parameters:
        slots = optimizer.memory.get(parameter, {})
        if SLOT in slots:
            parameter.value[...] = slots[SLOT]
