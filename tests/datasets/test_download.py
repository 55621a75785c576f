"""Fetching a file from servers that fail in every way: whole and verified, or not there."""

import hashlib
import io
import random
import shutil
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
import time

import loopback
import pytest

from npnet.datasets.download import Patience, fetch
from npnet.datasets.errors import DownloadError
from npnet.internal import locking

CONTENT = random.Random(0).randbytes(300_000)
OTHER = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(connect=10.0, rate=50_000, window=1.0)
HTML = b"<!DOCTYPE html><title>Please log in</title>"


@pytest.fixture
def server():
    with loopback.running() as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "file.tar.gz"


def get(target, *urls, patience=QUICK):
    fetch(urls, target, sha256=SHA256, size=len(CONTENT), patience=patience)


def holds(target, *names):
    """The folder holds these files and no others."""
    return sorted(path.name for path in target.parent.iterdir()) == sorted(names)


def put_part(target, content):
    target.parent.mkdir(parents=True)
    target.with_name("file.tar.gz.part").write_bytes(content)


def test_good_file(server, target, capsys):
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert target.read_bytes() == CONTENT
    assert holds(target, "file.tar.gz")
    out, err = capsys.readouterr()
    assert out == ""
    assert "fetching file.tar.gz from 127.0.0.1" in err
    assert "\r" not in err
    assert "100 %" in err


def test_a_file_that_is_there_is_not_fetched(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert server.requests == []


def test_a_damaged_file_is_fetched_again(server, target, capsys):
    target.parent.mkdir()
    target.write_bytes(CONTENT[:100])
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert target.read_bytes() == CONTENT
    assert "damaged" in capsys.readouterr().err


def test_bar_on_a_terminal(server, target, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    get(target, server.add("/slow", loopback.file(CONTENT, pieces=30_000, pause=0.03)))
    lines = terminal.getvalue().split("\n")[1].split("\r")
    assert len(lines) > 2
    assert all(len(line) < 80 for line in lines)
    assert "━" * 20 in lines[-1]


def test_cut_off_then_resumed(server, target):
    get(target, server.add("/cut", loopback.file(CONTENT, cut=100_000)))
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/cut", None), ("/cut", "bytes=100000-"), ("/cut", "bytes=200000-")]


def test_cut_off_too_often(server, target):
    with pytest.raises(DownloadError, match=r"gave up after 5 connections .*of 300000 bytes"):
        get(target, server.add("/cut", loopback.file(CONTENT, cut=1000)))
    assert holds(target, "file.tar.gz.part")


def test_the_next_call_goes_on(server, target, capsys):
    put_part(target, CONTENT[:123_456])
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/good", "bytes=123456-")]
    assert holds(target, "file.tar.gz")


def test_a_complete_part_needs_no_network(server, target):
    put_part(target, CONTENT)
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert server.requests == []
    assert target.read_bytes() == CONTENT


def test_server_without_range(server, target):
    put_part(target, CONTENT[:123_456])
    get(target, server.add("/plain", loopback.file(CONTENT, ranges=False)))
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("part", [OTHER[::-1][:1000], OTHER, CONTENT + b"more", b""], ids=len)
def test_a_wrong_part_is_started_again(server, target, part):
    put_part(target, part)
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert target.read_bytes() == CONTENT
    assert holds(target, "file.tar.gz")


def test_wrong_content(server, target):
    with pytest.raises(DownloadError, match="another SHA-256"):
        get(target, server.add("/wrong", loopback.file(OTHER)))
    assert holds(target)
    assert len(server.requests) == 1


def test_wrong_content_then_the_next_source(server, target, capsys):
    get(target, server.add("/a", loopback.file(OTHER)), server.add("/b", loopback.file(CONTENT)))
    assert target.read_bytes() == CONTENT
    assert "another SHA-256; trying 127.0.0.1" in capsys.readouterr().err


def test_wrong_beginning_from_one_source_does_not_spoil_the_next(server, target):
    get(
        target,
        server.add("/a", loopback.file(OTHER[::-1], stall=100_000)),
        server.add("/b", loopback.file(CONTENT)),
    )
    assert target.read_bytes() == CONTENT
    assert server.requests[-2:] == [("/b", "bytes=100000-"), ("/b", None)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (loopback.file(HTML, content_type="text/html; charset=utf-8"), "web page"),
        (loopback.file(HTML), "43 bytes where 300000 are expected"),
        (loopback.file(CONTENT + b"x"), "300001 bytes where 300000"),
        (loopback.status(404), "answered 404 Not Found"),
        (loopback.status(503), "answered 503"),
        (loopback.status(302, Location="http://example.com/file"), "no https address"),
        (loopback.status(302, Location="file:///etc/passwd"), "not allowed"),
        (loopback.status(302, Location="/answer"), "redirect"),
        (loopback.silent, "no answer within 2 s"),
    ],
)
def test_what_is_not_the_file(server, target, answer, reason):
    with pytest.raises(DownloadError, match=reason) as caught:
        get(target, server.add("/answer", answer), patience=Patience(2.0, 50_000, 1.0))
    assert len(caught.value.reasons) == 1
    assert holds(target)


def test_more_than_announced(server, target):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(20):
            handler.wfile.write(CONTENT)

    with pytest.raises(DownloadError, match="more than the 300000 bytes"):
        get(target, server.add("/endless", endless))
    assert not target.exists()


def test_a_resumed_answer_must_begin_where_asked(server, target):
    def elsewhere(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 5-299999/300000")
        handler.end_headers()

    put_part(target, CONTENT[:1000])
    with pytest.raises(DownloadError, match="another place"):
        get(target, server.add("/elsewhere", elsewhere))


def test_redirect_keeps_the_range(server, target):
    good = server.add("/good", loopback.file(CONTENT))
    put_part(target, CONTENT[:1000])
    get(target, server.add("/moved", loopback.status(302, Location=good)))
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/moved", "bytes=1000-"), ("/good", "bytes=1000-")]


def test_stalled_then_the_next_source(server, target, capsys):
    get(
        target,
        server.add("/stalled", loopback.file(CONTENT, stall=50_000)),
        server.add("/good", loopback.file(CONTENT)),
    )
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/stalled", None), ("/good", "bytes=50000-")]
    assert "it sent nothing for 1 s; trying 127.0.0.1" in capsys.readouterr().err


def test_slow_source_is_left_but_used_when_nothing_else_works(server, target, capsys):
    # 20,000 bytes every 0.1 s are 200 kB/s: too few at first, enough for the second chance.
    slow = loopback.file(CONTENT, pieces=20_000, pause=0.1)
    get(
        target,
        server.add("/slow", slow),
        server.add("/gone", loopback.status(404)),
        patience=Patience(connect=2.0, rate=500_000, window=0.3),
    )
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/slow", "/gone", "/slow"]
    assert "less than 500 kB/s; trying" in capsys.readouterr().err


def test_no_address_but_https_is_asked(target):
    with pytest.raises(DownloadError) as caught:
        get(target, "http://example.com/x", "ftp://example.com/x", "file:///etc/passwd", "nonsense")
    assert len(caught.value.reasons) == 4
    assert all("no https address" in reason for reason in caught.value.reasons)


def test_no_such_name_fails_fast(target):
    with pytest.raises(DownloadError, match="could not be looked up"):
        get(target, "https://nowhere.invalid/file")


def test_nobody_listens(target):
    with pytest.raises(DownloadError, match="refused"):
        get(target, "http://127.0.0.1:9/file")


def test_one_of_many_fetches(server, target, capsys):
    url = server.add("/slow", loopback.file(CONTENT, pieces=50_000, pause=0.05))
    threads = [threading.Thread(target=get, args=(target, url)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert holds(target, "file.tar.gz")
    assert "another process is fetching file.tar.gz" in capsys.readouterr().err


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path, monkeypatch):
    """Between opening and locking, the holder removes its file and somebody makes and locks a new one."""
    path = tmp_path / "lock"
    really_lock = locking.try_to_lock
    others = []

    def lock(file):
        if not others:
            path.unlink()
            others.append(path.open("ab"))
            really_lock(others[0])
        return really_lock(file)

    monkeypatch.setattr(locking, "try_to_lock", lock)
    with locking.locked(path, on_wait=lambda: others[0].close()):
        assert others[0].closed
    assert not path.exists()


def test_a_lock_may_be_moved_away_with_its_folder(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(RuntimeError, match="what really happened"), locking.locked(tmp_path / "run/lock"):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        raise RuntimeError("what really happened")


def run(target, url, before=""):
    """`get` in a process of its own."""
    code = f"""
        import sys
        from pathlib import Path
        from npnet.datasets.download import fetch
        {before}
        fetch([{url!r}], Path({str(target)!r}), sha256={SHA256!r}, size={len(CONTENT)})
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.PIPE, text=True)


def test_killed_in_the_middle(server, target):
    url = server.add("/stalled", loopback.file(CONTENT, stall=200_000))
    with run(target, url) as process:
        part = target.with_name("file.tar.gz.part")
        while not (part.exists() and part.stat().st_size > 100_000):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert target.read_bytes() == CONTENT
    assert server.requests[-1][1] is not None
    assert holds(target, "file.tar.gz")


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process as Unix does")
def test_full_disk(server, target):
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    with run(target, server.add("/good", loopback.file(CONTENT)), limit) as process:
        error = process.stderr.read()
    assert process.returncode == 1
    assert "OSError: [Errno 27] File too large" in error.splitlines()[-1]
    assert not target.exists()


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_certificates(server, target, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.add("/good", loopback.file(CONTENT)).replace("http:", "https:")
    with pytest.raises(DownloadError, match=r"certificate could not be verified .*SSL_CERT_FILE"):
        get(target, url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    get(target, url)
    assert target.read_bytes() == CONTENT


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        get(tmp_path / "file" / "target", server.add("/good", loopback.file(CONTENT)))
    assert server.requests == []


@pytest.mark.parametrize("seed", range(20))
def test_after_any_failures_the_next_run_recovers(server, target, seed):
    """No file under the final name that is not the file, whatever the servers did before."""
    choose = random.Random(seed)
    faults = [
        loopback.file(CONTENT, cut=choose.randrange(len(CONTENT))),
        loopback.file(OTHER),
        loopback.file(OTHER, cut=choose.randrange(len(CONTENT))),
        loopback.file(CONTENT, ranges=False, cut=choose.randrange(len(CONTENT))),
        loopback.file(HTML, content_type="text/html"),
        loopback.file(CONTENT[: choose.randrange(len(CONTENT))]),
        loopback.status(500),
    ]
    for fault in choose.sample(faults, 4):
        try:
            get(target, server.add("/fault", fault))
        except DownloadError:
            assert not target.exists()
        else:
            assert target.read_bytes() == CONTENT
    get(target, server.add("/good", loopback.file(CONTENT)))
    assert target.read_bytes() == CONTENT
    assert holds(target, "file.tar.gz")
