"""Curves and histograms for TensorBoard, laid out as Keras lays them out.

The events are written by the package ``tensorboard`` itself, which needs no TensorFlow. It is imported where
it is first used.
"""

import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from npnet.callbacks.callback import Callback, Logs
from npnet.internal import checks, config

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Write a run for ``tensorboard --logdir logs``.

    The sub-folder ``train`` gets ``epoch_loss``, every metric as ``epoch_...``, ``epoch_learning_rate`` and
    the histograms; ``validation`` the same names of the validation's values, and
    ``evaluation_..._vs_iterations`` of every evaluation by the optimizer's step. A metric that is a number
    for each class is written as one curve a class, ``epoch_f1_score/0`` and so on.

    Parameters
    ----------
    log_dir
        The run's folder, made if need be. One folder a run keeps runs apart.
    histogram_freq
        A histogram of each parameter (of its finite numbers) every so many epochs; 0 for none.
    update_freq
        "epoch"; or "batch", or a number of steps after which ``batch_loss`` and the metrics, each the
        epoch's mean so far, are written too.

    Raises
    ------
    ImportError
        Without the package ``tensorboard``.

    Examples
    --------
    >>> model.fit(x, y, epochs=20, validation_split=0.1, callbacks=[TensorBoard("logs/first")])
    """

    first_only = True

    @config.keras_arguments(
        write_graph=False,
        write_images=False,
        write_steps_per_second=False,
        profile_batch=0,
        embeddings_freq=0,
        embeddings_metadata=None,
    )
    def __init__(
        self, log_dir: str | Path = "logs", histogram_freq: int = 0, *, update_freq: str | int = "epoch"
    ):
        if find_spec("tensorboard") is None:
            raise ImportError("TensorBoard needs the package tensorboard: pip install tensorboard")
        self.log_dir = Path(log_dir)
        self.histogram_freq = checks.integer("histogram_freq", histogram_freq, least=0)
        if isinstance(update_freq, str) and update_freq not in ("epoch", "batch"):
            raise ValueError(
                f'update_freq must be "epoch", "batch" or a number of steps, got {update_freq!r}.'
            )
        self.update_freq = update_freq
        checks.integer("update_freq", self.every, least=0 if update_freq == "epoch" else 1)
        self.writers: dict[str, Any] = {}
        self.training = False

    @property
    def every(self) -> Any:
        """Steps between two entries; 0: only at the end of each epoch."""
        return {"epoch": 0, "batch": 1}.get(str(self.update_freq), self.update_freq)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Note that evaluations are now part of training."""
        self.training = True

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Write the means so far, every ``update_freq`` steps."""
        step = self.model.optimizer.iterations
        if self.every and step % self.every == 0:
            self._scalars("train", "batch_{}", logs, step)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Write the evaluation's values by the optimizer's step."""
        self._scalars("validation", "evaluation_{}_vs_iterations", logs, self.model.optimizer.iterations)
        if not self.training:
            self._close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch's values, the learning rate and, if it is their turn, the histograms."""
        logs = logs or {}
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        train["learning_rate"] = self.model.optimizer.learning_rate
        validation = {name.removeprefix("val_"): logs[name] for name in logs.keys() - train.keys()}
        self._scalars("train", "epoch_{}", train, epoch)
        self._scalars("validation", "epoch_{}", validation, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._histograms(epoch)
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the files."""
        self._close()

    def _scalars(self, folder: str, name: str, values: Logs | None, step: int) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for key, value in (values or {}).items():
            if np.ndim(value) == 0:
                self._write(folder, scalar_pb(name.format(key), value), step)
            else:  # a number for each class, or for each threshold
                for place, one in enumerate(np.ravel(value)):
                    self._write(folder, scalar_pb(f"{name.format(key)}/{place}", one), step)

    def _histograms(self, step: int) -> None:
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        for layer in self.model.layers:
            for parameter in layer.parameters:
                value = parameter.numbers
                name = f"{layer.name}/{parameter.name}/histogram"
                self._write("train", histogram_pb(name, value[np.isfinite(value)]), step)

    def _write(self, folder: str, summary: Any, step: int) -> None:
        """Append a summary to the events of a sub-folder, which is made when first written to."""
        if folder not in self.writers:
            self.writers[folder] = _new_file(self.log_dir / folder)
        _append(self.writers[folder], step=step, summary=summary)

    def _close(self) -> None:
        for writer in self.writers.values():
            writer.close()
        self.writers = {}
        self.training = False


def _new_file(folder: Path) -> Any:
    """Return a writer to a new file of events in a folder.

    Readers go through a folder's files by name. tensorboard's own writer names them by the second and, within
    one, by a number without leading zeros, so that a 10th file would come before a 9th.
    """
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
    writer = RecordWriter(path.open("xb"))
    _append(writer, file_version="brain.Event:2")
    return writer


def _append(writer: Any, **content: Any) -> None:
    """Append an event with this content to a file of events."""
    from tensorboard.compat.proto.event_pb2 import Event

    writer.write(Event(wall_time=time.time(), **content).SerializeToString())
