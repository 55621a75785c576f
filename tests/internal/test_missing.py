"""Every public name of Keras is npnet's or answered by the table that ``docs/keras.md`` is made of."""

import json
from pathlib import Path

import pytest

import npnet
from npnet.internal.missing import MISSING, USED, instead, page

ROOT = Path(__file__).parents[2]
KERAS = json.loads((ROOT / "tests" / "golden" / "keras_names.json").read_text())


@pytest.mark.parametrize("module", KERAS)
def test_every_name_of_keras_is_there_or_answered(module):
    ours = set(getattr(npnet, module).__all__)
    for name in KERAS[module]:
        assert (name in ours) != (instead(module, name) is not None), f"{module}.{name}"


@pytest.mark.parametrize("module", MISSING)
def test_the_table_names_nothing_that_keras_has_not(module):
    for names in MISSING[module].values():
        assert set(names.split()) <= set(KERAS[module])


def test_a_missing_name_says_what_there_is_instead():
    for module, name, reason in (
        ("layers", "LSTM", "npnet has no recurrent layers"),
        ("layers", "Concatenate", "no functional API"),
        ("optimizers", "Ftrl", "are the nearest"),
        ("models", "Model", "Sequential, and layers of your own"),
    ):
        with pytest.raises(AttributeError, match=rf"npnet.{module} has no {name}: .*{reason}.*\.$"):
            getattr(getattr(npnet, module), name)


def test_what_was_counted_is_missing():
    for name in USED:
        module, _, name = name.partition(".")
        assert instead(module, name), f"{module}.{name}"


def test_the_page_is_made_of_the_table():
    """python -c "from test_missing import *; write()" in this folder writes it anew."""
    assert (ROOT / "docs" / "keras.md").read_text() == page(KERAS)


def write():
    (ROOT / "docs" / "keras.md").write_text(page(KERAS))
