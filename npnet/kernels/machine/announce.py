"""The one line that says kernels are being compiled, so that nobody waits in silence."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TextIO


@contextmanager
def announce_compilation(stream: TextIO) -> Iterator[None]:
    """Print "Compiling kernels ... 6.1 s (once)" if kernels are compiled inside the block, else nothing.

    Machine code found in the cache needs no compilation and prints nothing. The time is that of compiling
    alone. Meant to stand around a step of training, which it delays by a few microseconds.
    """
    if "numba" not in sys.modules:
        yield
        return
    from numba.core import event

    watch = _stopwatch()(stream)
    event.register("numba:compile", watch)
    try:
        yield
    finally:
        event.unregister("numba:compile", watch)
        watch.finish()


@cache
def _stopwatch() -> Any:
    from numba.core import event

    class Stopwatch(event.Listener):
        """Adds up compilations; those of kernels called by a kernel happen inside its own."""

        def __init__(self, stream: TextIO):
            self.stream, self.started, self.depth, self.seconds = stream, False, 0, 0.0

        def on_start(self, event: Any) -> None:
            if not self.started:
                self.started = True
                self.stream.write("Compiling kernels ...")
                self.stream.flush()
            if self.depth == 0:
                self.since = time.perf_counter()
            self.depth += 1

        def on_end(self, event: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.perf_counter() - self.since

        def finish(self) -> None:
            if self.started:
                from npnet.kernels.machine import cache

                kept = "once" if cache.folder() else "at every start: the kernel cache is not used"
                self.stream.write(f" {self.seconds:.1f} s ({kept})\n")
                self.stream.flush()

    return Stopwatch
