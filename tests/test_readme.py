"""README is true: its reading order, its links and its program."""

import re
from pathlib import Path

from npnet.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_reading_order_counts_the_lines():
    rows = re.findall(r"^\| \[`[^`]+`\]\(([^)]+)\) \| ([\d,]+) \|", README, re.MULTILINE)
    assert len(rows) >= 10
    for path, stated in rows:
        lines = len((ROOT / path).read_text().splitlines())
        assert abs(lines - int(stated.replace(",", ""))) <= 0.1 * lines, f"{path} has {lines} lines"


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
