"""Values of options that several commands read alike."""

import argparse
import json
import math
from typing import Any

__all__ = ["Once", "positive", "print_json"]


class Once(argparse.Action):
    """Stores a list, and refuses another one: it could mean more elements as well as other ones."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the list."""
        if getattr(namespace, self.dest, self.default) is not self.default:
            raise argparse.ArgumentError(self, f"given twice. Give all sizes at once: {option_string} 64,32")
        setattr(namespace, self.dest, values)


def print_json(content: Any) -> None:
    """Print JSON; it has no infinity and no NaN, which are null."""
    print(json.dumps(_finite(content), indent=2, allow_nan=False))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def positive(text: str) -> int:
    """Return a number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return number
