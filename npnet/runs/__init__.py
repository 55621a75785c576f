"""Training runs and the folders they leave behind."""

from npnet.runs.training import train

__all__ = ["train"]
