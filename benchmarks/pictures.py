"""The pictures of the benchmarks: a roofline and curves."""

COLORS = {"npnet": "#d1495b", "numpy": "#66809a", "torch": "#2e4057"}


def _figure(path, columns, rows, title):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    size = 5.5 * columns, 4 * rows
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.suptitle(title)
    return figure, axes.ravel()


def _save(figure, path):
    from matplotlib import pyplot

    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _binary_axis(axis, values):
    """Mark the powers of two among ``values`` on a logarithmic axis."""
    axis.set_xscale("log", base=2)
    marks = [value for value in values if value & (value - 1) == 0]
    axis.set_xticks(marks, [str(value) for value in marks], fontsize=7)
    axis.minorticks_off()


def roofline(path, points, labels, limits, batch):
    """Draw GFLOP/s over operations per byte under the roof of the two limits (Williams et al. 2009).

    ``points`` are (set, title, operations per byte, GFLOP/s).
    """
    import numpy as np

    figure, (axis,) = _figure(path, 1, 1, f"Kernels of 3072-512-512-10 at batch {batch}, float32")
    figure.set_size_inches(11, 6)
    intensities = [point[2] for point in points]
    slowest = min(limits.bandwidths.values())
    x = np.geomspace(min(intensities) / 2, max(max(intensities), limits.peak() / slowest) * 2, 200)
    for (size, rate), style in zip(limits.bandwidths.items(), (":", "-.", "--", "-"), strict=False):
        roof = np.minimum(limits.peak(), x * rate)
        axis.plot(x, roof, style, color="black", label=f"{rate:.0f} GB/s in {size / 2**20:g} MiB")
    fastest = max(limits.bandwidths.values())
    axis.text(limits.peak() / fastest, limits.peak() * 1.05, f"{limits.peak():.0f} GFLOP/s", va="bottom")
    if limits.matrix_unit:
        height = limits.matrix_unit[1]
        axis.hlines(height, height / fastest, x[-1], color="gray", linestyle="--")
        axis.text(height / fastest, height * 1.05, f"{height:.0f} on matrix units", va="bottom", color="gray")
    for name, label in labels.items():
        mine = [point for point in points if point[0] == name]
        if mine:
            axis.plot(*zip(*[point[2:] for point in mine], strict=True), "o", color=COLORS[name], label=label)
    titles = list(dict.fromkeys(point[1] for point in points))
    key = "\n".join(f"{i + 1:2}  {title.replace('_', ' ')}" for i, title in enumerate(titles))
    axis.text(1.02, 1, key, transform=axis.transAxes, va="top", fontsize=8, family="monospace")
    axis.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="GFLOP/s")
    axis.legend(loc="lower right")
    axis.grid(alpha=0.3, which="both")
    figure.draw_without_rendering()  # places are final now
    numbered = [(titles.index(title) + 1, *place) for name, title, *place in points if name == "npnet"]
    number_points(axis, numbered, [point[2:] for point in points])
    _save(figure, path)


def number_points(axis, numbered, drawn):
    """Write each (number, x, y) beside its point, as near as it can be and cover nothing of ``drawn``."""
    away, wide, high = 16, 14, 10  # of numbers, in points of paper

    def on_paper(places):
        return axis.transData.transform(places) * 72 / axis.figure.dpi

    taken = [tuple(place) for place in on_paper(drawn)]
    ways = [(side, up) for level in range(200) for side in (away, -away) for up in (-level, level)]
    for number, *place in sorted(numbered, key=lambda point: -point[2]):
        x, y = on_paper([place])[0]
        side, up = next(
            (side, up)
            for side, up in ways
            if not any(abs(x + side - at) < wide and abs(y + up - level) < high for at, level in taken)
        )
        taken.append((x + side, y + up))
        axis.annotate(
            number, place, (side, up), textcoords="offset points",
            ha="center", va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "color": COLORS["npnet"], "linewidth": 0.5, "shrinkA": 0},
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip


def curves(path, sweeps, labels):
    """Draw one panel per sweep: (label, values, {set: GFLOP/s}, the limit at each value)."""
    figure, axes = _figure(path, 2, -(-len(sweeps) // 2), "Kernels, float32")
    for axis, (label, values, found, limit) in zip(axes, sweeps, strict=False):
        title, quantity = label.rsplit(", ", 1)
        axis.plot(values, limit, color="black", linestyle="--", label="multiply-adds")
        for name, speeds in found.items():
            axis.plot(values, speeds, "o-", markersize=3, color=COLORS[name], label=labels[name])
        _binary_axis(axis, values)
        axis.set(title=title, xlabel=quantity, ylabel="GFLOP/s", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend()
    for axis in axes[len(sweeps) :]:
        axis.set_visible(False)
    _save(figure, path)


def bars(path, panels):
    """Draw one panel for each of (title, {label: milliseconds of each round}, milliseconds at the limit)."""
    import numpy as np

    figure, axes = _figure(path, 2, -(-len(panels) // 2), "Convolutional networks, float32")
    for axis, (title, found, floor) in zip(axes, panels, strict=False):
        quartiles = np.array([np.percentile(times, (25, 50, 75)) for times in found.values()])
        low, middle, high = quartiles.T
        colors = [COLORS["npnet" if label.startswith("npnet") else "numpy"] for label in found]
        axis.barh(list(found), middle, xerr=(middle - low, high - middle), color=colors)
        axis.axvline(floor, color="black", linestyle="--", label="limit of direct convolution")
        axis.invert_yaxis()
        axis.set(title=title, xlabel="ms")
    axes[0].legend()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    _save(figure, path)


def costs(path, panels):
    """Draw one panel per quantity: (name, values, milliseconds, milliseconds at the limit)."""
    figure, axes = _figure(path, 2, -(-len(panels) // 2), "A training step of npnet")
    for axis, (name, values, times, floors) in zip(axes, panels, strict=False):
        axis.plot(values, floors, "--", color="black", label="limit of multiply-adds")
        axis.plot(values, times, "o-", color=COLORS["npnet"], label="npnet")
        _binary_axis(axis, values)
        axis.set(xlabel=name, ylabel="ms per step", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].legend()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    _save(figure, path)
