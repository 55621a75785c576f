"""utils.get_file: fetched once, checked, unpacked."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import loopback
import miniature
import pytest

from npnet.datasets.errors import DownloadError
from npnet.utils import get_file

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server():
    with loopback.running() as running:
        yield running


def get(url, tmp_path, **options):
    return Path(get_file(origin=url, cache_dir=tmp_path, **options))


def test_a_file_is_fetched_once(server, tmp_path, capsys):
    url = server.add("/a%20b.bin", loopback.file(CONTENT))
    path = get(url, tmp_path)
    assert path == tmp_path / "datasets/a b.bin"
    assert path.read_bytes() == CONTENT
    assert get(url, tmp_path) == path
    assert len(server.requests) == 1
    assert get(url, tmp_path, force_download=True) == path
    assert len(server.requests) == 2
    assert get(url, tmp_path, fname="other", cache_subdir="x").parent == tmp_path / "x"
    assert "fetching a b.bin" in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_its_hash_is_compared(server, tmp_path, algorithm):
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    url = server.add("/file", loopback.file(CONTENT))
    path = get(url, tmp_path, file_hash=digest)
    path.write_bytes(b"damaged")
    assert get(url, tmp_path, file_hash=digest).read_bytes() == CONTENT
    path.write_bytes(b"damaged")
    assert get(url, tmp_path).read_bytes() == b"damaged", "nobody said what it should be"
    with pytest.raises(DownloadError, match=r"another (SHA-256|MD5)"):
        get(url, tmp_path, file_hash="0" * len(digest))
    if algorithm == "md5":
        assert get(url, tmp_path, md5_hash=digest).read_bytes() == CONTENT


def test_a_cut_off_connection_goes_on_only_where_the_content_is_known(server, tmp_path):
    def twice(handler):
        first = len(server.requests) == 1
        loopback.file(CONTENT, cut=1000 if first else None)(handler)

    url = server.add("/file", twice)
    assert get(url, tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, None]
    server.requests.clear()
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert get(url, tmp_path / "again", file_hash=digest).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-"]


def test_what_cannot_be_had_leaves_nothing(server, tmp_path):
    url = server.add("/file", loopback.status(404))
    with pytest.raises(DownloadError, match="it answered 404"):
        get(url, tmp_path)
    assert not (tmp_path / "datasets/file").exists()


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("set.zip", zipped({"a/b.txt": b"hello"}), {"extract": True}),
        ("set.tar.gz", miniature.archive({"a/b.txt": b"hello"}), {"extract": True}),
        ("set.tgz", miniature.archive({"a/b.txt": b"hello"}), {"untar": True}),
        ("set", miniature.archive({"a/b.txt": b"hello"}), {"untar": True}),
        ("set", zipped({"a/b.txt": b"hello"}), {"extract": True, "archive_format": "zip"}),
        ("set", zipped({"a/b.txt": b"hello"}), {"extract": True}),
        ("flower_photos", miniature.archive({"a/b.txt": b"hello"}), {"extract": True}),
    ],
)
def test_archives_are_unpacked(server, tmp_path, name, content, options):
    url = server.add(f"/{name}", loopback.file(content))
    folder = get(url, tmp_path, **options)
    assert folder.name == f"{name}_extracted"
    assert (folder / "a/b.txt").read_bytes() == b"hello"
    (folder / "mine").touch()
    assert get(url, tmp_path, **options) == folder
    assert (folder / "mine").exists(), "it is unpacked once"
    assert sorted(p.name for p in folder.parent.iterdir() if p.name[0] == ".") == []


def link():
    entry = tarfile.TarInfo("a")
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


@pytest.mark.parametrize("files", [{"../out": b"x"}, {"a": link()}])
def test_archives_that_reach_outside_are_refused(server, tmp_path, files):
    url = server.add("/set.tar.gz", loopback.file(miniature.archive(files)))
    with pytest.raises(ValueError, match="cannot be unpacked"):
        get(url, tmp_path, extract=True)
    assert sorted(p.name for p in (tmp_path / "datasets").iterdir()) == ["set.tar.gz"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origin": None}, "get_file needs origin"),
        ({"fname": "../out"}, "fname must name a file below"),
        ({"fname": ""}, "fname must name a file below"),
        ({"file_hash": "123"}, "file_hash must be a SHA-256"),
        ({"file_hash": "0" * 64, "hash_algorithm": "md5"}, "file_hash must be a SHA-256"),
        ({"hash_algorithm": "crc"}, 'hash_algorithm must be "auto", "sha256" or "md5"'),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        get_file(**{"origin": "https://nowhere.invalid/file", "cache_dir": tmp_path} | options)


def test_files_that_are_no_archive(server, tmp_path):
    url = server.add("/set.rar", loopback.file(b"x"))
    with pytest.raises(ValueError, match=r"set.rar cannot be unpacked"):
        get(url, tmp_path, extract=True)
    with pytest.raises(ValueError, match='archive_format must be "auto", "zip" or "tar"'):
        get(url, tmp_path, extract=True, archive_format="rar")
