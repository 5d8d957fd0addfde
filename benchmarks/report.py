"""What a reader sees: the table, the lines below it, and the bar chart. Losses are marked, never left out."""

import os
import platform
import time
from pathlib import Path

from benchmarks import results

HEADER = ("case", "size", "dtype", "minnet", "best peer", "", "peer / minnet", "minnet / memcpy", "spread")


def machine():
    """What the figures were measured on, for the JSON file and for the table's heading."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def cpu_model(path="/proc/cpuinfo"):
    """The name of the CPU: from `path` on Linux, else what Python's platform module knows."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


# ---- text ----


def text(about, run):
    """The whole report of a run, as lines."""
    versions = ", ".join(f"{library} {version}" for library, version in run["versions"].items())
    cores = "1 core" if about["cores"] == 1 else f"{about['cores']} cores"
    heading = f"threads: {run['threads']}{' (pinned to one CPU)' if run['pinned'] else ''}"
    yield f"{heading}; {about['cpu']}, {cores}; {about['system']}; {about['date']}"
    yield f"Python {about['python']}, {versions}"
    yield ""
    yield from table([HEADER, *(row(record) for record in run["cases"])])
    yield ""
    yield from remarks(run)


def row(record):
    """The cells of one case."""
    times, best = record["times"], record["best_peer"]
    ours = times.get(results.OURS)
    shown = [time for name, time in times.items() if name in (results.OURS, best)]
    return (
        record["name"],
        record["size"],
        record["dtype"],
        duration(ours["median"]) if ours else "none",
        best or "none",
        duration(times[best]["median"]) if best else "",
        verdict(record["ratio"]),
        f"{record['ratio_to_memcpy']:.2f}" if ours else "",
        f"{max((time['spread'] for time in shown), default=0):.0%}{' BUSY' if results.is_disturbed(record) else ''}",
    )


def verdict(ratio):
    """A ratio in words short enough for a table."""
    if ratio is None:
        return ""
    return f"{ratio:.2f} SLOWER" if ratio < 1 else f"{ratio:.2f}"


def duration(seconds):
    """Three digits and a unit."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:#.3g} {unit}".replace(". ", " ")
    return f"{seconds / 1e-9:.0f} ns"


def table(rows):
    """Lines of cells in columns, the first row underlined."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for cells in [rows[0], ["-" * width for width in widths], *rows[1:]]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def remarks(run):
    """What the table does not say: how many losses, who was left out and why, how noisy it was."""
    compared = [record for record in run["cases"] if record["ratio"] is not None]
    yield f"minnet is slower than the best peer in {len(results.losses(compared))} of {len(compared)} cases."
    for record in run["cases"]:
        for name, reason in record["excluded"].items():
            yield f"Left out of {record['name']} {record['size']} {record['dtype']}: {name}: {reason}"
    for record in run["cases"]:
        if {results.OURS, results.LIMIT} <= set(record["times"]):
            ours, products = (record["times"][name]["median"] for name in (results.OURS, results.LIMIT))
            share = f"{duration(products)}, {products / ours:.0%} of minnet's time"
            yield f"The matrix products of {label(record)} {record['dtype']} alone, by numpy: {share}"
    if run["missing"]:
        yield "Not measured: " + "; ".join(run["missing"])
    spreads = run["noise"]
    if results.is_noisy(spreads):
        yield (
            f"WARNING, a noisy machine: median spread {spreads['memcpy']:.1%} for memcpy, "
            f"{spreads['all']:.1%} over all (quiet: at most {results.NOISY:.0%}). Read these ratios with care."
        )
    disturbed = sum(map(results.is_disturbed, run["cases"]))
    if disturbed:
        yield f"WARNING, a busy machine: other processes took part of a CPU in {disturbed} cases, marked BUSY."


# ---- bar chart ----

COLOURS = {"float32": "#3b6ea5", "float64": "#9fb8d3"}


def plot(about, runs, path):
    """Bars of best peer / minnet on a logarithmic axis, one panel a number of threads; from 1 left is slower."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(label(record) for run in runs for record in run["cases"]))
    figure = Figure(figsize=(1.5 + 4.5 * len(runs), 1.8 + 0.42 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(runs), sharex=True, sharey=True, squeeze=False)[0]
    for panel, run in zip(panels, runs, strict=True):
        draw(panel, run, labels)
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower right", ncols=len(names), frameon=False)
    figure.suptitle(f"minnet {runs[0]['versions']['minnet']} beside the fastest peer, {about['cpu']}")
    figure.savefig(path, dpi=120)


def label(record):
    """The tick label of a case."""
    return f"{record['name']} {record['size']}"


def draw(panel, run, labels):
    """The bars of one run, each with its ratio and the name of the peer at its end."""
    compared = [record for record in run["cases"] if record["ratio"] is not None]
    dtypes = list(dict.fromkeys(record["dtype"] for record in compared))
    height = 0.8 / max(len(dtypes), 1)
    for record in compared:
        ratio, shift = record["ratio"], (dtypes.index(record["dtype"]) - (len(dtypes) - 1) / 2) * height
        at = labels.index(label(record)) + shift
        loss = {"edgecolor": "#c0392b", "hatch": "////"} if ratio < 1 else {}
        panel.barh(at, ratio - 1, height * 0.9, left=1, color=COLOURS[record["dtype"]], **loss)
        note = f" {ratio:.2f} {record['best_peer']} "
        panel.text(max(ratio, 1), at, note, va="center", fontsize=6.5)
    for dtype in dtypes:
        panel.barh(0, 0, left=1, color=COLOURS[dtype], label=dtype)
    panel.axvline(1, color="black", linewidth=1)
    set_axis(panel, [record["ratio"] for record in compared])
    panel.set_title("1 thread" if run["threads"] == 1 else f"{run['threads']} threads", fontsize=10)


def set_axis(panel, ratios):
    """A logarithmic axis with plain numbers, with room on the right for the notes."""
    panel.set_xscale("log")
    panel.set_xlim(min([0.5, *(0.8 * ratio for ratio in ratios)]), 3 * max([2, *ratios]))
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if panel.get_xlim()[0] <= tick]
    panel.set_xticks([tick for tick in ticks if tick <= panel.get_xlim()[1]])
    panel.xaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    panel.set_xlabel("time of the fastest peer / time of minnet", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
