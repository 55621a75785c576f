"""ARCHITECTURE.md and README's reading lists are true."""

import re
from pathlib import Path

from test_structure import MODULES, ROWS, imports

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
README = (ROOT / "README.md").read_text()


def test_the_rows_are_those_that_the_sources_keep():
    block = PAGE.split("## Rows")[1].split("## ")[0]
    rows = [set(line.split()) for line in block.splitlines() if line.startswith("    ")]
    assert rows == ROWS[::-1]


def test_every_room_is_described():
    rooms = {
        path.parent.relative_to(ROOT / "npnet").as_posix() + "/"
        for path in (ROOT / "npnet").rglob("*.py")
        if path.parent != ROOT / "npnet"
    }
    described = set(re.findall(r"^\| `([a-z/]+/)` \|", PAGE, re.MULTILINE))
    assert described == rooms - {"runs/report/"}


def test_addresses_exist():
    paths = re.findall(r"\| `(npnet/[a-z_/]+\.py)` \|", PAGE)
    assert len(paths) > 15
    assert all((ROOT / path).is_file() for path in paths)
    for path in re.findall(r"[a-z]+/[a-z_/]+\.py", PAGE):
        assert (ROOT / path).is_file() or (ROOT / "npnet" / path).is_file(), path


def test_npnet_is_a_house_of_few_rooms():
    entries = [path.name for path in (ROOT / "npnet").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 24


def reading_lists():
    """README's two lists: the files in their order."""
    lists = re.findall(r"\*\*Learn (?:backprop|the speed)\.\*\*.*?\n\n(\|.*?)\n\n", README, re.DOTALL)
    return [re.findall(r"^\| \[`[^`]+`\]\(([^)]+\.py)\)", table, re.MULTILINE) for table in lists]


def module_of(path):
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_each_file_of_a_reading_list_needs_only_those_above_it():
    """Of the files in the lists; what is in neither is no part of the path."""
    backprop, speed = reading_lists()
    assert len(backprop) >= 8
    assert len(speed) >= 8
    read = set()
    listed = {module_of(path) for path in (*backprop, *speed)}
    for path in (*backprop, *speed):
        module = module_of(path)
        read.add(module)
        if module in MODULES:
            needed = {name for name, top in imports(module) if top} & listed
            assert needed <= read, f"{path} needs {needed - read}, which comes later"
