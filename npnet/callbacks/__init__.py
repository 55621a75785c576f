"""What happens around training: records, stops, saves, changes of the learning rate.

A callback gets the model as ``self.model`` and the run's parameters as ``self.params``; training calls its
hooks with ``logs``, the values so far by name. Names, arguments and behaviour are Keras 3's.
"""

from npnet.callbacks.backup import BackupAndRestore
from npnet.callbacks.callback import Callback
from npnet.callbacks.hooks import (
    DivergedError,
    FreezeLayers,
    LambdaCallback,
    LearningRateScheduler,
    TerminateOnNaN,
)
from npnet.callbacks.monitors import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from npnet.callbacks.records import CSVLogger, History, ProgbarLogger
from npnet.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "DivergedError", "EarlyStopping", "FreezeLayers",
    "History", "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint", "ProgbarLogger",
    "ReduceLROnPlateau", "TensorBoard", "TerminateOnNaN",
]  # fmt: skip
