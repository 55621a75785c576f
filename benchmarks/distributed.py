"""``python -m benchmarks distributed``: processes beside threads and DDP, on one host and over a link.

The losses of the first steps are compared with float64 before anything is timed.
"""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from typing import NamedTuple

from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import median, table

from . import arguments, machine
from .links import ADDRESSES, LinkError, link

BATCHES = {"dense": (32, 128, 512, 2048), "cnn": (32, 128, 512)}  # samples of one process


class Place(NamedTuple):
    """Who trains with how many processes and threads of each, on so many processes' samples together.

    Two processes that take one's samples train each for itself.
    """

    who: str
    processes: int
    threads: int
    samples: int


PLACES = {
    "npnet 1 x 1": Place("npnet", 1, 1, 1),
    "npnet 1 x 2": Place("npnet", 1, 2, 2),
    "npnet 2 x 1": Place("npnet", 2, 1, 2),
    "npnet 2 apart": Place("npnet", 2, 1, 1),
    "torch 1 x 1": Place("torch", 1, 1, 1),
    "torch 2 x 1, DDP": Place("torch", 2, 1, 2),
}


class RunError(Exception):
    """A process failed."""


def command(place, network, batch, seconds):
    """Return what one of the processes runs, for so many samples of each of them."""
    settings = {
        "who": place.who, "network": network, "batch": batch * place.samples, "threads": place.threads,
        "shards": min(place.processes, place.samples), "seconds": seconds,
    }  # fmt: skip
    return [sys.executable, "-m", "benchmarks.ranks", json.dumps(settings)]


def run(begin, program):
    """Run a program and return what it printed; of processes that train apart the slowest did."""
    environment = _environment()
    done = subprocess.run(
        [*begin, *program], capture_output=True, text=True, check=False, env=environment, timeout=600
    )
    if done.returncode:
        raise RunError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it gave no reason")
    return max(map(json.loads, done.stdout.splitlines()), key=lambda printed: printed["median"])


def _environment():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return os.environ | {"NPNET_BENCH_PORT": str(port), "OPENBLAS_NUM_THREADS": "1"}


def left_out():
    """Return {who: why} of those that cannot take part."""
    needs = {"npnet": "mpi4py", "torch": "torch"}
    return {who: f"there is no {package}" for who, package in needs.items() if find_spec(package) is None}


def measure(network, batch, options, places, begin):
    """Return {place: milliseconds of a step in each round}, rounds interleaved."""
    times = {name: [] for name in places}
    for _ in range(options.rounds):
        for name, place in places.items():
            program = command(place, network, batch, options.seconds)
            times[name].append(run(begin(place.processes), program)["median"])
    return times


def show(network, found):
    """Print a table: what a step costs, and what the second process brings."""
    rows = []
    for batch, times in found.items():
        least = {name: min(each) for name, each in times.items()}

        def ratio(one, other, least=least):
            return f"{least[one] / least[other]:.2f}" if {one, other} <= least.keys() else ""

        rows.append(
            [
                batch,
                *(
                    f"{median(times[name]):.2f} / {least[name]:.2f}" if name in times else ""
                    for name in PLACES
                ),
                ratio("npnet 1 x 1", "npnet 2 x 1"),
                ratio("npnet 1 x 1", "npnet 2 apart"),
                ratio("npnet 1 x 2", "npnet 2 x 1"),
                ratio("torch 2 x 1, DDP", "npnet 2 x 1"),
            ]
        )
    head = [
        f"{network}, samples a process",
        *PLACES,
        "weak scaling",
        "its limit",
        "threads / processes",
        "DDP / npnet",
    ]
    print("\n" + table(head, rows), flush=True)


def over_links(options, absent):
    """Measure two processes on both sides of a limited link."""
    results = {}
    for gigabits in options.links:
        try:
            with link(gigabits) as begin:
                print(f"\nover a link of {gigabits} Gb/s, ms a step, median / least:")
                for network in options.networks:
                    batches = options.batches or BATCHES[network]
                    found = {}
                    for batch in batches:
                        place = {"npnet 2 x 1": PLACES["npnet 2 x 1"]} if "npnet" not in absent else {}
                        found[batch] = measure(network, batch, options, place, lambda _, begin=begin: begin)
                    show(network, found)
                    results[f"{gigabits} Gb/s, {network}"] = found
        except LinkError as error:
            print(f"\nThe link of {gigabits} Gb/s is left out: {error}")
        except RunError as error:
            print(
                f"\nThe link of {gigabits} Gb/s is left out: processes on {' and '.join(ADDRESSES)}: {error}"
            )
    return results


def main(argv):
    parser = arguments.parser("distributed", __doc__, rounds=3)
    parser.add_argument("--networks", type=arguments.names, default=list(BATCHES), help="dense,cnn")
    parser.add_argument("--batches", type=arguments.numbers, help="samples of one process")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--links", type=arguments.numbers, default=[], help="Gb/s, such as 1,10; needs root")
    options = parser.parse_args(argv)
    print(machine.describe(options.threads))
    absent = left_out()
    for who, why in absent.items():
        print(f"{who} is left out: {why}.")
    places = {name: place for name, place in PLACES.items() if place.who not in absent}
    results = {}
    print(
        f"\nprocesses x threads; ms a step, median / least of {options.rounds} interleaved runs. 1 x 2"
        " and 2 x 1 take\nthe samples of two processes. Weak scaling: 1 x 1 / 2 x 1; 1 is best. Its limit is"
        " 1 x 1 / 2 apart:\ntwo trainings that know nothing of each other, at the same time, each on a core."
    )
    with Neighbours() as neighbours:
        for network in options.networks:
            found = {
                batch: measure(network, batch, options, places, lambda n: ["mpiexec", "-n", str(n)])
                for batch in options.batches or BATCHES[network]
            }
            show(network, found)
            results[network] = found
        results |= over_links(options, absent)
    print(f"\n{neighbours}.")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe(1), "ms": results}, indent=1))
