"""Two machines on one: network namespaces joined by a link of limited speed, for a block of code.

Needs root and the programs ``ip`` and ``tc`` of Linux. What is made is removed at the end of the block.
"""

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

NAMES = "npnet-a", "npnet-b"
ADDRESSES = "10.77.0.1", "10.77.0.2"


class LinkError(Exception):
    """Network namespaces cannot be made here."""


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LinkError(f"{' '.join(command)}: {done.stderr.strip()}")


def _remove():
    for name in NAMES:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextlib.contextmanager
def link(gigabits):
    """Give the command that begins with mpiexec and starts one process on each side of such a link.

    Raises
    ------
    LinkError
        If this is not allowed, or a program is missing.
    """
    missing = [program for program in ("ip", "tc") if not shutil.which(program)]
    if missing or not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise LinkError(f"needs {' and '.join(missing)}" if missing else "needs root")
    _remove()
    try:
        for name in NAMES:
            _run("ip", "netns", "add", name)
        ends = [f"v-{name}" for name in NAMES]
        _run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(NAMES, ends, ADDRESSES, strict=True):
            _run("ip", "link", "set", end, "netns", name)
            inside = ("ip", "netns", "exec", name)
            _run(*inside, "ip", "addr", "add", f"{address}/24", "dev", end)
            _run(*inside, "ip", "link", "set", end, "up")
            _run(*inside, "ip", "link", "set", "lo", "up")
            rate, burst = f"{gigabits}gbit", f"{max(256, 256 * gigabits)}kb"
            _run(*inside, "tc", "qdisc", "add", "dev", end, "root", "tbf", "rate", rate, "burst", burst,
                 "latency", "50ms")  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            yield ["ip", "netns", "exec", NAMES[0], "mpiexec", *_hosts(Path(folder))]
    finally:
        _remove()


def _hosts(folder):
    """Return the options by which mpiexec starts a process in each namespace."""
    launcher = folder / "enter"
    cases = "\n".join(f"*{address}*) space={name};;" for address, name in zip(ADDRESSES, NAMES, strict=True))
    launcher.write_text(
        f'#!/bin/sh\ncase "$1 $2" in\n{cases}\nesac\n'
        'while [ "${1#10.77.}" = "$1" ]; do shift; done\nshift\nexec ip netns exec "$space" sh -c "$*"\n'
    )
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    return [
        "-launcher", "ssh", "-launcher-exec", str(launcher), "-localhost", ADDRESSES[0],
        "-hosts", ",".join(ADDRESSES), "-ppn", "1",
    ]  # fmt: skip
