"""Going on where a training was stopped, to the bits of one that never was."""

import numpy as np
import pytest

import npnet
from npnet import Sequential
from npnet.callbacks import BackupAndRestore, LambdaCallback
from npnet.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
    RandomFlip,
    Reshape,
    SeparableConv2D,
    SpatialDropout2D,
)
from npnet.models import load_model

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
Y = X[:, :2] @ np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)


def model(kernels):
    layers = [Dense(8, "relu", input_shape=(6,)), BatchNormalization(), Dropout(0.2), Dense(2)]
    result = Sequential(layers, seed=3)
    result.compile("adam", "mse", metrics=["mae"], kernels=kernels)
    return result


def convolutional(kernels):
    """A network of pictures, with everything in it that remembers or draws something."""
    result = Sequential(
        [
            Reshape((3, 2, 1), input_shape=(6,)), RandomFlip("horizontal"),
            Conv2D(4, 2, padding="same", activation="relu"), BatchNormalization(), MaxPooling2D((2, 1)),
            SpatialDropout2D(0.2), SeparableConv2D(3, (1, 2)), Flatten(), Dropout(0.2), Dense(2),
        ],
        seed=3,
    )  # fmt: skip
    result.compile("adam", "mse", metrics=["mae"], kernels=kernels)
    return result


def fit(net, epochs=3, **options):
    return net.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, validation_data=(X[:9], Y[:9]), **options
    ).history


def state(net):
    return [p.value for p in net.parameters] + [s for p in net.parameters for s in p.slots.values()]


def interrupted_after(steps, kernels, while_validating=False, make=model):
    """Return a model whose training Ctrl-C ended after so many steps, and its history."""
    net = make(kernels)

    def press(batch, logs=None):
        if net.optimizer.iterations == steps:
            raise KeyboardInterrupt

    hook = "on_test_batch_end" if while_validating else "on_train_batch_end"
    with pytest.raises(KeyboardInterrupt):
        fit(net, callbacks=[LambdaCallback(**{hook: press})])
    return net, net.history.history


@pytest.mark.parametrize("make", [model, convolutional])
@pytest.mark.parametrize(("steps", "position"), [(4, (0, 4)), (7, (0, 7)), (8, (1, 1)), (20, (2, 6))])
def test_a_training_goes_on_from_a_file_to_the_same_bits(steps, position, make, kernels, tmp_path):
    unbroken = make(kernels)
    whole = fit(unbroken)
    net, before = interrupted_after(steps, kernels, make=make)
    assert net.position[:2] == position
    net.save(tmp_path / "last.safetensors")
    again = load_model(tmp_path / "last.safetensors")
    after = fit(again, initial_epoch=again.position)
    assert {name: before.get(name, []) + after[name] for name in after} == whole
    assert all(np.array_equal(a, b) for a, b in zip(state(again), state(unbroken), strict=True))
    assert again.position[:2] == (3, 0)


def test_in_the_middle_of_a_validation_only_the_validation_is_made_again():
    whole = fit(model("numpy"))
    net, before = interrupted_after(14, "numpy", while_validating=True)
    assert net.position[:2] == (1, 7)
    after = fit(net, initial_epoch=net.position)
    assert {name: before[name] + after[name] for name in after} == whole
    assert net.optimizer.iterations == 21


def test_an_epoch_that_a_callback_cut_short_counts_as_unfinished():
    net = model("numpy")
    stop = LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(net, "stop_training", batch == 2))
    fit(net, callbacks=[stop])
    assert net.position[:2] == (0, 3)


def test_a_position_beyond_the_epoch_is_refused():
    net, _ = interrupted_after(6, "numpy")
    with pytest.raises(ValueError, match="after 6 steps of an epoch, got 2 steps an"):
        net.fit(X[:16], Y[:16], batch_size=8, epochs=2, verbose=0, initial_epoch=net.position)


def test_an_epoch_does_not_go_on_in_batches_of_another_size():
    """Samples would be left out, or seen twice, without a word."""
    net, _ = interrupted_after(3, "numpy")
    before, position = net.get_weights(), net.position
    with pytest.raises(
        ValueError, match=r"after 3 steps and \d+ samples of an epoch, but in batches of 2 these"
    ):
        net.fit(X, Y, batch_size=2, epochs=2, verbose=0, initial_epoch=position)
    assert net.position == position
    for array, then in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, then)
    net.fit(X, Y, batch_size=2, epochs=1, verbose=0, initial_epoch=position.epoch)


def test_a_backup_does_not_go_on_in_batches_of_another_size(tmp_path):
    net = model("numpy")
    stop = LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(net, "stop_training", batch == 2))
    backup = BackupAndRestore(tmp_path, save_freq=1, delete_checkpoint=False)
    net.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[backup, stop])
    again = BackupAndRestore(tmp_path)
    with pytest.raises(
        ValueError, match="after 3 steps and 12 samples of an epoch, but in batches of 2 these"
    ):
        model("numpy").fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[again])
    model("numpy").fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[again])


def test_each_process_with_samples_of_its_own_goes_on_within_an_epoch():
    """How many samples all of them have seen is not known to one."""
    net = model("numpy")
    stop = LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(net, "stop_training", batch == 2))
    npnet.distribution.set_distribution(npnet.distribution.DataParallel(auto_shard_dataset=False))
    try:
        net.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[stop])
        net.fit(X, Y, batch_size=4, epochs=2, verbose=0, initial_epoch=net.position)
    finally:
        npnet.distribution.set_distribution(None)
    assert net.position[:2] == (2, 0)
