"""to_categorical and set_random_seed."""

import numpy as np
import pytest

from npnet.utils import new_seed, set_random_seed, to_categorical


@pytest.mark.parametrize("labels", [[2, 0, 1, 2], [[2], [0], [1], [2]]])
@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "u8", "f4", "f8"])
def test_one_hot_rows_in_float64_as_in_keras(labels, dtype):
    y = to_categorical(np.array(labels, dtype), 4)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])


def test_shapes():
    assert to_categorical([0, 3]).shape == (2, 4), "by default the largest label and one more"
    assert to_categorical(np.zeros((2, 5), int), 3).shape == (2, 5, 3)
    assert to_categorical(np.zeros((2, 5, 1), int), 3).shape == (2, 5, 3)
    assert to_categorical([], 3).shape == (0, 3)
    np.testing.assert_array_equal(to_categorical([True, False]), [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        ([0, -1], None, ValueError, "the label -1"),
        ([0, 3], 3, ValueError, r"the label 3, but num_classes=3 allows 0\.\.2"),
        ([1, 2, 3], 3, ValueError, "count from 0: subtract 1"),
        ([0.5], None, ValueError, "whole class labels, got 0.5"),
        ([np.nan], None, ValueError, "finite"),
        (["a"], None, TypeError, "must hold numbers .*, got dtype <U1"),
        ([1j], None, TypeError, "complex"),
        ([0, 1], 2.5, TypeError, "num_classes must be an integer"),
        ([0, 1], 0, ValueError, "num_classes must be at least 1"),
        ([0, 1], -2, ValueError, "num_classes must be at least 1"),
    ],
)
def test_labels_that_are_none(labels, classes, error, message):
    with pytest.raises(error, match=message):
        to_categorical(labels, classes)


def test_labels_are_only_read():
    labels = np.array([1, 0])
    labels.setflags(write=False)
    y = to_categorical(labels)
    y[...] = 7
    np.testing.assert_array_equal(labels, [1, 0])


def test_seeds(monkeypatch):
    monkeypatch.setattr("npnet.utils.seeds._default_seed", None)
    assert len({new_seed() for _ in range(20)}) == 20
    set_random_seed(3)
    first, second = new_seed(), new_seed()
    assert (first, second) == (3, second)
    assert second != 3
    for wrong in (-1, 1.5, "a", None):
        with pytest.raises((TypeError, ValueError), match="seed must be"):
            set_random_seed(wrong)
    set_random_seed(3)
    assert [new_seed(), new_seed()] == [3, second]
