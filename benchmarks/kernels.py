"""``python -m benchmarks kernels``: every kernel beside NumPy, MKL and the limits of this machine."""

import json
from contextlib import ExitStack, closing
from importlib.util import find_spec

from npnet.checking.measuring.cases import CASES, LAYERS, PRODUCTS, network_cases
from npnet.checking.measuring.limits import measure_limits
from npnet.checking.measuring.neighbours import Neighbours
from npnet.checking.measuring.timing import calibrated, interleave, median, table

from . import arguments, machine, parts, pictures
from .task import Task
from .worker import Worker

SETS = {"npnet": "npnet", "numpy": "NumPy", "torch": "MKL (torch)"}
UNFUSED = ("npnet", "numpy")
# Where so little is computed that a call counts, or the waking of threads: N, D and M of each case.
FEW_ROWS = [(1, 3072, 512), (2, 3072, 512), (1, 512, 512)]
NUMBERS = [(n, 1, 512) for n in (1, 4, 16, 64)]
LABELS = [(n, 1, 10) for n in (1, 32, 128, 512)]
WEIGHTS = [(1, n, 512) for n in (1, 4, 16, 64)]
SMALL = {
    "dense_forward": [*FEW_ROWS, (1, 512, 10), *((n, n, n) for n in (32, 64, 96, 128))],
    "dense_backward_input": FEW_ROWS,
    "dense_backward_parameters": FEW_ROWS,
    **dict.fromkeys(("relu", "sigmoid", "hyperbolic_tangent", "elu", "gelu"), NUMBERS),
    **dict.fromkeys(
        ("relu_backward", "sigmoid_backward", "hyperbolic_tangent_backward", "elu_backward"), NUMBERS
    ),
    **dict.fromkeys(("softmax_forward", "softmax_backward"), LABELS),
    **dict.fromkeys(("sgd", "sgd_momentum", "rmsprop", "adam"), WEIGHTS),
}
PARTS = ("network", "small", "sweeps", "threads")


class Bench:
    """Workers for the kernel sets that are there, at one number of threads."""

    def __init__(self, threads, rounds, seconds):
        self.rounds, self.seconds = rounds, seconds
        names = [name for name in SETS if name != "torch" or find_spec("torch")]
        self.workers = {name: Worker(name, threads) for name in names}

    def measure(self, case, sizes):
        """Validate, then time: return {set: seconds in each round}. A wrong result ends the benchmark."""
        calls = {}
        for name, worker in self.workers.items():
            if name == "torch" and case not in PRODUCTS:
                continue
            error = worker.ask("kernel", case, case=case, sizes=sizes)
            if not error <= 1:
                raise SystemExit(
                    f"{SETS[name]}: {case} {sizes} is {error:.1f} times as wrong as rounding may be."
                )
            calls[name] = calibrated(worker.stopwatch(case), self.seconds)
        times = interleave(calls, self.rounds)
        for name in calls:
            self.workers[name].ask("forget", case)
        return times

    def sweep(self, case, sizes_of, values):
        """Return {set: GFLOP/s for each value}."""
        curves = {name: [] for name in self.workers}
        for value in values:
            sizes = sizes_of(value)
            for name, times in self.measure(case, sizes).items():
                curves[name].append(CASES[case].flops(*sizes) / median(times) / 1e9)
        return curves

    def close(self):
        """End the workers."""
        for worker in self.workers.values():
            worker.close()


def share_of_limit(limits, seconds, flops, traffic, footprint):
    """Return five cells: GFLOP/s, GB/s, the least time in us, which limit sets it, the share of it."""
    least, limit = limits.least(flops, traffic, footprint)
    speeds = [f"{flops / seconds / 1e9:.0f}", f"{traffic / seconds / 1e9:.0f}"]
    return [*speeds, f"{1e6 * least:.1f}", limit, f"{least / seconds:.0%}"]


SHARE = ["GFLOP/s", "GB/s", "limit us", "set by", "share"]


def network_table(bench, batch, limits):
    """Measure the network's kernels; return the table, the points of the roofline, and the medians."""
    rows, points, medians = [], [], {}
    for title, (case, sizes) in network_cases(batch).items():
        times = bench.measure(case, sizes)
        medians[title] = seconds = {name: median(values) for name, values in times.items()}
        flops, traffic = CASES[case].flops(*sizes), CASES[case].bytes(*sizes)
        footprint = CASES[case].footprint(*sizes)
        each = (f"{1e6 * seconds[name]:.1f}" if name in seconds else "-" for name in SETS)
        rows.append([title, *each, *share_of_limit(limits, seconds["npnet"], flops, traffic, footprint)])
        points += [(name, title, flops / traffic, flops / value / 1e9) for name, value in seconds.items()]
    return table(["", *(f"{name} us" for name in SETS.values()), *SHARE], rows), points, medians


def fused_table(threads, batch, limits, medians, rounds):
    """Measure the parts of a fused step; return the table and the points of the roofline.

    Beside each part stand the unfused kernels that do the same work, added up.
    """
    task = Task(batch, rows=max(512, 4 * batch))
    with closing(Worker("npnet-fused", threads)) as worker:
        worker.ask("train", "step", **task.settings)
        times = max(2, 2048 // batch)
        found = [worker.ask("parts", "step", times=times) for _ in range(rounds)]
    rows, points = [], []
    footprint = 4 * (2 * task.parameters + 2 * batch * sum(task.widths))  # a step goes through all of it
    for i, (part, layer, _) in enumerate(found[0][:-1]):
        seconds = median([measured[i][2] for measured in found])
        flops, traffic = parts.cost(part, layer, task)
        title = (
            part if part.startswith(("gather", "softmax")) else f"{part} {'x'.join(map(str, LAYERS[layer]))}"
        )
        pieces = parts.unfused(part, layer, task)
        sums = (f"{1e6 * sum(medians[p][name] for p in pieces):.1f}" if pieces else "-" for name in UNFUSED)
        rows.append(
            [
                title,
                f"{1e6 * seconds:.1f}",
                *sums,
                *share_of_limit(limits, seconds, flops, traffic, footprint),
            ]
        )
        points.append(("npnet", f"fused {title}", max(flops, 1) / traffic, max(flops, 1) / seconds / 1e9))
    whole = median([measured[-1][2] for measured in found])
    costs = [parts.cost(part, layer, task) for part, layer, _ in found[0][:-1]]
    flops, traffic = (sum(column) for column in zip(*costs, strict=True))
    between = median([measured[-1][2] - sum(part[2] for part in measured[:-1]) for measured in found])
    rows.append(["between kernels", f"{1e6 * between:.1f}", *["-"] * (len(UNFUSED) + len(SHARE))])
    blank = ["-"] * len(UNFUSED)
    rows.append(
        [
            "whole step",
            f"{1e6 * whole:.1f}",
            *blank,
            *share_of_limit(limits, whole, flops, traffic, footprint),
        ]
    )
    head = ["", "npnet us", *(f"unfused {SETS[name]} us" for name in UNFUSED), *SHARE]
    return table(head, rows), [point for point in points if "gather" not in point[1]]


def sweep_table(label, values, curves, peak):
    """Lay out a sweep: GFLOP/s of each set, share of the peak and its ratio to NumPy."""
    rows = []
    for i, value in enumerate(values):
        npnet = curves["npnet"][i]
        each = (f"{curves[name][i]:.1f}" if name in curves else "-" for name in SETS)
        rows.append([value, *each, f"{npnet / peak(value):.0%}", f"{npnet / curves['numpy'][i]:.2f}x"])
    return table([label, *(f"{n} GFLOP/s" for n in SETS.values()), "share of limit", "npnet / NumPy"], rows)


def small_table(benches, most):
    """Measure the cases of ``SMALL``, ``most`` of each, with the threads of each bench.

    Return the table: microseconds and how many times as fast as NumPy.
    """
    rows = []
    for case, all_sizes in SMALL.items():
        for sizes in all_sizes[:most]:
            row = [f"{case} {'x'.join(map(str, sizes))}"]
            for bench in benches.values():
                times = bench.measure(case, sizes)
                npnet, numpy = (1e6 * median(times[name]) for name in UNFUSED)
                row += [f"{npnet:.1f}", f"{numpy:.1f}", f"{numpy / npnet:.2f}x"]
            rows.append(row)
    names = [f"{SETS[name]} us" for name in UNFUSED]
    head = [text for threads in benches for text in (f"{threads} thr. {names[0]}", names[1], "ratio")]
    return table(["", *head], rows)


def powers(first, last, between=False):
    """Return first, 2 first, 4 first ... last; ``between`` adds one and a half times each."""
    values = []
    while first <= last:
        values += [first, first * 3 // 2] if between and first * 3 // 2 <= last and first > 1 else [first]
        first *= 2
    return values


def network(bench, options, limits):
    """Measure, print and draw the network's kernels; return {batch: points of the roofline}."""
    print("\nlimit us: the longer of the arithmetic and of moving each operand and result once")
    result = {}
    for batch in options.batch:
        print(
            f"\nThe network's kernels at batch {batch}, float32: median of {bench.rounds} interleaved rounds"
        )
        text, points, medians = network_table(bench, batch, limits)
        print(text, flush=True)
        print(f"\nA fused step of RMSprop at batch {batch}, part by part: median of {bench.rounds} rounds")
        text, fused_points = fused_table(options.threads, batch, limits, medians, bench.rounds)
        print(text, flush=True)
        result[batch] = points + fused_points
        pictures.roofline(options.out / f"roofline-{batch}.png", result[batch], SETS, limits, batch)
    return result


def sweeps(bench, options, limits):
    """Measure and print the products at growing sizes; return (label, values, speeds, limits) of each."""
    batches = powers(1, 128 if options.quick else 8192)
    widths = powers(64, 256 if options.quick else 4096, between=not options.quick)
    wanted = [
        ("first layer forward, batch", "dense_forward", lambda n: (n, 3072, 512), batches),
        ("first layer gradient, batch", "dense_backward_parameters", lambda n: (n, 3072, 512), batches),
        ("second layer input gradient, batch", "dense_backward_input", lambda n: (n, 512, 512), batches),
        ("square product, width", "dense_forward", lambda n: (n, n, n), widths),
    ]
    result = []
    for label, case, sizes_of, values in wanted:
        found = bench.sweep(case, sizes_of, values)
        print("\n" + sweep_table(label, values, found, lambda _: limits.peak()), flush=True)
        result.append((label, values, found, [limits.peak()] * len(values)))
    return result


def thread_sweep(options, limits, batch, rounds, seconds):
    """Measure the first layer forward at every power of two up to all threads; return a sweep."""
    values, found = sorted({*powers(1, options.threads), options.threads}), {}
    for threads in values:
        with closing(Bench(threads, rounds, seconds)) as bench:
            for name, speeds in bench.sweep("dense_forward", lambda n: (n, 3072, 512), [batch]).items():
                found.setdefault(name, []).extend(speeds)
    label = f"first layer forward at batch {batch}, threads"
    print("\n" + sweep_table(label, values, found, lambda n: limits.peak(threads=n)), flush=True)
    return label, values, found, [limits.peak(threads=n) for n in values]


def run(options):
    print(machine.describe(options.threads))
    limits = measure_limits(options.threads, 0.2 if options.quick else 1.0)
    print(limits)
    effort = (3, 0.005) if options.quick else (options.rounds, 0.03)
    points, curves = {}, []
    with Neighbours() as neighbours, ExitStack() as opened:
        bench = opened.enter_context(closing(Bench(options.threads, *effort)))
        if "network" in options.parts:
            points = network(bench, options, limits)
        if "small" in options.parts:
            benches = {options.threads: bench}
            if options.threads > 1:
                benches[1] = opened.enter_context(closing(Bench(1, *effort)))
            print("\nFew numbers: N x D x M, float32, how many times as fast as NumPy")
            print(small_table(benches, 1 if options.quick else None), flush=True)
        if "sweeps" in options.parts:
            curves += sweeps(bench, options, limits)
        if "threads" in options.parts:
            curves += [thread_sweep(options, limits, batch, *effort) for batch in (32, 2048)]
    print(f"\n{neighbours}.")
    if curves:
        pictures.curves(options.out / "kernels.png", curves, SETS)
    print(f"Pictures are in {options.out}.")
    if options.json:
        result = {
            "machine": machine.describe(options.threads),
            "peak": limits.all_cores,
            "GB/s": limits.bandwidths,
            "network": points,
            "sweeps": {label: {"at": values, **found} for label, values, found, _ in curves},
        }
        options.json.write_text(json.dumps(result, indent=1))


def main(argv):
    parser = arguments.parser("kernels", __doc__, rounds=5)
    arguments.add_pictures(parser)
    parser.add_argument("--batch", type=arguments.numbers, default=[32, 512], help="of the network's kernels")
    parser.add_argument("--parts", type=arguments.names, default=PARTS, help=f"of {','.join(PARTS)}")
    run(parser.parse_args(argv))
