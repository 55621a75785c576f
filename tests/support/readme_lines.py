"""README's reading lists count lines by themselves: `make lines` writes the present counts into README.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^(\| \[`[^`]+`\]\(([^)]+)\) \|) ([\d,]+) \|", re.MULTILINE)


def counted(text):
    """The text with the present number of lines in each row that names a file."""

    def row(match):
        lines = len((ROOT / match[2]).read_text(encoding="utf-8").splitlines())
        return f"{match[1]} {lines} |"

    return ROW.sub(row, text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(counted(readme.read_text(encoding="utf-8")), encoding="utf-8")
