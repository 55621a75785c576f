"""The progress line, as Keras draws it."""

import os
import stat
import sys
import time
from typing import Any, Protocol, TextIO

import numpy as np

from npnet.internal import processes

__all__ = [
    "BAR_CELLS",
    "REFRESH_SECONDS",
    "NoPauses",
    "Pauses",
    "Progress",
    "can_encode",
    "check_verbose",
    "clock",
    "folded",
    "is_watched",
    "listed",
    "per_step",
    "terminal_columns",
]

BAR_CELLS = 20
REFRESH_SECONDS = 0.05


class Pauses(Protocol):
    """Times in which the loop waited for something that is not its work: for kernels to be compiled.

    Attributes
    ----------
    seconds
        How long it has waited so far.
    """

    seconds: float

    def settle(self) -> None:
        """End the line that says what was waited for, if there is one."""


class NoPauses:
    """A loop that waits for nothing."""

    seconds = 0.0

    def settle(self) -> None:
        """Do nothing: no line was begun."""


class Progress:
    """One line that tells how far a loop over batches is.

    Where a person watches (``is_watched``) it is redrawn in place while the loop runs; in IDLE's shell, which
    cannot redraw a line, the bar grows; elsewhere (a file, a pipe) a plain line is printed once at the end.
    Without a stream, as in programs without a console, where ``sys.stdout`` is None, nothing is printed.

    Parameters
    ----------
    target
        How many steps the loop will take; None where nobody knows yet, and no bar is drawn.
    prefix
        Words before the plain line, for instance "Epoch 3/20 - ".
    live
        False asks for the plain line where a person watches, too.
    stream
        Where to write; standard output by default.
    pauses
        Times that are not counted.
    before
        Steps that were taken before this loop: those of an epoch that goes on after an interrupt.
    """

    def __init__(
        self,
        target: int | None,
        prefix: str = "",
        live: bool = True,
        stream: TextIO | None = None,
        pauses: Pauses | None = None,
        before: int = 0,
    ):
        self.target = target
        self.prefix = prefix
        self.stream = sys.stdout if stream is None else stream
        self.live = live and is_watched(self.stream)
        self.grows = live and _is_idle(self.stream)
        self.cells = "━─" if can_encode("━─", self.stream) else "=."
        self.pauses = pauses or NoPauses()
        self.started = time.monotonic() - self.pauses.seconds
        self.drawn = -1.0
        self.length = 0
        self.before = self.done = before

    def update(self, done: int, values: dict[str, float]) -> None:
        """Redraw the line, at most every 50 ms."""
        self.pauses.settle()
        self.done = done
        if self.grows:
            self._grow(done)
        if not self.live:
            return
        now = time.monotonic()
        if now - self.drawn < REFRESH_SECONDS and self.drawn >= 0:
            return
        self.drawn = now
        elapsed, taken = self._elapsed(), done - self.before
        time_shown = elapsed
        if self.target is not None:
            time_shown = elapsed / taken * (self.target - done) if taken else 0.0
        columns = terminal_columns()
        line = self._line(done, f"{clock(time_shown)} {per_step(elapsed, taken)}", values, columns - 1)
        self._draw(line[: columns - 1])

    def finish(self, values: dict[str, float]) -> None:
        """Draw the line for the last time, with the steps that were taken, and end it."""
        self.pauses.settle()
        elapsed, taken = self._elapsed(), self.done - self.before
        timing = [clock(elapsed), *([per_step(elapsed, taken)] if taken else [])]
        if self.target is None:
            self.target = self.done
        if self.live:
            columns = terminal_columns()
            whole = self._line(self.done, " ".join(timing), values, columns - 1)
            first, *more = folded(whole, columns - 1)
            self._draw(first, end="\n" + "".join(f"{line}\n" for line in more))
        else:
            if self.grows:
                self._grow(self.done, end="\n")
            line = f"{self.prefix}{self.done}/{self.target} - {' - '.join(timing)}{listed(values)}"
            print(line, file=self.stream, flush=True)

    def _elapsed(self) -> float:
        """Return the seconds since the start, without the pauses."""
        return time.monotonic() - self.started - self.pauses.seconds

    def _line(self, done: int, timing: str, values: dict[str, float], width: int) -> str:
        """Return the line with as much of the bar as ``width`` columns leave room for."""
        text = f" {timing}{listed(values)}"
        if self.target is None:
            return f"{done}/Unknown{text}"
        counted = f"{done:>{len(str(self.target))}}/{self.target}"
        cells = min(BAR_CELLS, width - len(counted) - len(text) - 1)
        if cells < 4:
            return counted + text
        full = cells * done // max(self.target, 1)
        return f"{counted} {self.cells[0] * full}{self.cells[1] * (cells - full)}{text}"

    def _grow(self, done: int, end: str = "") -> None:
        """Append the cells that are new since the last time."""
        length = 0 if self.target is None else BAR_CELLS * done // max(self.target, 1)
        print(self.cells[0] * (length - self.length), end=end, file=self.stream, flush=True)
        self.length = length

    def _draw(self, line: str, end: str = "") -> None:
        """Replace what the line showed."""
        print("\r" + line.ljust(self.length), end=end, file=self.stream, flush=True)
        self.length = len(line)


def terminal_columns() -> int:
    """Return how many columns the terminal has."""
    import shutil  # which loads compressors: only where a line is drawn

    return shutil.get_terminal_size().columns


def is_watched(stream: TextIO | None) -> bool:
    """Tell whether a person watches ``stream`` where a carriage return goes back to the start of the line.

    That is a terminal, the output of a notebook's cell, and the console of PyCharm and its relatives. A
    notebook's stream calls itself no terminal; PyCharm's console is a pipe, and PyCharm says in the
    environment that it is there. IDLE's shell calls itself a terminal and cannot go back.
    """
    if _is_idle(stream):
        return False
    if type(stream).__module__.startswith("ipykernel.") or getattr(stream, "isatty", lambda: False)():
        return True
    return "PYCHARM_HOSTED" in os.environ and stream is sys.__stdout__ and _is_pipe(stream)


def _is_idle(stream: TextIO | None) -> bool:
    return type(stream).__module__.startswith("idlelib.")


def _is_pipe(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # closed, or no file of the system's
        return False


def can_encode(text: str, stream: TextIO | None) -> bool:
    """Tell whether ``stream`` can write ``text``."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def listed(values: dict[str, Any]) -> str:
    """Return " - accuracy: 0.4123 - loss: 1.6532"; small values in scientific form, of several the mean."""
    means = {name: float(np.mean(value)) for name, value in values.items()}
    return "".join(
        f" - {name}: {value:.4f}" if abs(value) > 1e-3 or value == 0 else f" - {name}: {value:.4e}"
        for name, value in means.items()
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
    """Return 0, 1 or 2; of several processes that train together all but the first are silent."""
    if verbose == "auto":
        verbose = 1
    if verbose in (0, 1, 2):
        return int(verbose) if processes.group().first else 0
    raise ValueError(f'verbose must be 0, 1, 2 or "auto", got {verbose!r}.')
