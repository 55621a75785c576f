"""Two machines on one: network namespaces joined by a link of limited speed; what links cost by arithmetic.

``link`` needs root and the programs ``ip`` and ``tc`` of Linux. What it makes it removes again.
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


GOODPUT = 0.94  # of a link's speed, without the headers of Ethernet, IP and TCP


def milliseconds_to_sum(megabytes, gigabits, processes, latency_us=30):
    """Return how long the processes need to sum so much over links of this speed, at best.

    Each sends 2 (P-1)/P of the bytes and receives as many, in two rounds of messages.
    """
    sent = 2 * (processes - 1) / processes * megabytes
    return sent * 8 / (GOODPUT * gigabits) + 2 * latency_us * 1e-3


def efficiency(step_ms, megabytes, gigabits, processes):
    """Return the part of the time in which processes compute, if each takes ``step_ms`` for its samples."""
    return step_ms / (step_ms + milliseconds_to_sum(megabytes, gigabits, processes))


# Milliseconds that two cores take for a step of so many samples, and megabytes of gradients.
MLP, CNN = 7.36, 1.08
STEPS = {
    ("MLP", 128): (2.86, MLP),
    ("MLP", 512): (10.6, MLP),
    ("MLP", 2048): (40.6, MLP),
    ("CNN", 32): (12.8, CNN),
}
SPEEDS, NUMBERS = (1, 10, 25, 100), (2, 8, 64)


def scaling_table():
    """Return the table of docs/distributed.md: per cent of the time that is left for computing."""
    head = ["network, samples of one process", "link", *(f"{number} processes" for number in NUMBERS)]
    rows = [
        [
            f"{name}, {batch}",
            f"{speed} Gb/s",
            *(f"{100 * efficiency(*step, speed, n):.0f} %" for n in NUMBERS),
        ]
        for (name, batch), step in STEPS.items()
        for speed in SPEEDS
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


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
        "-genv", "UCX_TLS", "tcp,self",  # else UCX finds the memory that both share
    ]  # fmt: skip
