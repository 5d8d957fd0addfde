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
NEVER = "#d9d9d9"


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
    steps = tuple(slice(None, None, -(-n // POINTS)) for n in result.grid.shape)
    (across, xs), (up, ys) = (
        (name, values[step]) for (name, values), step in zip(result.axes.items(), steps, strict=True)
    )
    norm = optional_module("PhaseMap.plot", "matplotlib.colors", "plot").LogNorm(1, max(result.epochs_run, 2))
    summary = result.summary()
    laws = result.law()[(slice(None), *steps)]
    for i, (loss, ax) in enumerate(zip(result.losses, np.atleast_1d(panels), strict=True)):
        epochs = np.maximum(result.epochs[(i, *steps)].T, 1)  # 0, a start at the target, has the colour of 1
        picture = ax.pcolormesh(xs, ys, epochs, norm=norm, cmap="viridis_r", shading="nearest", rasterized=True)
        ax.set_facecolor(NEVER)
        _draw_levels(ax, xs, ys, laws[i].T, result.epochs_run)
        never = f"{summary.never[i]:.1%} never learn" if summary.never[i] else "all learn"
        ax.set(title=f"{LOSSES[loss].title}: {never}", xlabel=NAMES[across])
        for values, scale in ((xs, ax.set_xscale), (ys, ax.set_yscale)):
            if _is_geometric(values):
                scale("log")
    np.atleast_1d(panels)[0].set_ylabel(NAMES[up])
    bar = figure.colorbar(picture, ax=panels, label=f"epochs to learn (grey: more than {result.epochs_run})", pad=0.02)
    bar.ax.yaxis.set_major_formatter("{x:g}")
    lines = "; lines: the law of small steps" if np.isfinite(laws).any() else ""
    figure.suptitle(f"One neuron a point, {_said(result)}{lines}", fontsize="medium")
    return figure


def _draw_levels(ax, xs, ys, law, epochs_run):
    """Contours of the law, with their epochs, in lines that can be seen on light and on dark."""
    if len(xs) < 2 or len(ys) < 2 or not np.isfinite(law).all():
        return
    effects = optional_module("PhaseMap.plot", "matplotlib.patheffects", "plot")
    levels = [n for n in _round_numbers(epochs_run) if law.min() < n < law.max()]
    if levels:
        contours = ax.contour(xs, ys, law, levels, colors="white", linewidths=1.1)
        contours.set_path_effects([effects.withStroke(linewidth=2.4, foreground="0.15")])
        for label in ax.clabel(contours, fmt="%d", fontsize=9, colors="white"):
            label.set_path_effects([effects.withStroke(linewidth=2.4, foreground="0.15")])


def _round_numbers(top):
    """1, 3, 10, 30 ... up to `top`, which is among them."""
    numbers = [n for power in range(9) for n in (10**power, 3 * 10**power) if n < 0.99 * top]
    return [*numbers, top]


# ---- one axis: curves ----


def _draw_curves(result):
    figure, ax = _figure(6.4, 4.6)
    ((name, values),) = result.axes.items()
    for i, loss in enumerate(result.losses):
        style = _style(loss, i)
        ax.plot(values, result.epochs[i], label=LOSSES[loss].title, **style)
        if np.isfinite(result.law()[i]).any():
            ax.plot(values, result.law()[i], label="its law of small steps", **style | {"linestyle": ":"})
    ax.axhline(result.epochs_run, color="0.6", linewidth=0.8)
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
