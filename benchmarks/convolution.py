"""``python -m benchmarks convolution``: layers beside oneDNN, pass by pass, and whole networks beside all."""

import json
from importlib.util import find_spec

from npnet.checking.measuring.limits import measure_limits
from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import calibrated, interleave, median, table

from . import arguments, machine, networks
from .layers import PASSES, Layer
from .network_peers import NETWORK_PEERS
from .worker import Worker

LIBRARIES = {"npnet": "npnet", "torch": "oneDNN (torch)"}
LAYERS = ((3, 32, 32), (32, 32, 32), (32, 64, 16), (64, 64, 16), (64, 256, 16), (256, 256, 8))
TOLERANCE = 3e-5  # of the largest number; oneDNN's filter gradient errs by up to 1e-5, the rest by up to 2e-6


def measure(workers, layer, which, rounds, seconds):
    """Validate, then time: return {library: its error, seconds in each round}. A wrong result ends it all."""
    errors, calls = {}, {}
    for name, worker in workers.items():
        errors[name] = worker.ask("convolution", "pass", layer=layer, which=which)
        if not errors[name] <= TOLERANCE:
            raise SystemExit(f"{LIBRARIES[name]}: {layer} {which} errs by {errors[name]:.1e}.")
        calls[name] = calibrated(worker.stopwatch("pass"), seconds)
    times = interleave(calls, rounds)
    return {name: (errors[name], times[name]) for name in workers}


def row(layer, which, found, limits):
    """Lay out GFLOP/s and errors of one pass, the ratio, and the share of the limit of multiply-adds."""
    speeds = {name: layer.flops / median(times) / 1e9 for name, (_, times) in found.items()}
    cells = []
    for name in LIBRARIES:
        cells += [f"{speeds[name]:.0f}", f"{found[name][0]:.0e}"] if name in found else ["-", "-"]
    ratio = f"{speeds['npnet'] / speeds['torch']:.2f}x" if "torch" in speeds else "-"
    return [f"{layer}, batch {layer.batch}: {which}", *cells, ratio, f"{speeds['npnet'] / limits.peak():.0%}"]


def passes(options, limits):
    """Validate, time and lay out the passes of all layers; return what was measured."""
    rounds, seconds = (3, 0.01) if options.quick else (options.rounds, 0.1)
    names = [name for name in LIBRARIES if name != "torch" or find_spec("torch")]
    workers = {name: Worker(name, options.threads) for name in names}
    rows, report = [], []
    try:
        with Neighbours([worker.cpu_time for worker in workers.values()]) as neighbours:
            for batch in options.batch:
                for sizes in LAYERS[:2] if options.quick else LAYERS:
                    layer = Layer(*sizes, batch)
                    for which in PASSES:
                        found = measure(workers, layer, which, rounds, seconds)
                        rows.append(row(layer, which, found, limits))
                        report.append({"layer": layer, "pass": which, "found": found})
    finally:
        for worker in workers.values():
            worker.close()
    print(f"\nfloat32, median of {rounds} interleaved rounds; {neighbours}")
    head = [f"{name} {what}" for name in LIBRARIES.values() for what in ("GFLOP/s", "error")]
    print(table(["3 x 3", *head, "npnet / oneDNN", f"of {limits.peak():.0f} GFLOP/s"], rows))
    return report


def run(options):
    print(machine.describe(options.threads))
    limits = measure_limits(options.threads, 0.2 if options.quick else 1.0)
    print(limits)
    about = {"machine": machine.describe(options.threads), "peak": limits.all_cores}
    if not options.skip_layers:
        about["passes"] = passes(options, limits)
    if options.networks:
        about["networks"] = networks.run(options, limits)
    if options.json:
        options.json.write_text(json.dumps(about, indent=1))


def main(argv):
    parser = arguments.parser("convolution", __doc__, rounds=7)
    parser.add_argument("--batch", type=arguments.numbers, default=[32, 128], help="as 32,128")
    arguments.add_pictures(parser)
    parser.add_argument("--skip-layers", action="store_true", help="leave out the layers, pass by pass")
    parser.add_argument(
        "--networks", type=arguments.names, default=["cifar10_cnn", "airbench94"],
        help=f"whole networks, as a,b: {', '.join(networks.NETWORKS)}; \"\" for none",
    )  # fmt: skip
    peers = list(NETWORK_PEERS)
    parser.add_argument(
        "--peers", type=arguments.names, default=peers, help=f"of networks: {', '.join(peers)}"
    )
    run(parser.parse_args(argv))
