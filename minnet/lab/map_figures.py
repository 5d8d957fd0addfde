"""Figures of phase maps, drawn with matplotlib (extra `plot`), without pyplot: no display, no global state."""

import numpy as np

from minnet._checks import bad_value, optional_module
from minnet.lab.figures import COLORS
from minnet.lab.losses import LOSSES

__all__ = ["draw_map", "draw_summary"]

POINTS = 1000  # along an axis: no figure has more pixels
NAMES = {
    "w": "weight w",
    "b": "bias b",
    "z0": "starting logit z",
    "x": "input x",
    "y": "target y",
    "lr": "learning rate",
}
EXTREMES = {"bad": "0.85", "under": "white"}  # colours of those that never learn, and that start at their target
SHARE = 0.03  # of the picture, at least, between two contours: closer ones cannot be told apart


def draw_map(result):
    """Epochs to learn of a `PhaseMap`, and the law of small steps: see `PhaseMap.plot`."""
    axes = len(result.axes)
    if axes not in (1, 2):
        rule = "a map must have one or two axes to be drawn"
        raise bad_value("PhaseMap.plot", rule, list(result.axes), "give the other parameters as numbers")
    return _draw_curves(result) if axes == 1 else _draw_pictures(result)


def draw_summary(result):
    """The share of neurons that have learned against epochs, of a `MapSummary`."""
    figure, ax = _figure(6.4, 4.2)
    for i, loss in enumerate(result.losses):
        learned = np.cumsum(result.counts[i, :-1]) / result.neurons
        ax.step(np.arange(len(learned)), 100 * learned, where="post", label=LOSSES[loss].title, **_style(loss, i))
    ax.set(xlabel="epoch", ylabel="neurons that have learned, %", xscale="symlog", ylim=(0, 101))
    ax.set_xlim(0, max(result.epochs_run, 1))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(frameon=False)
    figure.suptitle(f"{result.neurons:,} neurons, {_said(result)}", fontsize="medium")
    return figure


# ---- two axes: pictures ----


def _draw_pictures(result):
    figure, panels = _figure(1.6 + 4.3 * len(result.losses), 4.9, columns=len(result.losses))
    shown = result.thinned(POINTS)
    (across, xs), (up, ys) = shown.axes.items()
    norm, laws = _norm(shown), shown.law()
    colors = optional_module("PhaseMap.plot", "matplotlib", "plot").colormaps["viridis_r"].with_extremes(**EXTREMES)
    for i, (loss, ax) in enumerate(zip(result.losses, np.atleast_1d(panels), strict=True)):
        epochs = np.maximum(shown.epochs[i].T, 0.5)  # 0, with a logarithm, and below the colours
        picture = ax.pcolormesh(xs, ys, epochs, norm=norm, cmap=colors, shading="nearest", rasterized=True)
        _draw_levels(ax, xs, ys, laws[i].T, result.epochs_run)
        never = f"{result.never[i]:.1%} not" if result.never[i] else "all"
        ax.set(title=f"{LOSSES[loss].title}: {never} within {result.epochs_run} epochs", xlabel=NAMES[across])
        for values, scale in ((xs, ax.set_xscale), (ys, ax.set_yscale)):
            if _is_geometric(values):
                scale("log")
    np.atleast_1d(panels)[0].set_ylabel(NAMES[up])
    label = f"epochs to learn  (white: 0, grey: not within {result.epochs_run})"
    bar = figure.colorbar(picture, ax=panels, label=label, pad=0.02)
    bar.ax.yaxis.set_major_formatter("{x:g}")
    lines = "; lines: the law of small steps" if np.isfinite(laws).any() else ""
    figure.suptitle(f"One neuron a point, {_said(result)}{lines}", fontsize="medium")
    return figure


def _norm(result):
    """One scale of colours for all pictures: logarithmic if epochs differ by more than a factor of 30."""
    colors = optional_module("PhaseMap.plot", "matplotlib.colors", "plot")
    learned = result.epochs[result.epochs > 0]
    wide = learned.size and 30 * np.quantile(learned, 0.05) < result.epochs_run
    return (colors.LogNorm if wide else colors.Normalize)(1, max(result.epochs_run, 2))


def _draw_levels(ax, xs, ys, law, epochs_run):
    """Contours of the law, with their epochs, in lines that can be seen on light and on dark."""
    if len(xs) < 2 or len(ys) < 2 or not np.isfinite(law).all():
        return
    levels = _levels(law, epochs_run)
    if levels:
        effects = optional_module("PhaseMap.plot", "matplotlib.patheffects", "plot")
        outline = [effects.withStroke(linewidth=2.4, foreground="0.15")]
        contours = ax.contour(xs, ys, law, levels, colors="white", linewidths=1.1)
        contours.set_path_effects(outline)
        lines = [max(line, key=len) for line in contours.allsegs if line]
        middles = [line[len(line) // 2] for line in lines]
        for text in ax.clabel(contours, fmt="%d", fontsize=9, colors="white", manual=middles):
            text.set_path_effects(outline)


def _levels(law, epochs_run):
    """Round numbers of epochs, from `epochs_run` down, with enough of the picture between them."""
    round_numbers = [n * 10**power for power in range(9) for n in (1, 2, 5) if n * 10**power < 0.99 * epochs_run]
    levels = []
    for n in [epochs_run, *reversed(round_numbers)]:
        above = levels[0] if levels else np.inf
        if min(np.mean((law >= n) & (law < above)), np.mean((law > 0) & (law < n))) > SHARE:
            levels.insert(0, n)
    return levels


# ---- one axis: curves ----


def _draw_curves(result):
    figure, ax = _figure(6.4, 4.6)
    ((name, values),) = result.axes.items()
    for i, loss in enumerate(result.losses):
        ax.plot(values, result.epochs[i], label=LOSSES[loss].title, **_style(loss, i) | {"linewidth": 3, "alpha": 0.6})
    for law in result.law():
        ax.plot(values, law, "k--", linewidth=0.9)
    ax.plot([], [], "k--", linewidth=0.9, label="law of small steps")
    ax.axhline(result.epochs_run, color="0.6", linewidth=0.8, label="epochs that were run")
    ax.set(xlabel=NAMES[name], ylabel="epochs to learn", yscale="log", ylim=(1, 30 * max(result.epochs_run, 1)))
    if _is_geometric(values):
        ax.set_xscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.legend(frameon=False)
    figure.suptitle(f"One neuron a point, {_said(result)}", fontsize="medium")
    return figure


# ---- both ----


def _figure(width, height, columns=1):
    module = optional_module("PhaseMap.plot", "matplotlib.figure", "plot")
    figure = module.Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(1, columns, sharey=True)
    for ax in np.atleast_1d(panels):
        ax.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _style(loss, i):
    return {"color": COLORS.get(loss, f"C{i}"), "linewidth": 1.8}


def _said(result):
    """What holds for all neurons alike."""
    fixed = {name: value for name, value in result.parameters.items() if name not in result.axes and name != "lr"}
    rate = [] if "lr" in result.axes else [f"learning rate {result.parameters['lr']:g}"]
    values = [f"{'z' if name == 'z0' else name} = {value:g}" for name, value in fixed.items()]
    return ", ".join([*values, *rate, f"learned: |a - y| < {result.threshold:g}"])


def _is_geometric(values):
    """Whether values over more than a decade grow by about the same factor."""
    if len(values) < 3 or values.min() <= 0 or values[-1] < 10 * values[0]:
        return False
    steps = np.diff(np.log(values))
    return bool(np.ptp(steps) < 1e-6 * steps.mean())
