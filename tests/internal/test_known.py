"""Whether an object is what its class says, and settings are what they were."""

import pytest

from npnet.internal.exact import Known, Settings


class Base:
    factor = 2.0

    def double(self):
        return self.factor * 2

    def half(self):
        return self.factor / 2


class Thing(Base):
    def half(self):
        return 1.0


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [(Base, "double", lambda self: 0), (Thing, "half", lambda self: 0), (Base, "factor", 3.0)],
)
def test_a_class_with_another_formula_is_not_as_it_was_written(cls, name, value, monkeypatch):
    known = Known([Thing])
    assert known.unchanged([Thing()])
    with monkeypatch.context() as patched:
        patched.setattr(cls, name, value)
        assert not known.unchanged([Thing()])
    assert known.unchanged([Thing()])


def test_an_override_that_is_added_later_is_seen(monkeypatch):
    known = Known([Thing])
    assert known.unchanged([Thing()])
    monkeypatch.setattr(Thing, "double", lambda self: 0, raising=False)
    assert not known.unchanged([Thing()])


def test_names_that_python_adds_change_nothing(monkeypatch):
    known = Known([Thing])
    monkeypatch.setattr(Thing, "__slotnames__", [], raising=False)  # as copying does
    assert known.unchanged([Thing()])
    monkeypatch.setattr(Base, "double", lambda self: 0)
    assert not known.unchanged([Thing()])


def test_a_method_of_the_object_makes_it_unknown():
    known, thing = Known([Thing]), Thing()
    assert thing in known and Base() not in known
    thing.half = lambda: 0
    assert thing not in known


def test_settings_that_are_the_same():
    thing, other = Thing(), Thing()
    thing.rate, thing.seen, thing.parts = 0.5, 1, [1, "a"]
    other.only = None
    settings = Settings([(thing, frozenset({"seen", "met"})), (other, frozenset())])
    assert settings.hold()
    thing.seen = 2
    thing.rate, thing.parts = float("0.5"), [1, "a"]  # equal, and others
    assert settings.hold()
    thing.met = 1  # a name that comes, and decides nothing
    assert settings.hold()
    del thing.seen
    assert settings.hold()


@pytest.mark.parametrize(("name", "value"), [("rate", 1), ("rate", 0.25), ("parts", [1]), ("more", 0)])
@pytest.mark.parametrize("which", [0, 1])
def test_settings_that_have_changed(which, name, value):
    things = [Thing(), Thing()]
    for thing in things:
        thing.rate, thing.parts, thing.seen = 1.0, [1, 2], 0
    settings = Settings([(thing, frozenset({"seen"})) for thing in things])
    del things[which].seen  # as many names as before, where one comes
    setattr(things[which], name, value)
    assert not settings.hold()


@pytest.mark.parametrize(
    "change", [lambda thing: delattr(thing, "rate"), lambda thing: setattr(thing, "__class__", Base)]
)
def test_settings_of_which_one_is_gone_or_whose_class_is_another(change):
    thing = Thing()
    thing.rate = 1.0
    settings = Settings([(thing, frozenset())])
    change(thing)
    assert not settings.hold()
