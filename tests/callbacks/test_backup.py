"""BackupAndRestore: a training that was killed goes on to the same bits."""

import numpy as np
import pytest
from small import compiled, one_hot, random

from npnet.callbacks import BackupAndRestore, Callback, LearningRateScheduler
from npnet.layers import BatchNormalization, Dense, Dropout
from npnet.optimizers import SGD, Adam
from npnet.utils import PyDataset

X, Y = random(0, 20, 4), one_hot(20, 3)


class Kill(Callback):
    """Fail at a step, as a machine does."""

    def __init__(self, step):
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise OSError("power is out")


def model():
    layers = [Dense(5, "relu", input_shape=(4,)), Dropout(0.3), BatchNormalization(), Dense(3, "softmax")]
    return compiled(layers, "categorical_crossentropy", optimizer=Adam(0.05), metrics=["accuracy"])


def fit(model, *callbacks):
    return model.fit(X, Y, batch_size=6, epochs=4, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.parametrize("save_freq", ["epoch", 3, 1])
@pytest.mark.parametrize("step", [2, 6, 8, 15])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, save_freq, step):
    whole = model()
    history = fit(whole)
    with pytest.raises(OSError, match="power"):
        fit(model(), BackupAndRestore(tmp_path, save_freq), Kill(step))
    again = model()
    rest = fit(again, BackupAndRestore(tmp_path, save_freq))
    for name, values in rest.items():
        assert values == history[name][-len(values) :]
    for ours, theirs in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not list(tmp_path.iterdir())  # a training that has ended leaves nothing


class Numbered(PyDataset):
    """The samples in five batches."""

    def __len__(self):
        return 5

    def __getitem__(self, number):
        return X[4 * number : 4 * number + 4], Y[4 * number : 4 * number + 4]


def assert_the_same_after_a_kill(place, step, data, save_freq="epoch", callbacks=tuple):
    """Whole, and killed at a step and started again: the same weights; return the second training's model."""
    models = [model() for _ in range(3)]

    def go_on(which, *others):
        models[which].fit(*data(), epochs=4, verbose=0, callbacks=[*others, *callbacks()])

    go_on(0)
    with pytest.raises(OSError, match="power"):
        go_on(1, BackupAndRestore(place, save_freq), Kill(step))
    go_on(2, BackupAndRestore(place, save_freq))
    for ours, theirs in zip(models[2].get_weights(), models[0].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert models[2].optimizer.learning_rate == models[0].optimizer.learning_rate
    return models[2]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("save_freq", ["epoch", 3])
@pytest.mark.parametrize("step", [7, 12])
def test_batches_of_a_data_set_go_on_where_they_were(tmp_path, step, save_freq, workers):
    assert_the_same_after_a_kill(tmp_path, step, lambda: (Numbered(workers=workers),), save_freq)


class Batches:
    def __iter__(self):
        return iter([Numbered()[number] for number in range(5)])


def test_batches_that_nobody_knows_again_go_on_with_whole_epochs(tmp_path):
    assert_the_same_after_a_kill(tmp_path / "epochs", 12, lambda: (Batches(),))
    with pytest.raises(ValueError, match="after 2 batches, but nobody knows which batches a Batches gave"):
        assert_the_same_after_a_kill(tmp_path / "steps", 8, lambda: (Batches(),), 7)


def test_a_learning_rate_that_a_callback_set_comes_back(tmp_path):
    def halve():
        return [LearningRateScheduler(lambda epoch, rate: rate / 2)]

    again = assert_the_same_after_a_kill(tmp_path, 12, lambda: (X, Y, 4), callbacks=halve)
    assert again.optimizer.learning_rate == 0.05 / 16


def test_an_error_at_the_very_end_keeps_the_file(tmp_path):
    class Full(Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                raise OSError("disk is full")

    whole, killed, again = model(), model(), model()
    fit(whole)
    with pytest.raises(OSError, match="full"):
        fit(killed, BackupAndRestore(tmp_path), Full())
    assert fit(again, BackupAndRestore(tmp_path)) == {}
    np.testing.assert_array_equal(again.get_weights()[0], whole.get_weights()[0])
    assert (again.position.epoch, again.epochs_trained) == (4, 4)
    assert not list(tmp_path.iterdir()), "it was left for the end of training only"
    assert len(fit(model(), BackupAndRestore(tmp_path))["loss"]) == 4


def test_the_memory_of_another_optimizer_is_refused(tmp_path):
    fit(model(), BackupAndRestore(tmp_path, delete_checkpoint=False))
    other = model()
    other.compile(SGD(0.1), "categorical_crossentropy")
    before = other.get_weights()
    with pytest.raises(ValueError, match="was saved with the optimizer Adam, the model is compiled with SGD"):
        other.load_training(tmp_path / "backup.safetensors")
    for present, old in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(present, old)


def test_a_start_without_memory_forgets_the_memory(tmp_path):
    one, other = (compiled([Dense(3, input_shape=(4,))], "mse", optimizer=SGD(0.1, 0.9)) for _ in range(2))
    one.save(tmp_path / "new.safetensors")
    other.fit(X, Y, verbose=0)
    other.load_training(tmp_path / "new.safetensors")
    for each in (one, other):
        each.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(other.get_weights()[0], one.get_weights()[0])


def test_the_file_can_stay_and_ends_training_at_once(tmp_path):
    first, second = model(), model()
    fit(first, BackupAndRestore(tmp_path, delete_checkpoint=False))
    assert fit(second, BackupAndRestore(tmp_path)) == {}
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


def test_what_cannot_be_is_refused(tmp_path):
    for wrong, error in (({"save_freq": 0}, ValueError), ({"double_checkpoint": True}, TypeError)):
        with pytest.raises(error, match=next(iter(wrong))):
            BackupAndRestore(tmp_path, **wrong)
    with pytest.raises(ValueError, match="backup_dir"):
        BackupAndRestore("")
    model().save_weights(tmp_path / "backup.safetensors")
    with pytest.raises(ValueError, match="holds no training"):
        fit(model(), BackupAndRestore(tmp_path))
