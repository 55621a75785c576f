"""Schedules: their values at chosen steps."""

from math import cos, pi

import pytest

from npnet import schedules
from npnet.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    OneCycle,
    PiecewiseConstantDecay,
    PolynomialDecay,
)


def test_exponential_decay():
    schedule = ExponentialDecay(0.8, decay_steps=10, decay_rate=0.25)
    assert schedule(0) == 0.8 and schedule(10) == pytest.approx(0.2) and schedule(5) == pytest.approx(0.4)
    assert schedule(30) == pytest.approx(0.8 / 64)
    stairs = ExponentialDecay(0.8, 10, 0.25, staircase=True)
    assert [stairs(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([0.8, 0.8, 0.2, 0.2, 0.05])


def test_piecewise_constant_decay():
    schedule = PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
    assert [schedule(step) for step in (0, 100, 101, 200, 201, 10**6)] == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


def test_cosine_decay():
    schedule = CosineDecay(0.4, decay_steps=100, alpha=0.1)
    assert schedule(0) == pytest.approx(0.4)
    assert schedule(25) == pytest.approx(0.4 * (0.9 * 0.5 * (1 + cos(pi / 4)) + 0.1))
    assert schedule(50) == pytest.approx(0.4 * 0.55)
    assert schedule(100) == schedule(1000) == pytest.approx(0.04)
    assert CosineDecay(0.4, 100)(100) == pytest.approx(0.0)


def test_cosine_decay_with_warmup():
    schedule = CosineDecay(0.1, decay_steps=100, warmup_target=0.5, warmup_steps=10)
    assert [schedule(step) for step in (0, 5, 10)] == pytest.approx([0.1, 0.3, 0.5])
    assert schedule(60) == pytest.approx(0.25)  # half of the decay_steps, which follow the warm-up
    assert schedule(110) == schedule(500) == pytest.approx(0.0)
    assert CosineDecay(0.1, 100, warmup_target=0.5)(0) == 0.5


def test_one_cycle():
    schedule = OneCycle(1.0, total_steps=100)  # torch.optim.lr_scheduler.OneCycleLR's values
    assert schedule(0) == pytest.approx(0.04)
    assert schedule(29) == pytest.approx(1.0)
    assert schedule(14.5) == pytest.approx(0.52)
    assert schedule(64) == pytest.approx(0.5 * (1 + 4e-6))
    assert schedule(99) == schedule(1000) == pytest.approx(4e-6)
    rates = [schedule(step) for step in range(100)]
    assert rates[:30] == sorted(rates[:30]) and rates[29:] == sorted(rates[29:], reverse=True)


def test_one_cycle_that_begins_at_the_top():
    rates = [OneCycle(1.0, total_steps=10, pct_start=0.1)(step) for step in range(10)]
    assert rates[0] == 1.0 and rates == sorted(rates, reverse=True)
    assert OneCycle(1.0, total_steps=1)(0) <= 1.0


@pytest.mark.parametrize(
    "schedule",
    [
        ExponentialDecay(0.8, 10, 0.25, True),
        PiecewiseConstantDecay([3, 5], [0.1, 0.2, 0.3]),
        CosineDecay(0.1, 10, 0.1, 0.5, 3),
        OneCycle(1.0, 20, 0.4, 10.0, 100.0),
        PolynomialDecay(0.1, 10, 0.01, 2.0, True),
        InverseTimeDecay(0.1, 10, 0.5, True),
        CosineDecayRestarts(0.1, 3, 1.5, 0.9, 0.1),
    ],
    ids=repr,
)
def test_described_by_their_arguments(schedule):
    twin = schedules.get({"class_name": type(schedule).__name__, "config": schedule.get_config()})
    assert type(twin) is type(schedule)
    assert [twin(step) for step in range(25)] == [schedule(step) for step in range(25)]


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="decay_steps must be finite and positive"):
        ExponentialDecay(0.1, 0, 0.5)
    with pytest.raises(ValueError, match="one number more"):
        PiecewiseConstantDecay([1, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="increase"):
        PiecewiseConstantDecay([2, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="pct_start"):
        OneCycle(1.0, 10, pct_start=1.0)


def test_falls_that_begin_again():
    schedule = CosineDecayRestarts(0.4, first_decay_steps=10, m_mul=0.5, alpha=0.1)
    assert schedule(0) == pytest.approx(0.4) and schedule(5) == pytest.approx(0.4 * 0.55)
    assert schedule(9.999999) == pytest.approx(0.04) and schedule(10) == pytest.approx(0.4 * (0.9 / 2 + 0.1))
    assert schedule(30) == pytest.approx(0.4 * (0.9 / 4 + 0.1))  # after 10 steps, then 20
    assert [CosineDecayRestarts(1.0, 4, t_mul=1.0)(step) for step in (0, 2, 4, 10**9)] == pytest.approx(
        [1, 0.5, 1, 1]
    )
    cycle = PolynomialDecay(1.0, 10, 0.0, cycle=True)
    assert [cycle(step) for step in (0, 5, 10, 15, 20)] == pytest.approx([1, 0.5, 0, 0.25, 0])
    assert PolynomialDecay(1.0, 10, 0.1, power=2.0)(99) == pytest.approx(0.1)
    assert InverseTimeDecay(1.0, 10, 0.5, staircase=True)(19) == pytest.approx(1 / 1.5)
