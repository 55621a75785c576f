"""Callbacks that keep or show what training reports: history, progress line, CSV file."""

import csv
import io
from html import escape
from pathlib import Path

from npnet.callbacks.callback import Callback, Logs
from npnet.internal import checks
from npnet.internal.files import write_atomically
from npnet.internal.progress import NoPauses, Pauses, Progress
from npnet.plotting import markup

__all__ = ["CSVLogger", "History", "ProgbarLogger"]


class History(Callback):
    """Records the logs of every epoch.

    Attributes
    ----------
    history
        name -> list with one value an epoch.
    epoch
        The epochs' numbers, from 0.
    validation_epoch
        The numbers of those after which validation ran.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.validation_epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start empty."""
        self.history, self.epoch, self.validation_epoch = {}, [], []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the epoch's values."""
        self.epoch.append(epoch)
        if any(name.startswith("val_") for name in logs or {}):
            self.validation_epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history)}>"

    def _repr_html_(self) -> str:
        """Return a table and the curves, for notebooks."""
        return markup.learning(self) if self.epoch else escape(repr(self))


class ProgbarLogger(Callback):
    """Shows the progress line of training: a live bar where a person watches, else a line an epoch.

    Parameters
    ----------
    pauses
        What ``announce_compilation`` gives: times that no step took, which are not counted.
    """

    def __init__(self, pauses: Pauses | None = None):
        self.pauses = pauses or NoPauses()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the line."""
        title = f"Epoch {epoch + 1}/{self.params['epochs']}"
        live, before = self.params["verbose"] == 1, self.model.position.batch
        self.progress = Progress(self.params["steps"], f"{title} - ", live, pauses=self.pauses, before=before)
        if self.progress.live:
            print(title)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Redraw the line."""
        self.progress.update(batch + 1, logs or {})

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """End the line about kernels that validation compiled."""
        self.pauses.settle()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """End the line."""
        self.progress.finish(logs or {})


class CSVLogger(Callback):
    """Write a line an epoch: epoch, then the values in alphabetical order; flushed at once.

    The columns are those of the file's header, if there is one, and those that were reported so far: with
    the first epoch that reports more, for instance the first that is validated, the file is written anew with
    the new columns at the right. What an epoch does not report is "NA", as in Keras.

    Parameters
    ----------
    separator
        Stands between two values.
    append
        True goes on with a file that is there; False begins it anew.
    """

    first_only = True

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False):
        self.filename = Path(filename)
        self.separator = checks.text("separator", separator)
        if len(separator) != 1 or separator in '\r\n"':
            raise ValueError(f"separator must be one character, no quote or line break, got {separator!r}.")
        self.append = checks.flag("append", append)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Open the file, after the last whole line that is in it."""
        self.columns: list[str] = []
        if self.append and self.filename.exists():
            try:
                text = self.filename.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"CSVLogger(append=True) cannot go on with {self.filename}, which is no text in UTF-8"
                    f" ({error}). Give append=False to begin it anew, or another filename."
                ) from None
            self.columns = next(csv.reader(io.StringIO(text), delimiter=self.separator), [])
            if self.columns and "epoch" not in self.columns:
                raise ValueError(
                    f"CSVLogger(append=True) found no column epoch in the first line of {self.filename},"
                    f" {text.partition(chr(10))[0]!r}, read with separator={self.separator!r}. Give the"
                    " separator it was written with, append=False to begin it anew, or another filename."
                )
            self._open("a")
            if text and not text.endswith("\n"):
                self.file.write("\n")
        else:
            self._open("w")

    def _open(self, mode: str) -> None:
        self.file = self.filename.open(mode, newline="", encoding="utf-8")
        self.writer = csv.writer(self.file, delimiter=self.separator, lineterminator="\n")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch's line."""
        values = {"epoch": epoch, **(logs or {})}
        if not self.columns:
            self.columns = ["epoch", *sorted(logs or {})]
            self.writer.writerow(self.columns)
        elif new := sorted(values.keys() - set(self.columns)):
            self._widen(new)
        self.writer.writerow([values.get(name, "NA") for name in self.columns])
        self.file.flush()

    def _widen(self, new: list[str]) -> None:
        """Write the file anew with more columns, whole or not at all."""
        self.file.close()
        before, table = io.StringIO(self.filename.read_text(encoding="utf-8")), io.StringIO()
        _, *rows = csv.reader(before, delimiter=self.separator)
        self.columns += new
        writer = csv.writer(table, delimiter=self.separator, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(row + ["NA"] * (len(self.columns) - len(row)) for row in rows)
        write_atomically(self.filename, table.getvalue().encode())
        self._open("a")

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the file."""
        self.file.close()
