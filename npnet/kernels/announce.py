"""The one line that says kernels are being compiled, so that nobody waits in silence."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def announce_compilation(stream: TextIO) -> Iterator[None]:
    """Print "Compiling kernels ... 6.1 s (once)" if kernels are compiled inside the block, else nothing.

    Machine code found in the cache needs no compilation and prints nothing. The time is that of compiling
    alone. Meant to stand around a step of training; costs nothing while Numba is not imported.
    """
    if "numba" not in sys.modules:
        yield
        return
    from numba.core import event

    from npnet.kernels import cache

    watch = _stopwatch(event, stream)
    with event.install_listener("numba:compile", watch):
        try:
            yield
        finally:
            if watch.started:
                kept = "once" if cache.folder() else "at every start: the kernel cache is not used"
                stream.write(f" {watch.seconds:.1f} s ({kept})\n")
                stream.flush()


def _stopwatch(event: Any, stream: TextIO) -> Any:
    """Make a listener to Numba's compilations; those of kernels called by a kernel happen inside its own."""

    class Stopwatch(event.Listener):
        started, depth, seconds = False, 0, 0.0

        def on_start(self, event: Any) -> None:
            if not self.started:
                self.started = True
                stream.write("Compiling kernels ...")
                stream.flush()
            if self.depth == 0:
                self.since = time.perf_counter()
            self.depth += 1

        def on_end(self, event: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.perf_counter() - self.since

    return Stopwatch()
