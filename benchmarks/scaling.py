"""``python -m benchmarks scaling``: what a step costs as batch, width, depth and threads grow."""

import json
from contextlib import closing

from npnet.checking.measuring.limits import measure_limits
from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import calibrated, interleave, median, table

from . import arguments, machine, pictures
from .kernels import powers
from .task import OPTIMIZERS, Task
from .worker import Worker

ODD_WIDTHS = [96, 100, 128, 288, 300, 320, 768, 784, 800, 992, 1000, 1024]  # with multiples of 32 beside them


def sweeps(quick):
    """Return {quantity: {value: task}}, each starting from the tutorial's network at batch 32.

    Of odd widths are all layers of a network, its input too, at batch 128.
    """
    batches = powers(1, 256 if quick else 8192)
    widths = powers(64, 512 if quick else 8192)
    depths = powers(1, 4 if quick else 64)
    odd = ODD_WIDTHS[:2] if quick else ODD_WIDTHS
    return {
        "batch": {n: ((3072, 512, 512, 10), n) for n in batches},
        "width": {m: ((3072, m, m, 10), 32) for m in widths},
        "odd width": {m: ((m, m, m, m, 10), 128) for m in odd},
        "depth": {k: ((3072, *[512] * k, 10), 32) for k in depths},
    }


def make_task(widths, batch, optimizer):
    return Task(batch, optimizer, widths, rows=max(512, 2 * batch))


def measure(worker, tasks, rounds, seconds):
    """Return {value: milliseconds of a step in each round}, rounds over all values interleaved."""
    calls = {}
    for value, task in tasks.items():
        worker.ask("train", value, **task.settings)
        calls[value] = calibrated(worker.stopwatch(value), seconds)
    times = interleave(calls, rounds)
    for value in tasks:
        worker.ask("forget", value)
    return {value: [1e3 * t for t in found] for value, found in times.items()}


def steps_table(quantity, tasks, times, peak):
    """Lay out what a step costs, what a sample costs, and how near the arithmetic comes to the limit."""
    rows = []
    for value, task in tasks.items():
        ms = median(times[value])
        limit = task.flops / peak(value) / 1e6
        rows.append(
            [
                value,
                f"{task.parameters / 1e6:.2f}",
                f"{ms:.3f}",
                f"{min(times[value]):.3f}",
                f"{1e3 * ms / task.batch:.1f}",
                f"{task.flops / ms / 1e6:.0f}",
                f"{limit:.3f}",
                f"{limit / ms:.0%}",
            ]
        )
    head = [quantity, "M weights", "ms/step", "min", "us/sample", "GFLOP/s", "limit ms", "share of limit"]
    return table(head, rows)


def thread_tasks(options, batch, effort):
    """Return the tasks and times of the tutorial's network at every power of two of threads."""
    task, times = make_task((3072, 512, 512, 10), batch, options.optimizer), {}
    for threads in sorted({*powers(1, options.threads), options.threads}):
        with closing(Worker("npnet-fused", threads)) as worker:
            times[threads] = measure(worker, {0: task}, *effort)[0]
    return dict.fromkeys(times, task), times


def widest_of_a_gigabyte(bytes_a_weight):
    """Return the m of the network 3072-m-m-10 whose training takes a GB: m^2 + 3084 m + 10 weights."""
    weights = 1e9 / bytes_a_weight
    return int(-1542 + (1542**2 + weights - 10) ** 0.5)


def memory_line(options, task):
    """Say what memory training a network takes, and which network takes a GB."""
    with closing(Worker("npnet-fused", options.threads)) as worker:
        worker.ask("train", "widest", **task.settings)
        grown = worker.ask("memory", "widest")
    if grown is None:
        return "This system does not tell how much memory a process has used."
    # Beside the network the worker holds the task's initial weights and its data.
    grown -= 4 * (task.parameters + task.rows * (task.widths[0] + task.widths[-1]))
    each = grown / task.parameters
    widest = widest_of_a_gigabyte(each)
    return (
        f"{task.parameters / 1e6:.1f} million weights train in {grown / 1e6:,.0f} MB:"
        f" {each:.1f} bytes a weight.\n"
        f"A GB trains {1e3 / each:.0f} million weights, 3072-{widest}-{widest}-10."
    )


def run(options):
    print(machine.describe(options.threads))
    limits = measure_limits(options.threads, 0.2 if options.quick else 1.0)
    print(limits)
    effort = (3, 0.01) if options.quick else (options.rounds, 0.1)
    print(f"\n3072-512-512-10 at batch 32, {options.optimizer}, float32, one quantity varied at a time;")
    print(f"median of {effort[0]} interleaved rounds; the limit is that of the multiply-adds")
    results, panels = {}, []

    def show(quantity, tasks, times, peak):
        print("\n" + steps_table(quantity, tasks, times, peak), flush=True)
        floors = [task.flops / peak(value) / 1e6 for value, task in tasks.items()]
        panels.append((quantity, list(tasks), [median(times[value]) for value in tasks], floors))
        results[quantity] = times

    with Neighbours() as neighbours:
        with closing(Worker("npnet-fused", options.threads)) as worker:
            for quantity, variants in sweeps(options.quick).items():
                tasks = {value: make_task(*variant, options.optimizer) for value, variant in variants.items()}
                show(quantity, tasks, measure(worker, tasks, *effort), lambda _: limits.peak())
                if quantity == "width":
                    print("\n" + memory_line(options, list(tasks.values())[-1]), flush=True)
        for batch in (32, 2048):
            tasks, times = thread_tasks(options, batch, effort)
            show(f"threads at batch {batch}", tasks, times, lambda n: limits.peak(threads=n))
    print(f"\n{neighbours}.")
    pictures.costs(options.out / "scaling.png", panels)
    print(f"The picture is {options.out / 'scaling.png'}.")
    if options.json:
        report = {"machine": machine.describe(options.threads), "peak": limits.all_cores, "ms": results}
        options.json.write_text(json.dumps(report, indent=1))


def main(argv):
    parser = arguments.parser("scaling", __doc__, rounds=5)
    arguments.add_pictures(parser)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="rmsprop")
    run(parser.parse_args(argv))
