"""The line that says kernels are being compiled, so that nobody waits in silence."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TextIO

__all__ = ["Compilations", "announce_compilation", "waiting"]

_listening: "list[Compilations]" = []


class Compilations:
    """Says "Compiling kernels ... 6.1 s (once)" when kernels are compiled, and counts the time.

    Machine code found in the cache needs no compilation, and nothing is said; the time that Numba takes to
    load it, a second for the first, is counted.

    Parameters
    ----------
    stream
        Where to say it; None for standard output, if there is one.
    live
        Whether the line in which the cursor stands is a progress line, to be replaced.

    Attributes
    ----------
    seconds
        How long compiling and loading have taken so far.
    """

    def __init__(self, stream: TextIO | None = None, live: bool = False):
        self.stream, self.live = stream, live
        self.seconds = self._told = 0.0
        self._depth = 0  # a kernel's compilation holds those of the kernels it calls
        self._open = False

    def announce(self) -> None:
        """Begin the line, unless it has been."""
        if not self._open:
            import shutil  # which loads compressors

            self._open = True
            wipe = "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r" if self.live else ""
            print(f"{wipe}Compiling kernels ...", end="", file=self.stream, flush=True)

    def begin(self) -> None:
        """Start the clock."""
        if self._depth == 0:
            self._since = time.perf_counter()
        self._depth += 1

    def end(self) -> None:
        """Stop the clock."""
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._since

    def settle(self) -> None:
        """End the line, if one was begun."""
        if self._open:
            from npnet.kernels.machine import cache

            kept = "once" if cache.folder() else "at every start: the kernel cache is not used"
            print(f" {self.seconds - self._told:.1f} s ({kept})", file=self.stream, flush=True)
        self._told, self._open = self.seconds, False


@contextmanager
def waiting() -> Iterator[None]:
    """Count the time of the block, in which a kernel is compiled or loaded."""
    listening = [*_listening]
    for compilations in listening:
        compilations.begin()
    try:
        yield
    finally:
        for compilations in listening:
            compilations.end()


@contextmanager
def announce_compilation(stream: TextIO | None = None, live: bool = False) -> Iterator[Compilations]:
    """Announce every compilation inside the block.

    Whoever has work to show for calls ``settle()`` of what is given before it prints; the end of the block
    does so too. Nothing is printed where nothing is compiled.
    """
    compilations = Compilations(stream, live)
    if sys.modules.get("numba") is None:
        yield compilations
        return
    from numba.core import event

    listener = _listener()(compilations)
    event.register("numba:compile", listener)
    _listening.append(compilations)
    try:
        yield compilations
    finally:
        _listening.remove(compilations)
        event.unregister("numba:compile", listener)
        compilations.settle()


@cache
def _listener() -> Any:
    from numba.core import event

    class Listener(event.Listener):
        """Passes Numba's events on."""

        def __init__(self, compilations: Compilations):
            self.compilations = compilations

        def on_start(self, event: Any) -> None:
            self.compilations.announce()
            self.compilations.begin()

        def on_end(self, event: Any) -> None:
            self.compilations.end()

    return Listener
