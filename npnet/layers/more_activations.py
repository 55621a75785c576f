"""Activations that fewer networks use, written as those of ``activations.py``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from npnet.internal import checks
from npnet.kernels import more_rules as rules
from npnet.layers.activations import FUNCTIONS, NAMES, Elementwise, ReLU, get

__all__ = ["Exponential", "HardSigmoid", "Mish", "ReLU6", "Softsign", "function"]


class Exponential(Elementwise):
    """y = e^x."""

    rule = staticmethod(rules.exponential)
    rule_backward = staticmethod(rules.exponential_backward)
    remembers = "y"


class Softsign(Elementwise):
    """y = x / (1 + |x|)."""

    rule = staticmethod(rules.softsign)
    rule_backward = staticmethod(rules.softsign_backward)


class HardSigmoid(Elementwise):
    """y = x/6 + 1/2, kept between 0 and 1."""

    rule = staticmethod(rules.hard_sigmoid)
    rule_backward = staticmethod(rules.hard_sigmoid_backward)


class Mish(Elementwise):
    """y = x tanh(log(1 + e^x)) (Misra 2019)."""

    rule = staticmethod(rules.mish)
    rule_backward = staticmethod(rules.mish_backward)


class ReLU6(ReLU):
    """y = min(max(x, 0), 6)."""

    def __init__(self, **options: Any):
        super().__init__(max_value=6.0, **options)


NAMES |= {
    "exponential": Exponential,
    "softsign": Softsign,
    "hard_sigmoid": HardSigmoid,
    "mish": Mish,
    "relu6": ReLU6,
}


def function(name: str) -> Callable[[Any], np.ndarray]:
    """Return the activation of this name as a function of an array, which layers take as an activation."""

    def compute(x: Any) -> np.ndarray:
        activation = get(name)
        assert activation is not None
        x = checks.numbers("x", x)
        return activation.forward(x if x.dtype.kind == "f" else x.astype(np.float64))

    compute.__name__ = compute.__qualname__ = name
    compute.__doc__ = f"Return ``Activation({name!r})`` of an array."
    FUNCTIONS[compute] = name
    return compute
