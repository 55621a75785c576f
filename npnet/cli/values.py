"""Values of options that several commands read alike."""

import argparse

__all__ = ["positive"]


def positive(text: str) -> int:
    """Return a number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return number
