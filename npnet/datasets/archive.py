"""Read chosen files out of a .tar.gz that a stranger made; nothing is ever extracted.

The archive is walked by hand: the standard module believes sizes, links and extended headers that its own
advisories (CVE-2024-6232, CVE-2025-8194 among them) show to be traps. Only the plain headers of regular
files count here; every other member, an extended header too, is skipped unread.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from npnet.datasets.errors import CorruptDatasetError

__all__ = ["members"]

_BLOCK = 512  # a tar archive is a row of blocks of this size
_CHUNK = 1 << 20
_REGULAR = (b"0", b"\0")


def members(file: BinaryIO, limits: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted files, in the order of the archive.

    Whoever takes them all has also had the checksum of the whole stream compared.

    Parameters
    ----------
    file : binary file
        The archive, from its beginning.
    limits : mapping
        The exact name of each wanted file, and the most bytes it may have.

    Raises
    ------
    CorruptDatasetError
        No .tar.gz, damaged, cut off, larger than all wanted files together (and 8 MiB), or a wanted name
        that is no regular file.
    """
    start = file.read(2)
    if start != b"\x1f\x8b":
        raise CorruptDatasetError(
            f"not a .tar.gz archive: it begins with {start!r}, expected the mark of gzip"
        )
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            yield from _wanted(_Bounded(stream, sum(limits.values()) + 8 * _CHUNK), limits)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptDatasetError(f"damaged or cut off ({error})") from error


def _wanted(source: "_Bounded", limits: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    for name, kind, size in _headers(source):
        padding = -size % _BLOCK
        if name not in limits:
            source.skip(size + padding)
            continue
        if kind not in _REGULAR:
            raise CorruptDatasetError(f"{name} is no regular file")
        if size > limits[name]:
            raise CorruptDatasetError(f"{name} has {size} bytes, expected at most {limits[name]}")
        yield name, source.read(size)
        source.skip(padding)
    source.drain()


def _headers(source: "_Bounded") -> Iterator[tuple[str, bytes, int]]:
    """Name, kind and size of each member; the caller moves past its content."""
    while (header := source.read(_BLOCK)).strip(b"\0"):
        if _octal(header[148:156]) != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
            raise CorruptDatasetError("no tar archive, or damaged: the checksum of a header is wrong")
        name = header[:100].split(b"\0")[0].decode("latin1")
        prefix = header[345:500].split(b"\0")[0].decode("latin1") if header[257:263] == b"ustar\0" else ""
        name = f"{prefix}/{name}" if prefix else name
        yield name.removeprefix("./"), header[156:157], _octal(header[124:136])


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]+", digits):
        raise CorruptDatasetError("no tar archive, or damaged: a header holds something else than a number")
    return int(digits, 8)


class _Bounded:
    """A stream that gives at most so many bytes: a few kilobytes of gzip can unpack to gigabytes."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self.stream = stream
        self.left = limit

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        if count > self.left:
            raise CorruptDatasetError("it unpacks to more than it should hold")
        self.left -= count
        content = self.stream.read(count)
        if len(content) < count:
            raise CorruptDatasetError("it is cut off")
        return content

    def skip(self, count: int) -> None:
        while count:
            count -= len(self.read(min(count, _CHUNK)))

    def drain(self) -> None:
        """Go to the end, where gzip compares its checksum of everything."""
        while piece := self.stream.read(min(_CHUNK, self.left + 1)):
            self.left -= len(piece)
            if self.left < 0:
                raise CorruptDatasetError("it unpacks to more than it should hold")
