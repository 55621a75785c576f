"""What a run writes down while it trains: its history and its checkpoints, after every epoch."""

import csv
import io
from typing import Any

from npnet.callbacks.callback import Callback, Logs
from npnet.internal.files import write_atomically
from npnet.runs.clock import Clock
from npnet.runs.folder import RunFolder

__all__ = ["BEST", "LAST", "History", "Recorder"]

BEST, LAST = "best.safetensors", "last.safetensors"
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
    metric
        What is reported besides the loss: "accuracy", or an error, of which less is better.
    """

    first_only = True

    def __init__(
        self,
        folder: RunFolder,
        clock: Clock,
        epochs: int = 0,
        chooses: bool = False,
        metric: str = "accuracy",
    ):
        self.metric = metric
        self.columns = "epoch", "seconds", "learning_rate", "loss", metric, "val_loss", f"val_{metric}"
        self.folder = folder
        self.chooses = chooses
        self.clock = clock
        self.history: History = {name: [] for name in self.columns}
        if epochs:
            before = folder.read_json("history.json")
            self.history = {name: before[name][:epochs] for name in self.columns}

    @property
    def best_epoch(self) -> int | None:
        """The first epoch, from 1, that is best by the metric on the samples held out, if there are any."""
        values = self.history[f"val_{self.metric}"] if self.chooses else []
        best = max if self.metric == "accuracy" else min
        return values.index(best(values)) + 1 if values else None

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
        for name in self.columns:
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
        writer.writerow(self.columns)
        writer.writerows(zip(*self.history.values(), strict=True))
        write_atomically(self.folder / "history.csv", table.getvalue().encode())
