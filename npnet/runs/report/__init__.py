"""The report of a run: one page that holds all of it and needs nothing else, to look at, print or send."""

from pathlib import Path

from npnet.internal.files import write_atomically
from npnet.runs.folder import RunFolder
from npnet.runs.report import contents
from npnet.runs.report.pictures import keep_images, one_a_class

__all__ = ["keep_images", "one_a_class", "page", "write_report"]


def write_report(folder: RunFolder) -> Path:
    """Write ``report.html`` of a run from the files in its folder, and return its path.

    What the run did not come to (no epoch ended, no test yet) is left out of the page.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run.
    ValueError
        If one of its files is damaged.
    OSError
        If the page cannot be written.
    """
    path = folder / "report.html"
    write_atomically(path, page("page.html", contents.read(folder)).encode())
    return path


def page(template: str, content: contents.Content) -> str:
    """Return the page that a template in this folder makes of its content."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("npnet.runs.report", "."),
        autoescape=True,  # names of classes and paths are the user's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)
