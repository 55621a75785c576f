"""What layers compute in: dtype policies, under Keras's names.

    npnet.mixed_precision.set_global_policy("mixed_bfloat16")    of all models made from now on
    Sequential([...], dtype="mixed_bfloat16")                    of one model
    Dense(10, "softmax", dtype="float32")                        of one layer of it

With "mixed_bfloat16" the operands of matrix products and convolutions, forward and backward, are rounded to
bfloat16, and the products are summed in float32. Weights, their gradients, the optimizer's memory, biases,
activations, normalisation, losses, metrics and all that goes in and out are float32. bfloat16 has the
exponents of float32, so losses need no scaling.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = [
    "NAMES", "DTypePolicy", "Policy", "dtype_policy", "get", "global_policy", "set_dtype_policy",
    "set_global_policy",
]  # fmt: skip

# name -> what is multiplied, what weights are
NAMES = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "mixed_bfloat16": ("bfloat16", "float32"),
}
HALF = "npnet has no float16, whose small exponents need losses to be scaled"
INSTEAD = {
    "bfloat16": 'its weights would lose small updates. Use "mixed_bfloat16", whose weights are float32',
    "float16": f'{HALF}. Use "mixed_bfloat16"',
    "mixed_float16": f'{HALF}. Use "mixed_bfloat16"',
}


@dataclass(frozen=True)
class DTypePolicy:
    """What a layer computes in, and what its weights are.

    Parameters
    ----------
    name
        "float32", "float64", or "mixed_bfloat16" for products of bfloat16 with weights of float32.

    Raises
    ------
    ValueError
        If it is another one.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in NAMES:
            *others, last = (f'"{name}"' for name in NAMES)
            reason = "".join(f": {instead}" for name, instead in INSTEAD.items() if name == self.name)
            raise ValueError(f"dtype must be {', '.join(others)} or {last}, got {self.name!r}{reason}.")

    @cached_property
    def compute_dtype(self) -> str:
        """What the operands of products are: "float32", "float64" or "bfloat16"."""
        return NAMES[self.name][0]

    @cached_property
    def variable_dtype(self) -> str:
        """What the weights are, and all else: "float32" or "float64"."""
        return NAMES[self.name][1]


Policy = DTypePolicy  # its older name
_global_policy = DTypePolicy("float32")


def get(dtype: Any) -> DTypePolicy:
    """Return the policy that is meant: one, its name, a NumPy dtype, or the global one for None."""
    if dtype is None:
        return _global_policy
    if isinstance(dtype, (np.dtype, type)):
        dtype = np.dtype(dtype).name
    return dtype if isinstance(dtype, DTypePolicy) else DTypePolicy(dtype)


def set_dtype_policy(policy: Any) -> None:
    """Let all models that are made from now on compute by this policy, unless they are given one.

    Parameters
    ----------
    policy
        One, or its name: "float32", as it is at the beginning, "float64" or "mixed_bfloat16".

    Raises
    ------
    ValueError
        If there is no such policy.
    """
    global _global_policy
    if policy is None:
        raise ValueError('policy must be one, or a name such as "mixed_bfloat16", got None.')
    _global_policy = get(policy)


def dtype_policy() -> DTypePolicy:
    """Return the policy of models that are not given one."""
    return _global_policy


set_global_policy, global_policy = set_dtype_policy, dtype_policy  # their older names
