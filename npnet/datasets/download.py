"""Fetch one file: several sources, resumed, verified, and never half there.

The bytes go into ``NAME.part`` beside the destination. A later call, or the next source, goes on where it
ends; only when its size and checksum are right does it take the name of the destination. Where nothing is
known of the content, a broken connection begins anew: two halves might be of two files.
"""

import contextlib
import hashlib
import http.client
import os
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from npnet.datasets.errors import DownloadError
from npnet.internal.files import sync_folder
from npnet.internal.locking import locked
from npnet.internal.progress import is_watched

__all__ = ["ATTEMPTS", "Content", "Patience", "fetch"]

ATTEMPTS = 5  # connections to one source before the next is tried
_CHUNK = 1 << 16
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Patience:
    """How long a source may take.

    Parameters
    ----------
    connect : float
        Seconds from asking for the name to the end of the answer's headers.
    rate : float
        The least bytes per second, on average over each `window`. A source is left when it is slower; if
        no other one works it is asked again and may take ten times as long.
    window : float
        Seconds over which the rate counts, and of silence after which a source is given up.
    """

    connect: float = 6.0
    rate: float = 300_000.0
    window: float = 8.0


@dataclass(frozen=True)
class Content:
    """What is known of a file.

    Parameters
    ----------
    size : int, optional
        In bytes.
    sha256, md5 : str, optional
        In hexadecimal.
    """

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def checksums(self) -> dict[str, str]:
        """Those that are known, by the name of their algorithm."""
        known = {"sha256": self.sha256, "md5": self.md5}
        return {name: value.lower() for name, value in known.items() if value is not None}

    def difference(self, path: Path) -> str | None:
        """In what the file differs: "size", "SHA-256", "MD5", or None."""
        if self.size is not None and path.stat().st_size != self.size:
            return "size"
        for name, expected in self.checksums.items():
            with path.open("rb") as file:
                if hashlib.file_digest(file, name).hexdigest() != expected:
                    return {"sha256": "SHA-256", "md5": "MD5"}[name]
        return None


class _SourceError(Exception):
    """A source cannot give the file."""


class _TooSlowError(_SourceError):
    """It could, if nothing faster is there."""


class _CutOffError(Exception):
    """The connection broke; what has come is kept, and the rest can be asked for."""


def fetch(
    sources: Sequence[str],
    destination: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    patience: Patience | None = None,
) -> None:
    """Put the file with this checksum at `destination`, from the first source that gives it.

    Nothing is fetched if it is there already. Progress and the failures of sources go to standard error.

    Parameters
    ----------
    sources : sequence of str
        Addresses of the same file, tried in order: https, or http on this machine itself.
    destination : Path
        Its folder is made if need be.
    sha256, md5 : str, optional
        In hexadecimal.
    size : int, optional
        In bytes.
    patience : Patience, optional

    Raises
    ------
    DownloadError
        No source gave the file; ``reasons`` says why for each.
    OSError
        The file cannot be written.
    """
    content = Content(size, sha256, md5)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with locked(
        destination.with_name(destination.name + ".lock"),
        on_wait=lambda: _say(f"another process is fetching {destination.name}; waiting for it"),
    ):
        if destination.exists():
            if content.difference(destination) is None:
                return
            _say(f"{destination} is damaged; fetching it again")
            destination.unlink()
        part = destination.with_name(destination.name + ".part")
        if size is None:  # nobody could tell whether it is complete
            part.unlink(missing_ok=True)
        _fetch_part(sources, part, content, patience or Patience())
        part.replace(destination)
        sync_folder(destination.parent)


def _fetch_part(sources: Sequence[str], part: Path, content: Content, patience: Patience) -> None:
    turns = [(url, patience.rate) for url in sources]
    reasons = []
    while turns:
        url, rate = turns.pop(0)
        try:
            _from_source(url, part, content, Patience(patience.connect, rate, patience.window))
            return
        except _SourceError as failure:
            reasons.append(f"{url}: {failure}")
            if isinstance(failure, _TooSlowError) and rate == patience.rate:
                turns.append((url, rate / 10))
            _say(f"{_host(url)}: {failure}" + (f"; trying {_host(turns[0][0])}" if turns else ""))
    raise DownloadError(reasons)


def _from_source(url: str, part: Path, content: Content, patience: Patience) -> None:
    """Complete `part` from one source, resuming as often as its connections break."""
    for _ in range(ATTEMPTS):
        start = part.stat().st_size if part.exists() and content.checksums else 0
        try:
            if start != content.size:
                start = _receive(url, part, start, content.size, patience)
        except _CutOffError as broken:
            reason = str(broken)
            continue
        difference = content.difference(part)
        if difference is None:
            return
        part.unlink()
        if start == 0:
            raise _SourceError(f"it sent a file with another {difference}")
        _say(f"what had come of {part.stem} before does not fit the rest; starting again")
        reason = "what it sent does not fit together"
    raise _SourceError(f"gave up after {ATTEMPTS} connections ({reason})")


def _receive(url: str, part: Path, start: int, size: int | None, patience: Patience) -> int:
    """Append the bytes from `start` on to `part`; return where the source began: at 0 if it cannot resume."""
    with contextlib.closing(_connect(url, start, patience)) as response:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise _SourceError("it resumed at another place than asked")
        else:
            start = 0
        announced = response.headers.get("Content-Length")
        if response.headers.get_content_type() == "text/html":
            raise _SourceError("it answered with a web page (HTML) instead of the file")
        if size is None:
            size = start + int(announced) if announced is not None else None
        elif announced is not None and announced != str(size - start):
            raise _SourceError(
                f"its file is another one: {announced} bytes where {size - start} are expected"
            )
        with part.open("ab") as file, _Progress(f"{part.stem} from {_host(url)}", start, size) as progress:
            file.truncate(start)
            file.seek(start)
            try:
                for chunk in _chunks(response, patience):
                    if size is not None and file.tell() + len(chunk) > size:
                        raise _SourceError(f"it sends more than the {size} bytes expected")
                    file.write(chunk)
                    progress.show(file.tell())
            finally:
                file.flush()
                os.fsync(file.fileno())
            if size is not None and file.tell() < size:
                raise _CutOffError(f"cut off after {file.tell()} of {size} bytes")
    return start


def _chunks(response: http.client.HTTPResponse, patience: Patience) -> Iterator[bytes]:
    since, received = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except TimeoutError as error:
            raise _TooSlowError(f"it sent nothing for {patience.window:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise _CutOffError(_describe(error)) from error
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= patience.window:
            if received < patience.rate * seconds:
                raise _TooSlowError(
                    f"only {received / seconds / 1000:.0f} kB/s, less than {patience.rate / 1000:.0f} kB/s"
                )
            since, received = time.monotonic(), 0


# --- connecting --------------------------------------------------------------------------------------------


def _connect(url: str, start: int, patience: Patience) -> http.client.HTTPResponse:
    """The answer to a request for the bytes from `start` on.

    The time limit of urllib counts for each step alone and not at all for the name; so it works in a thread
    and is left behind when all steps together take too long.
    """
    answer: Future[http.client.HTTPResponse] = Future()

    def ask() -> None:
        try:
            _check_address(url)
            request = urllib.request.Request(
                url, headers={"User-Agent": "npnet", "Accept-Encoding": "identity"}
            )
            if start:
                request.add_header("Range", f"bytes={start}-")
            opener = urllib.request.build_opener(_SafeRedirects)
            answer.set_result(opener.open(request, timeout=patience.window))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="npnet-download", daemon=True).start()
    try:
        return answer.result(timeout=patience.connect)
    except TimeoutError as error:
        answer.add_done_callback(_close_late)
        raise _SourceError(f"no answer within {patience.connect:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise _SourceError(_describe(error)) from error


def _close_late(answer: "Future[http.client.HTTPResponse]") -> None:
    if answer.exception() is None:
        answer.result().close()


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect, but not from https to something that anybody on the way can change."""

    def redirect_request(self, request, fp, code, message, headers, address):  # type: ignore[no-untyped-def]
        try:
            _check_address(address)
        except ValueError:
            fp.close()
            raise
        return super().redirect_request(request, fp, code, message, headers, address)


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"{url} is no https address")


def _describe(error: BaseException) -> str:
    """One line about an error of the network, without the wrapping."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    match reason:
        case _ if isinstance(error, urllib.error.HTTPError):
            return f"it answered {error.code} {error.reason}"
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate could not be verified ({reason.verify_message}); where the network has a "
                "certificate authority of its own, set SSL_CERT_FILE to the file of its certificates"
            )
        case socket.gaierror():
            return f"its name could not be looked up ({reason.strerror})"
        case OSError(strerror=str(text)) if text:
            return text
    return str(reason) or type(reason).__name__


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


# --- files and progress ------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(f"npnet: {text}", file=sys.stderr, flush=True)


class _Progress:
    """A bar that moves on a terminal; a line for every tenth in a pipe."""

    def __init__(self, label: str, start: int, size: int | None) -> None:
        self.start = start
        self.size = max(size or 0, 1)
        self.began = self.shown_at = time.monotonic()
        self.tenth = 10 * start // self.size
        self.known = size is not None
        self.live = self.known and is_watched(sys.stderr)
        much = f", {size / 1e6:.{0 if size > 1e7 else 1}f} MB" if size is not None else ""
        _say(f"fetching {label}{much}" + (f", {start / 1e6:.0f} MB are there" if start else ""))

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            print(file=sys.stderr, flush=True)

    def show(self, received: int) -> None:
        now = time.monotonic()
        complete = received == self.size
        if self.live and (complete or now - self.shown_at >= 0.1):
            self.shown_at = now
            bar = "━" * (20 * received // self.size)
            print(f"\r{bar:─<20} {self._numbers(received, now)}", end="", file=sys.stderr, flush=True)
        elif self.known and not self.live and 10 * received // self.size > self.tenth:
            self.tenth = 10 * received // self.size
            _say(self._numbers(received, now))

    def _numbers(self, received: int, now: float) -> str:
        rate = (received - self.start) / max(now - self.began, 1e-9)
        left = (self.size - received) / max(rate, 1.0)
        numbers = f"{100 * received // self.size:3d} %, {received / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s"
        return f"{numbers}, {left:.0f} s left" if received < self.size else f"{numbers}{'':10}"
