"""Callbacks that watch one value and act when it is, or is no longer, the best so far."""

import math
import os
import re
import warnings
from pathlib import Path
from string import Formatter

import numpy as np

from npnet.callbacks.callback import Callback, Logs
from npnet.internal import checks, config, directions, processes
from npnet.internal.files import refuse_other_formats

__all__ = ["EarlyStopping", "ModelCheckpoint", "Monitor", "ReduceLROnPlateau"]


class Monitor(Callback):
    """Base of the callbacks that watch one value and want it better.

    Parameters
    ----------
    monitor
        Name of the value in the logs.
    mode
        "min", "max", or "auto": whichever the metric of this name wants. A name that neither npnet nor Keras
        knows, and no metric of the model answers to, is refused when training begins.
    min_delta
        By how much a value must beat the best to count as better.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'mode must be "auto", "min" or "max", got {mode!r}.')
        self.monitor = checks.text("monitor", monitor)
        self.mode = mode
        self.min_delta = abs(checks.number("min_delta", min_delta))

    @property
    def sign(self) -> int:
        """1 if more of the watched value is better, -1 if less is."""
        if self.mode != "auto":
            return 1 if self.mode == "max" else -1
        grows = directions.grows(self.monitor)
        for metric in self.model.metrics if hasattr(self, "model") else ():
            if metric.name == self.monitor.removeprefix("val_"):
                grows = metric.grows
        if grows is None:
            raise ValueError(
                f"{type(self).__name__} watches {self.monitor!r}, of which it does not know whether more or"
                " less is better. Say mode='max' or mode='min'."
            )
        return 1 if grows else -1

    def require_direction(self) -> None:
        """Raise the ValueError of ``sign`` before anything is trained."""
        _ = self.sign

    @property
    def worst(self) -> float:
        """The value any other is better than."""
        return -self.sign * math.inf

    def better(self, value: float, best: float | None) -> bool:
        """Tell whether ``value`` beats ``best`` by more than min_delta.

        The first value of all is the best, as in Keras; NaN beats no other, and any number beats NaN.
        """
        if best is None or math.isnan(best):
            return best is None or not math.isnan(value)
        return self.sign * (value - best) > self.min_delta

    def watched(self, logs: Logs | None) -> float | None:
        """Return the watched value, or None with a warning that lists what there is.

        Raises
        ------
        TypeError
            If the value is several numbers: one of each class, for instance.
        """
        value = (logs or {}).get(self.monitor)
        if value is None:
            known = ", ".join(logs or {}) or "nothing"
            warnings.warn(
                f"{type(self).__name__} watches {self.monitor!r}, which this run does not report (it reports"
                f" {known}). Give fit validation data or change monitor.",
                stacklevel=2,
            )
        elif np.ndim(value):
            raise TypeError(
                f"{type(self).__name__} watches {self.monitor!r}, which must be one number, got"
                f' {np.size(value)}: {value}. Give the metric an average, as in F1Score(average="macro"), or'
                " change monitor."
            )
        return value


class EarlyStopping(Monitor):
    """Stop when the watched value has not got better for ``patience`` epochs.

    Parameters
    ----------
    baseline
        The value to beat first.
    restore_best_weights
        Give the model the weights of its best epoch when training ends: by this callback, by reaching the
        last epoch, by Ctrl-C, by another callback or by an error. Weights that are no finite numbers are
        not kept: those of the best epoch before come back, or none.
    start_from_epoch
        Epochs to wait before watching.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience = checks.integer("patience", patience, least=0)
        self.verbose = verbose
        self.baseline = None if baseline is None else checks.number("baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = checks.integer("start_from_epoch", start_from_epoch, least=0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start without a best epoch, if it is known whether more or less is better."""
        self.require_direction()
        self.wait = 0
        self.stopped_epoch = 0
        self.best_epoch = self.kept_epoch = 0
        self.best: float | None = None
        self.best_weights: list[np.ndarray] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, remember, stop."""
        if epoch < self.start_from_epoch or (value := self.watched(logs)) is None:
            return
        self.wait += 1
        if self.better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                weights = self.model.get_weights()
                if all(np.isfinite(weight).all() for weight in weights):
                    self.best_weights, self.kept_epoch = weights, epoch
            if self.baseline is None or self.better(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights."""
        if self.stopped_epoch and self.verbose:
            processes.tell(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
            if self.verbose:
                processes.tell(f"Restored the weights of epoch {self.kept_epoch + 1}, the best.")


class ModelCheckpoint(Monitor):
    """Save the model after epochs or every so many steps.

    A model that has diverged is not saved over a good one: the ValueError of ``model.save`` ends training.

    Parameters
    ----------
    filepath
        Where to; may hold ``{epoch:02d}`` (from 1), ``{batch}`` (within the epoch, from 1) and values such as
        ``{val_loss:.2f}``.
    save_best_only
        Only when the watched value is the best so far.
    save_weights_only
        Leave architecture and optimizer out.
    save_freq
        "epoch", or a number of steps.
    initial_value_threshold
        The value to beat first.
    """

    first_only = True

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode)
        if save_freq != "epoch" and (type(save_freq) is not int or save_freq < 1):
            raise ValueError(f'save_freq must be "epoch" or a positive number of steps, got {save_freq!r}.')
        if initial_value_threshold is not None:
            checks.number("initial_value_threshold", initial_value_threshold)
        refuse_other_formats(filepath)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold  # None: nothing is known yet
        self.epoch = 0
        self.batch = 0
        self.steps = 0
        self._check_filepath()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin with the worst value, unless there is a threshold, or a best one of an earlier training."""
        if self.save_best_only and self.best is None:
            self.best = self.worst

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remember the epoch for file names."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save every ``save_freq`` steps."""
        self.steps += 1
        self.batch = batch + 1
        if self.save_freq != "epoch" and self.steps % int(self.save_freq) == 0:
            self._save(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save after the epoch."""
        if self.save_freq == "epoch":
            self._save(logs)

    def _save(self, logs: Logs | None) -> None:
        if self.save_best_only:
            value = self.watched(logs)
            if value is None or self.best is None or not self.better(value, self.best):
                return
            self.best = value
        path = self._path(logs or {})
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose:
            processes.tell(f"Epoch {self.epoch + 1}: saved {path}")

    def _path(self, logs: Logs) -> Path:
        try:
            return Path(self.filepath.format(epoch=self.epoch + 1, batch=self.batch, **logs))
        except KeyError as error:
            raise KeyError(
                f"filepath {self.filepath!r} names {error}, which this run does not report:"
                f" epoch, batch, {', '.join(logs)}."
            ) from None
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            several = [name for name in self._names() if np.ndim(logs.get(name, 0))]
            reason = f"{error}." if not several else (
                f"{', '.join(several)} is a number for each class. Give the metric an average, as in"
                ' F1Score(average="macro").'
            )  # fmt: skip
            raise type(error)(f"filepath {self.filepath!r} cannot be filled in: {reason}") from None

    def _names(self) -> list[str]:
        """Return the names of values in the braces."""
        fields = [name for _, name, _, _ in Formatter().parse(self.filepath) if name is not None]
        return [re.split(r"[.\[]", name)[0] for name in fields]

    def _check_filepath(self) -> None:
        """Refuse braces that are no names of values before anything is trained."""
        try:
            names = self._names()
        except ValueError as error:
            raise ValueError(f"filepath {self.filepath!r} cannot be filled in: {error}.") from None
        if any(not name or name.isdigit() for name in names):
            raise ValueError(
                f"filepath {self.filepath!r} must name values in its braces, such as {{epoch:02d}} or"
                " {val_loss:.2f}."
            )


class ReduceLROnPlateau(Monitor):
    """Multiply the learning rate by ``factor`` after ``patience`` epochs without a better value.

    Parameters
    ----------
    cooldown
        Epochs to wait after a reduction before watching again.
    min_lr
        The learning rate never falls below this.
    """

    @config.keras_arguments(baseline=None)
    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if not 0 < checks.number("factor", factor) < 1:
            raise ValueError(f"factor must lie between 0 and 1, got {factor!r}.")
        self.factor = factor
        self.patience = checks.integer("patience", patience, least=0)
        self.verbose = verbose
        self.cooldown = checks.integer("cooldown", cooldown, least=0)
        self.min_lr = checks.number("min_lr", min_lr, least=0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start watching, if it is known whether more or less is better."""
        self.require_direction()
        self.best: float | None = None
        self.wait = 0
        self.cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare and reduce."""
        optimizer = self.model.optimizer
        if logs is not None:
            logs["learning_rate"] = optimizer.learning_rate
        value = self.watched(logs)
        if value is None:
            return
        if self.cooling > 0:
            self.cooling -= 1
            self.wait = 0
        if self.better(value, self.best):
            self.best = value
            self.wait = 0
        elif self.cooling == 0:
            self.wait += 1
            if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
                optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
                self.cooling = self.cooldown
                self.wait = 0
                if self.verbose:
                    processes.tell(
                        f"Epoch {epoch + 1}: learning rate reduced to {optimizer.learning_rate:.6g}"
                    )
