"""Compiled kernels are kept between runs, and no state of the disk keeps npnet from working."""

import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import fresh
import pytest
from effort import times

import npnet
from npnet.kernels.machine import cache
from npnet.kernels.machine.jit import jit
from npnet.kernels.machine.places import cache_folder

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
MISSES = "use(); print(sum(square._cache_misses.values()))"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with the kernel in it."""
    place = tmp_path_factory.mktemp("cache")
    assert fresh.run(MISSES, NPNET_CACHE=place)[0] == "1\n"
    return place


@pytest.fixture(params=range(times(1, 20)))
def attempt(request):
    """Let a test be run as often as a release demands."""
    return request.param


@pytest.fixture
def copied(filled, tmp_path):
    """A copy of that cache, to be damaged."""
    return shutil.copytree(filled, tmp_path / "npnet")


def only_file(place):
    (file,) = place.glob("kernels/*/*.kernel")
    return file


def warned_once(complaints, *words):
    assert complaints.count("Warning:") == 1, complaints
    for word in words:
        assert word in complaints


# --- keeping ---------------------------------------------------------------------------------------------


def test_the_second_start_compiles_nothing_and_says_nothing(filled):
    assert fresh.run(MISSES, NPNET_CACHE=filled) == ("0\n", "")


def test_the_folder_is_ours_alone(filled):
    assert (filled / "kernels").stat().st_mode & 0o777 == 0o700


SIBLINGS = """
import os
from numba import types
from npnet.kernels.machine.addresses import call
from npnet.kernels.machine.jit import jit

def times(factor):
    @jit(addressed=True)
    def kernel(x):
        return x * factor
    return kernel

@jit
def called(address, x):
    return call(address, (x,))

def products(*factors):
    "The products of 10 and some factors, each by a kernel of its own; all are there before any is called."
    kernels = [times(factor) for factor in factors]
    for kernel in kernels:
        kernel.compile((types.int64,))
    return [called(kernel.address((types.int64,)), 10) for kernel in kernels]
"""


@pytest.mark.parametrize(
    "forks", [False, pytest.param(True, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"))]
)
def test_kernels_of_one_factory_that_two_processes_compiled_are_told_apart(tmp_path, forks):
    # One seed of hashes: Numba's names of kernels have the order of a set in them. Copies share one anyway.
    environment = {"NPNET_CACHE": tmp_path, "PYTHONHASHSEED": 0}
    one_by_one = ["print(products(2))", "print(products(3))"]
    if forks:
        child = "child = os.fork()\nif child == 0:\n    products({})\n    os._exit(0)\nos.waitpid(child, 0)\n"
        one_by_one = [child.format(2) + child.format(3)]
    for code in one_by_one:
        fresh.run(SIBLINGS + code, kernel=forks, **environment)
    assert len([*tmp_path.glob("kernels/*/kernel-*.kernel")]) == 2
    assert fresh.run(SIBLINGS + "print(products(2, 3))", kernel=forks, **environment)[0] == "[20, 30]\n"


@pytest.mark.usefixtures("attempt")
def test_processes_that_start_at_once_on_an_empty_cache(tmp_path):
    started = [fresh.start(MISSES, NPNET_CACHE=tmp_path) for _ in range(times(4, 8))]
    assert all(fresh.finish(process)[1] == "" for process in started)
    assert fresh.run(MISSES, NPNET_CACHE=tmp_path) == ("0\n", "")
    kinds = sorted(file.suffix for file in only_file(tmp_path).parent.iterdir())
    assert kinds == [".kernel", ".linked"]  # the loop, and its body


def test_numbas_own_settings_and_caches_are_left_alone(filled, tmp_path):
    script = tmp_path / "theirs.py"
    script.write_text("import numba\n@numba.njit(cache=True)\ndef theirs(x):\n    return x + 1\n")
    code = f"""
        sys.path.insert(0, {str(tmp_path)!r})
        from numba.core import config
        before = {{name: getattr(config, name) for name in dir(config) if name.isupper()}}
        environment = dict(os.environ)
        use()
        assert dict(os.environ) == environment
        assert {{name: getattr(config, name) for name in dir(config) if name.isupper()}} == before
        from theirs import theirs
        assert theirs(1) == 2
        print(theirs._cache.cache_path)
    """
    printed, complaints = fresh.run(code, NPNET_CACHE=filled)
    assert (printed.strip(), complaints) == (str(tmp_path / "__pycache__"), "")


@pytest.mark.parametrize(
    ("variables", "root"),
    [
        ({"NPNET_CACHE": "/a", "NUMBA_CACHE_DIR": "/b", "XDG_CACHE_HOME": "/c"}, "/a"),
        ({"NUMBA_CACHE_DIR": "/b", "XDG_CACHE_HOME": "/c"}, "/b/npnet"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/npnet"),
        ({"HOME": "/d"}, "/d/.cache/npnet"),
    ],
)
def test_the_place_can_be_chosen(variables, root, monkeypatch):
    for name in ("NPNET_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache._root().as_posix() == root


def test_a_process_that_keeps_the_same_kernel_meanwhile(tmp_path):
    other = [sys.executable, "-c", fresh.KERNEL + MISSES]
    code = f"""
        import pathlib, subprocess
        write = pathlib.Path.write_bytes
        def interrupted(path, content):
            write(path, content)
            pathlib.Path.write_bytes = write
            subprocess.run({other!r}, check=True)
        pathlib.Path.write_bytes = interrupted
    """
    # The other keeps both the body of the loop and the kernel while this one keeps the body.
    assert fresh.run(textwrap.dedent(code) + MISSES, NPNET_CACHE=tmp_path) == ("1\n1\n", "")
    assert fresh.run(MISSES, NPNET_CACHE=tmp_path) == ("0\n", "")


def test_a_change_in_any_kernel_file_makes_a_new_key(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "files", lambda package: tmp_path)
    keys = set()
    (tmp_path / "products").mkdir()
    (tmp_path / "products" / "__pycache__").mkdir()
    for name, text in [
        ("rules.py", "1"), ("rules.py", "2"), ("rules.py", "2"),
        ("products/tiles.py", "1"), ("products/tiles.py", "2"), ("products/__pycache__/tiles.pyc", "2"),
    ]:  # fmt: skip
        (tmp_path / name).write_text(text)
        keys.add(cache._key())
    assert len(keys) == 4


def test_every_kernel_source_is_part_of_the_key():
    root = Path(npnet.__file__).parent / "kernels"
    sources = {path.relative_to(root).as_posix() for path in root.rglob("*.py")}
    assert {name for name, _ in cache._sources()} == sources
    assert "products/tiles.py" in sources


@pytest.mark.parametrize("set_back", [False, True])
def test_old_versions_are_deleted_and_never_this_one(copied, set_back):
    current = only_file(copied).parent
    if set_back:  # the others were used when the clock was wrong
        os.utime(current, (1, 1))
    for age in range(1, 9):
        old = current.with_name(f"{age:016x}")
        old.mkdir()
        os.utime(old, (1e9 - age, 1e9 - age))
    cache._prune(current.parent, current)
    left = {f"{age:016x}" for age in range(1, cache.KEPT)} | {current.name}
    assert {place.name for place in current.parent.iterdir()} == left


# --- what a kernel is known by ---------------------------------------------------------------------------


def shifted(amount):
    def inner(x):
        return x + amount

    @jit
    def kernel(x):
        return inner(x)

    return kernel


def test_kernels_are_told_apart_by_what_they_close_over():
    identities = [repr(cache.identify(shifted(amount))) for amount in (1, 2, 1.0, (1, 2), "1", len, shifted)]
    assert len(set(identities)) == len(identities)


def test_kernels_made_alike_are_the_same():
    assert cache.identify(shifted(1)) == cache.identify(shifted(1))


def test_a_kernel_that_closes_over_an_array_is_refused():
    with pytest.raises(TypeError, match=r"closes over .*numbers, strings, tuples"):
        cache.identify(shifted([1, 2]))


def test_a_kernel_bound_to_this_process_says_why_it_cannot_be_kept(filled):
    code = """
        import numba
        @jit
        def bound():
            numba.set_num_threads(1)
        bound()
    """
    warned_once(fresh.run(code, NPNET_CACHE=filled)[1], "bound", "set_num_threads")


# --- faults ----------------------------------------------------------------------------------------------


def truncate(file):
    content = file.read_bytes()
    file.write_bytes(content[: random.randrange(len(content))])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    content = bytearray(file.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def obstruct(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [truncate, empty, flip, obstruct] * times(1, 20))
def test_a_damaged_file_is_compiled_again(copied, damage):
    damage(only_file(copied))
    printed, complaints = fresh.run(MISSES, NPNET_CACHE=copied)
    assert printed == "1\n"
    warned_once(complaints, "cache of compiled kernels", only_file(copied).name)
    if damage is not obstruct:
        assert fresh.run(MISSES, NPNET_CACHE=copied) == ("0\n", "")


def test_a_foreign_pickle_is_not_executed(copied, tmp_path):
    trace = tmp_path / "executed"
    only_file(copied).write_bytes(bytes(cache.DIGEST) + f"cos\nmkdir\n(S'{trace}'\ntR.".encode())
    warned_once(fresh.run(MISSES, NPNET_CACHE=copied)[1], "checksum")
    assert not trace.exists()


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    printed, complaints = fresh.run(MISSES, NPNET_CACHE=tmp_path / "file")
    assert printed == "1\n"
    warned_once(complaints, "cannot be used", "NPNET_CACHE")


@pytest.mark.usefixtures("attempt")
def test_no_home():
    code = "import pwd; pwd.getpwuid = {}.__getitem__; del os.environ['HOME']\n" + MISSES
    printed, complaints = fresh.run(code)
    assert printed == "1\n"
    warned_once(complaints, "no home folder", "NPNET_CACHE")


def test_a_disk_that_takes_nothing(tmp_path):
    code = "import resource; threads.start(); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n" + MISSES
    printed, complaints = fresh.run(fresh.KERNEL + code, kernel=False, NPNET_CACHE=tmp_path)
    assert printed == "1\n"
    warned_once(complaints, "cannot be written", "NPNET_CACHE")
    assert not list(tmp_path.glob("kernels/*/*"))


def test_a_folder_others_can_write_is_not_used(copied):
    (copied / "kernels").chmod(0o777)
    printed, complaints = fresh.run(MISSES, NPNET_CACHE=copied)
    assert printed == "1\n"
    warned_once(complaints, "can be written by other users", "chmod 700")


@pytest.mark.skipif(not ROOT, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(copied):
    os.chown(copied / "kernels", 12345, -1)
    printed, complaints = fresh.run(MISSES, NPNET_CACHE=copied)
    assert printed == "1\n"
    warned_once(complaints, "belongs to user 12345")


@pytest.mark.skipif(not ROOT or not shutil.which("unshare"), reason="only root can mount")
def test_a_read_only_installation(tmp_path):
    """Nothing is written beside the sources."""
    site = tmp_path / "site"
    shutil.copytree(Path(npnet.__file__).parent, site / "npnet", ignore=shutil.ignore_patterns("__pycache__"))
    mounted = ["unshare", "--mount", "sh", "-c", 'mount --bind -o ro "$0" "$0" && exec "$@"', str(site)]
    if subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    code = fresh.KERNEL + f"assert {str(site)!r} in cache.__file__\n" + MISSES
    environment = {**os.environ, "PYTHONPATH": str(site), "NPNET_CACHE": str(tmp_path / "cache")}
    for expected in ("1\n", "0\n"):
        command = [*mounted, sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@pytest.mark.skipif(not ROOT or not shutil.which("unshare"), reason="only root can mount")
@pytest.mark.parametrize("holds_kernel", [True, False])
@pytest.mark.usefixtures("attempt")
def test_a_read_only_file_system(copied, holds_kernel, tmp_path):
    """A kernel that is there is used without a word; one that is not is compiled, with one."""
    if not holds_kernel:
        only_file(copied).unlink()
    mounted = ["unshare", "--mount", "sh", "-c", 'mount --bind -o ro "$0" "$0" && exec "$@"', str(copied)]
    if subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    code = f"""
        import subprocess, sys
        sys.exit(subprocess.run({mounted!r} + [sys.executable, "-c", {fresh.KERNEL + MISSES!r}]).returncode)
    """
    printed, complaints = fresh.run(code, kernel=False, NPNET_CACHE=copied)
    assert printed == ("0\n" if holds_kernel else "1\n")
    if holds_kernel:
        assert complaints == ""
    else:
        warned_once(complaints, "cannot be written")


def test_without_a_home_the_reason_is_said(monkeypatch):
    for name in ("NPNET_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(OSError, match="there is no home folder to keep data in; set NPNET_CACHE"):
        cache_folder()
