"""The progress line, as Keras draws it."""

import shutil
import sys
import time
from typing import TextIO

BAR_CELLS = 20
REFRESH_SECONDS = 0.05


class Progress:
    """One line that tells how far a loop over batches is.

    On a terminal it is redrawn in place while the loop runs; elsewhere (a file, a pipe) a plain line is
    printed once at the end.

    Parameters
    ----------
    target
        How many steps the loop will take.
    prefix
        Words before the plain line, for instance "Epoch 3/20 - ".
    live
        False asks for the plain line on a terminal too.
    stream
        Where to write; standard output by default.
    """

    def __init__(self, target: int, prefix: str = "", live: bool = True, stream: TextIO | None = None):
        self.target = target
        self.prefix = prefix
        self.stream = stream or sys.stdout
        self.live = live and is_terminal(self.stream)
        self.cells = "━─" if can_encode("━─", self.stream) else "=."
        self.started = time.monotonic()
        self.drawn = -1.0
        self.length = 0

    def update(self, done: int, values: dict[str, float]) -> None:
        """Redraw the line, at most every 50 ms."""
        if not self.live:
            return
        now = time.monotonic()
        if now - self.drawn < REFRESH_SECONDS and self.drawn >= 0:
            return
        self.drawn = now
        elapsed = now - self.started
        remaining = elapsed / done * (self.target - done) if done else 0.0
        columns = shutil.get_terminal_size().columns
        line = self._line(done, f"{clock(remaining)} {per_step(elapsed, done)}", values, columns - 1)
        self._draw(line[: columns - 1])

    def finish(self, values: dict[str, float]) -> None:
        """Draw the line for the last time and end it."""
        elapsed = time.monotonic() - self.started
        if self.live:
            columns = shutil.get_terminal_size().columns
            timing = f"{clock(elapsed)} {per_step(elapsed, self.target)}"
            first, *more = folded(self._line(self.target, timing, values, columns - 1), columns - 1)
            self._draw(first, end="\n" + "".join(f"{line}\n" for line in more))
        else:
            timing = f"{clock(elapsed)} - {per_step(elapsed, self.target)}"
            self.stream.write(f"{self.prefix}{self.target}/{self.target} - {timing}{listed(values)}\n")
            self.stream.flush()

    def _line(self, done: int, timing: str, values: dict[str, float], width: int) -> str:
        """Return the line with as much of the bar as ``width`` columns leave room for."""
        counted = f"{done:>{len(str(self.target))}}/{self.target}"
        text = f" {timing}{listed(values)}"
        cells = min(BAR_CELLS, width - len(counted) - len(text) - 1)
        if cells < 4:
            return counted + text
        full = cells * done // self.target
        return f"{counted} {self.cells[0] * full}{self.cells[1] * (cells - full)}{text}"

    def _draw(self, line: str, end: str = "") -> None:
        """Replace what the line showed."""
        self.stream.write("\r" + line.ljust(self.length) + end)
        self.stream.flush()
        self.length = len(line)


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a person watches ``stream``."""
    return bool(getattr(stream, "isatty", lambda: False)())


def can_encode(text: str, stream: TextIO) -> bool:
    """Tell whether ``stream`` can write ``text``."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def listed(values: dict[str, float]) -> str:
    """Return " - accuracy: 0.4123 - loss: 1.6532"; small values in scientific form."""
    return "".join(
        f" - {name}: {value:.4f}" if abs(value) > 1e-3 or value == 0 else f" - {name}: {value:.4e}"
        for name, value in values.items()
    )


def folded(line: str, width: int) -> list[str]:
    """Return the line cut before a " - " wherever it would be wider than ``width``."""
    lines = [""]
    for part in line.replace(" - ", "\n - ").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return lines


def clock(seconds: float) -> str:
    """Return "5s", "1:05" or "2:01:05"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def per_step(seconds: float, steps: int) -> str:
    """Return the time of one step: "13ms/step"."""
    each = seconds / max(steps, 1)
    if each >= 1:
        return f"{each:.0f}s/step"
    return f"{each * 1e3:.0f}ms/step" if each >= 1e-3 else f"{each * 1e6:.0f}us/step"


def check_verbose(verbose: int | str) -> int:
    """Return 0, 1 or 2."""
    if verbose == "auto":
        return 1
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(f'verbose must be 0, 1, 2 or "auto", got {verbose!r}.')
