"""Models: layers in a row, trained, saved and loaded."""

from npnet.models.sequential import Sequential, clone_model, load_model

__all__ = ["Sequential", "clone_model", "load_model"]
