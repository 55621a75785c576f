"""Words for numbers, in messages."""

__all__ = ["quantity"]


def quantity(number: int, noun: str) -> str:
    """1 epoch, 20 epochs, 10,000 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
