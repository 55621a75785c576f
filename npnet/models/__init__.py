"""Models: layers in a row, trained, saved and loaded."""

from npnet.models.sequential import Sequential, load_model

__all__ = ["Sequential", "load_model"]
