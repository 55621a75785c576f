"""``python -m benchmarks training``: a training step of npnet and of every peer, and ``model.fit`` itself."""

import json
from importlib.util import find_spec

import numpy as np

from npnet.checking.measuring.limits import measure_limits
from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import calibrated, interleave, median, table

from . import arguments, fit, isa, machine, reference
from .peers import PEERS
from .task import DTYPES, OPTIMIZERS, SAMPLES, Task
from .worker import Worker, WorkerError

CHECKED_STEPS = 20
# Of the loss; two forms of RMSprop differ by 1e-3 to 2e-3, a flipped relu by 1e-4, rounding to bfloat16 by up
# to 8e-4.
TOLERANCE = {"float32": 5e-4, "mixed_bfloat16": 2e-3}


def installed(names):
    """Split ``names`` into peers that can run and {name: what is missing}."""
    missing = {name: [p for p in PEERS[name].packages if not find_spec(p)] for name in names}
    return [n for n in names if not missing[n]], {n: packages for n, packages in missing.items() if packages}


def start_workers(names, threads, say=print, dtype="float32"):
    """Start a process for every peer that is installed and computes in ``dtype``; say which are left out."""
    able, missing = installed(names)
    for name, packages in missing.items():
        say(f"{PEERS[name].label} is left out; not installed: {', '.join(packages)}.")
    for name in able:
        if dtype not in PEERS[name].dtypes:
            say(f"{PEERS[name].label} is left out: it has no {dtype}.")
    return {name: Worker(name, threads) for name in able if dtype in PEERS[name].dtypes}


def validated(workers, task, say=print):
    """Prepare the workers for ``task`` and return {name: label} of those whose losses are right.

    Losses are compared with the textbook's in float64, trained by the same formula.
    """
    truths, labels = {}, {}
    for name, worker in workers.items():
        try:
            about = worker.ask("train", "task", **task.settings)
            losses = np.array(worker.ask("losses", "task", steps=CHECKED_STEPS))
        except WorkerError as error:
            say(f"{PEERS[name].label} is left out, it failed: {error}")
            continue
        formula = about["formula"]
        if formula not in truths:
            truths[formula] = np.array(reference.losses(task, formula, CHECKED_STEPS))
        worst = np.abs(losses / truths[formula] - 1).max()
        is_right = worst <= TOLERANCE[task.dtype]
        verdict = "agrees" if is_right else "DISAGREES and is not timed"
        say(f"  {about['label']:22} {worst:8.1e}  {verdict}  [{formula}]")
        if is_right:
            labels[name] = about["label"]
    return labels


def timed(workers, names, task, rounds, seconds):
    """Return {name: milliseconds per step in each round}, rounds of all peers interleaved."""
    calls = {}
    for name in names:
        measure = calibrated(workers[name].stopwatch("task"), seconds, most=4 * task.batches)
        calls[name] = lambda measure=measure: 1e3 * measure()
    return interleave(calls, rounds)


def steps_table(task, limits, labels, times):
    """Lay out milliseconds, ratio to the best peer, and how near the arithmetic comes to the limit."""
    medians = {name: median(values) for name, values in times.items()}
    peers = {name: value for name, value in medians.items() if not name.startswith("npnet")}
    best = min(peers.values()) if peers else None
    rows = []
    for name, value in medians.items():
        speed = task.flops / value / 1e6
        rows.append(
            [
                labels[name],
                f"{value:.3f}",
                f"{min(times[name]):.3f}",
                f"{max(times[name]):.3f}",
                f"{best / value:.2f}x" if best else "-",
                f"{speed:.0f}",
                f"{speed / limits.peak():.0%}",
            ]
        )
    return table(
        ["", "ms/step", "min", "max", "best peer / it", "GFLOP/s", f"of {limits.peak():.0f} GFLOP/s"], rows
    )


def run(options):
    print(machine.describe(options.threads))
    limits = measure_limits(options.threads)
    print(limits)
    workers = start_workers(options.peers, options.threads, dtype=options.dtype)
    results = []
    try:
        for batch in options.batch:
            task = Task(
                batch, options.optimizer, tuple(options.widths), options.rows, dtype=options.dtype,
                samples=options.samples,
            )  # fmt: skip
            shape = "-".join(map(str, task.widths))
            print(
                f"\n{shape}, {options.optimizer}, {task.dtype}, {task.samples}, batch {batch}: "
                f"{task.flops / 1e6:.1f} MFLOP a step, "
                f"{task.flops / limits.peak() / 1e6:.2f} ms at the limit of multiply-adds"
            )
            print(
                f"losses of {CHECKED_STEPS} steps against the textbook in float64"
                f" ({TOLERANCE[task.dtype]:.0e} allowed)"
            )
            labels = validated(workers, task)
            with Neighbours([worker.cpu_time for worker in workers.values()]) as neighbours:
                times = timed(workers, labels, task, options.rounds, options.seconds)
            print(f"\nmedian of {options.rounds} interleaved rounds; {neighbours}")
            print(steps_table(task, limits, labels, times), flush=True)
            results.append({**task.settings, "ms": times, "flops": task.flops})
    finally:
        for worker in workers.values():
            worker.close()
    about_fit = None if options.skip_fit else fit.report(options.threads)
    if options.json:
        about = machine.describe(options.threads)
        report = {"machine": about, "peak": limits.all_cores, "steps": results, "fit": about_fit}
        options.json.write_text(json.dumps(report, indent=1))


def main(argv):
    parser = arguments.parser("training", __doc__, rounds=15)
    parser.add_argument("--batch", type=arguments.numbers, default=[32, 128, 512, 2048], help="as 32,128")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="rmsprop")
    parser.add_argument("--seconds", type=float, default=0.4, help="of training per peer and round")
    parser.add_argument("--rows", type=int, default=8192, help="samples of the made-up data set")
    parser.add_argument("--widths", type=arguments.numbers, default=[3072, 512, 512, 10])
    parser.add_argument("--peers", type=arguments.names, default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--skip-fit", action="store_true", help="leave out the section on model.fit")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="a policy, of everyone")
    parser.add_argument("--samples", choices=SAMPLES, default="pixels", help="bytes / 255, or any numbers")
    parser.add_argument("--isa", choices=isa.SWITCHES, help="hold everyone to this instruction set")
    options = parser.parse_args(argv)
    if options.isa:
        isa.hold(options.isa, "training", argv)
    run(options)
