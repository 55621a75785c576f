"""Where the time of a step goes, told by a clock that only moves where the test says."""

import numpy as np
import pytest

from npnet import Sequential
from npnet.layers import Dense, Rescaling
from npnet.runs import shares


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize("part", ["data", "forward", "backward", "update", "loss"])
def test_the_part_that_takes_the_time_has_the_largest_share(part, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(shares, "time", clock)

    def slow(thing, name, seconds):
        written = getattr(thing, name)

        def call(*arguments, **options):
            clock.now += seconds
            return written(*arguments, **options)

        setattr(thing, name, call)

    model = Sequential([Rescaling(0.5), Dense(4, "relu"), Dense(3, "softmax")], seed=1)
    model.compile("sgd", "categorical_crossentropy", kernels="numpy")
    model.build((None, 5))
    parts = {
        "data": (model.layers[0], "forward"), "forward": (model.layers[1], "forward"),
        "backward": (model.layers[1], "backward_parameters"), "update": (model.optimizer, "step"),
        "loss": (model.loss, "forward"),
    }  # fmt: skip
    for name, (thing, method) in parts.items():
        slow(thing, method, 5.0 if name == part else 1.0)
    found = shares.measure(model, np.ones((40, 5), np.float32), np.eye(3)[np.arange(40) % 3], 8)
    expected = dict.fromkeys(("data", "forward", "backward", "update"), 1.0) | {"forward": 2.0}
    expected["forward" if part == "loss" else part] += 4.0
    assert found == pytest.approx({name: value / 9.0 for name, value in expected.items()})
