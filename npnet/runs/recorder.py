"""What a run writes down while it trains: its history and its checkpoints, after every epoch."""

import csv
import io
from typing import Any

from npnet.callbacks.callback import Callback, Logs
from npnet.internal.files import write_atomically
from npnet.runs.clock import Clock
from npnet.runs.folder import RunFolder

__all__ = ["BEST", "COLUMNS", "LAST", "History", "Recorder"]

BEST, LAST = "best.safetensors", "last.safetensors"
COLUMNS = ("epoch", "seconds", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy")
History = dict[str, list[float]]


class Recorder(Callback):
    """Writes history, best and last checkpoint after every epoch, in this order, each file whole.

    There is a best epoch only where samples were held out to choose it by: one that was chosen on the test
    samples would make their accuracy say more than is true.

    Whenever the run is killed, ``last`` is a state the history covers: what it holds beyond is dropped by the
    run that goes on, which comes to the same values and the same best model again.

    Parameters
    ----------
    folder
        The run's folder.
    clock
        Gets the seconds of "training" and "validating".
    epochs
        Epochs done before, of which the folder's history is kept.
    chooses
        Whether validation runs on samples held out of training.
    """

    def __init__(self, folder: RunFolder, clock: Clock, epochs: int = 0, chooses: bool = False):
        self.folder = folder
        self.chooses = chooses
        self.clock = clock
        self.history: History = {name: [] for name in COLUMNS}
        if epochs:
            before = folder.read_json("history.json")
            self.history = {name: before[name][:epochs] for name in COLUMNS}

    @property
    def best_epoch(self) -> int | None:
        """The first epoch, from 1, with the highest accuracy on the samples held out, if there are any."""
        accuracies = self.history["val_accuracy"] if self.chooses else []
        return accuracies.index(max(accuracies)) + 1 if accuracies else None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the clock of training."""
        self.clock.start("training")

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Start the clock of validation."""
        self.clock.start("validating")

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Stop the clock."""
        self.clock.stop()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write everything."""
        self.clock.start("saving")
        seconds = sum(self.clock.seconds.get(name, 0.0) for name in ("training", "validating", "saving"))
        values: dict[str, Any] = {
            "epoch": epoch + 1,
            "seconds": round(seconds, 3),
            "learning_rate": self.model.optimizer.learning_rate,
            **(logs or {}),
        }
        for name in COLUMNS:
            self.history[name].append(values[name])
        self.write_history()
        if self.best_epoch == epoch + 1:
            self.model.save(self.folder / BEST)
        self.model.save(self.folder / LAST)
        self.clock.stop()

    def write_history(self) -> None:
        """Write history.json and history.csv."""
        self.folder.write_json("history.json", self.history)
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(zip(*self.history.values(), strict=True))
        write_atomically(self.folder / "history.csv", table.getvalue().encode())
