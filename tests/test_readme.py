"""README is true: its reading order, its links and its program."""

import re
from pathlib import Path

from readme_lines import ROW, counted

from npnet.cli import COMMANDS
from npnet.models import Sequential, load_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_reading_lists_count_their_lines():
    """`make lines` writes the counts; a tenth may have changed since."""
    stated, present = (
        [int(lines.replace(",", "")) for _, _, lines in ROW.findall(text)]
        for text in (README, counted(README))
    )
    assert len(stated) >= 20
    for before, now in zip(stated, present, strict=True):
        assert abs(now - before) <= 0.1 * now, f"{before} lines are {now} now: make lines"


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_commands_of_make_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_python_commands_name_files_that_exist():
    for module in re.findall(r"python -m ([\w.]+)", README):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for script in re.findall(r"python ([\w/]+\.py)", README):
        assert (ROOT / script).exists(), script


def test_commands_of_npnet_exist():
    named = set(re.findall(r"npnet ([a-z]+)(?= RUN|`| +#|$)", README, re.MULTILINE))
    assert named == set(COMMANDS)


def test_a_layer_of_your_own_runs_as_it_stands(tmp_path, capsys):
    section = README.split("### A layer of your own, in five steps")[1]
    skeleton = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in skeleton.splitlines() if line]) <= 20
    assert re.findall(r"# (\d)\.", skeleton) == ["1", "2", "3", "4", "5"]

    names = {}
    exec(skeleton, names)
    *table, note = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in table[1:]] == ["ok"] * 4
    assert note == 'To load a saved model: load_model(path, custom_objects={"Squared": Squared}).'

    model = names["model"]
    assert isinstance(model, Sequential)
    model.fit([[0.1, 0.8]], [[1, 0, 0]], verbose=0)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model", custom_objects={"Squared": names["Squared"]})
    assert (loaded.predict([[1, 2]], verbose=0) == model.predict([[1, 2]], verbose=0)).all()
