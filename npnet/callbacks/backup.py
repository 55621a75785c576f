"""A callback that lets a training that was killed go on where it was."""

from pathlib import Path

from npnet.callbacks.callback import Callback, Logs
from npnet.internal import checks, config, files, processes

__all__ = ["BackupAndRestore"]

FILE = "backup.safetensors"


class BackupAndRestore(Callback):
    """Save the whole training after epochs or steps; where there is such a file, ``fit`` goes on from it.

    Weights, the optimizer's memory and learning rate, the place in the epoch and random streams come back, so
    the result is the same bits as without the interruption. The model and the arguments of ``fit`` must be
    the same. What other callbacks remember, EarlyStopping's patience for instance, and what they have frozen
    do not come back. Of several processes that train together the first writes and reads the file.

    Parameters
    ----------
    backup_dir
        The folder, made if need be. A file is written whole or not at all, so one is enough.
    save_freq
        "epoch", or a number of steps.
    delete_checkpoint
        Remove the file when training ends: at its last epoch, or because a callback stopped it.
    """

    @config.keras_arguments(double_checkpoint=False)
    def __init__(
        self, backup_dir: str | Path, save_freq: str | int = "epoch", delete_checkpoint: bool = True
    ):
        if not str(backup_dir):
            raise ValueError("backup_dir must name a folder, got an empty text.")
        if save_freq != "epoch":
            checks.integer("save_freq", save_freq)
        self.file = Path(backup_dir) / FILE
        self.save_freq = save_freq
        self.delete_checkpoint = checks.flag("delete_checkpoint", delete_checkpoint)
        self.steps = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Go on from the file, if there is one."""
        # Another process that looked for itself might come before the first has written or removed the file.
        if processes.group().broadcast(self.file.exists()):
            with files.from_first(self.file) as file:
                self.model.load_training(file)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save every ``save_freq`` steps."""
        self.steps += 1
        if self.save_freq != "epoch" and self.steps % int(self.save_freq) == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save after the epoch."""
        if self.save_freq == "epoch":
            self._save()

    def _save(self) -> None:
        if not processes.group().first:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.model.save(self.file)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove the file of a training that has ended; after an error or an interrupt it stays."""
        done = self.model.stop_training or self.model.position.epoch >= self.params["epochs"]
        if self.delete_checkpoint and done and self.model.ended and processes.group().first:
            self.file.unlink(missing_ok=True)
