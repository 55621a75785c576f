"""Where the time of a run goes."""

import time

__all__ = ["NAMES", "Clock"]

NAMES = ("loading", "compiling", "training", "validating", "saving", "pictures")


class Clock:
    """Seconds by what they were spent on; one thing at a time.

    The names are those of ``NAMES``.

    Parameters
    ----------
    before
        Seconds of earlier sittings of the same run, which these are added to.
    """

    def __init__(self, before: dict[str, float] | None = None):
        self.seconds = dict(before or {})
        self.name: str | None = None

    def start(self, name: str) -> None:
        """Count what comes now as ``name``."""
        self.stop()
        self.name, self.began = name, time.monotonic()

    def stop(self) -> None:
        """Count what comes now as nothing."""
        if self.name is not None:
            self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.monotonic() - self.began
        self.name = None

    def rounded(self) -> dict[str, float]:
        """Return all to the millisecond, and their sum as "total"."""
        seconds = {name: round(self.seconds.get(name, 0.0), 3) for name in NAMES}
        return seconds | {"total": round(sum(seconds.values()), 3)}
