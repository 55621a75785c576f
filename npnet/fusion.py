"""Turns a compiled model into a step of fused kernels."""

from typing import Any


def plan(model: Any) -> Any:
    """Return the fused step of ``model``, or None where there is none."""
    return None
