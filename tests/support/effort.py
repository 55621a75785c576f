"""How hard the tests try: little in every run, everything before a release.

The environment variable HYPOTHESIS_PROFILE chooses: "ci" (100 examples, the same ones each time, and a
tenth of the faults), "nightly" (3,000 random examples of every property) or "release" (20,000, and all of
the faults).
"""

import os

import hypothesis
import pytest

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")


def times(ci, release):
    """Return how often to do it."""
    return release if PROFILE == "release" else ci


def quick(values, *chosen):
    """Parameters of a test: those ``chosen`` run always, the others, which compile more kernels, if slow.

    ``values`` is a list, or a dict whose keys are the tests' names and what is chosen from.
    """
    items = values.items() if isinstance(values, dict) else ((value, value) for value in values)
    return [
        pytest.param(value, id=str(name), marks=() if name in chosen else pytest.mark.slow)
        for name, value in items
    ]


def load_profile():
    """Tell Hypothesis how many examples to try."""
    common = {"deadline": None, "print_blob": True}
    hypothesis.settings.register_profile("ci", max_examples=100, derandomize=True, database=None, **common)
    hypothesis.settings.register_profile("nightly", max_examples=3_000, **common)
    hypothesis.settings.register_profile("release", max_examples=20_000, **common)
    hypothesis.settings.load_profile(PROFILE)
