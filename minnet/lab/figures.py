"""Figures of the lab, drawn with matplotlib (extra `plot`), without pyplot: no display, no global state."""

from minnet._checks import optional_module
from minnet.lab.losses import LOSSES

__all__ = ["draw_networks", "draw_neurons"]

COLORS = {"mse": "#c44e52", "bce": "#4c72b0", "mae": "#dd8452", "quartic": "#8172b3", "cross_entropy": "#55a868"}
TITLES = {name: loss.title for name, loss in LOSSES.items()} | {"cross_entropy": "softmax, cross-entropy"}
STYLES = ("-", "--", ":", "-.")


def draw_neurons(runs):
    """Cost and output against epochs, and the paths of (w, b): one column a loss, one line style a start.

    Parameters
    ----------
    runs : list of NeuronRun

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes, names = _grid(runs, rows=3, height=8.5)
    starts = list(dict.fromkeys((run.w[0], run.b[0]) for run in runs))
    for column, name in enumerate(names):
        cost, output, path = axes[:, column]
        for run in (run for run in runs if run.loss_name == name):
            start = (run.w[0], run.b[0])
            style = {"color": COLORS[name], "linestyle": STYLES[starts.index(start) % len(STYLES)], "linewidth": 1.8}
            label = f"start w = {start[0]:g}, b = {start[1]:g}"
            cost.plot(run.loss, label=label, **style)
            output.plot(run.output, label=label, **style)
            path.plot(run.w, run.b, label=label, **style)
            path.plot(*start, "o", color=COLORS[name], fillstyle="none")
            path.plot(run.w[-1], run.b[-1], "o", color=COLORS[name])
        cost.set(title=LOSSES[name].title, xlabel="epoch", ylabel="cost C")
        cost.set_ylim(bottom=0)
        path.legend(frameon=False)
        output.axhline(runs[0].y, color="0.6", linewidth=0.8)
        output.set(xlabel="epoch", ylabel="output a", ylim=(-0.03, 1.03))
        path.set(xlabel="weight w", ylabel="bias b  (open: start, filled: end)")
    _share_limits(axes[2])
    figure.suptitle(f"One sigmoid neuron, x = {runs[0].x:g}, target y = {runs[0].y:g}, learning rate {runs[0].lr:g}")
    return figure


def draw_networks(runs):
    """Accuracy, outputs stuck on the wrong side and gradient norms of the layers against epochs: one column a loss.

    Parameters
    ----------
    runs : list of NetworkRun

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes, names = _grid(runs, rows=3, height=8.5)
    inits = list(dict.fromkeys(run.init for run in runs))
    for column, name in enumerate(names):
        accuracy, stuck, norms = axes[:, column]
        for run in (run for run in runs if run.loss_name == name):
            style = {"color": COLORS[name], "linestyle": STYLES[inits.index(run.init) % len(STYLES)], "linewidth": 1.8}
            accuracy.plot(range(1, len(run.accuracy) + 1), run.accuracy, label=f"{run.init} start", **style)
            stuck.plot([100 * row["stuck"] for row in run.probe], label=f"{run.init} start", **style)
            for i, shade in ((0, 0.45), (1, 1.0)):
                label = f"{run.init} start, {'hidden' if i == 0 else 'output'} layer"
                norms.semilogy([row["gradient_norm"][i] for row in run.probe], label=label, alpha=shade, **style)
        accuracy.set(title=LOSSES[name].title, xlabel="epoch", ylabel="test accuracy", ylim=(0, 1.02))
        stuck.set(xlabel="epoch", ylabel="stuck outputs, %")
        norms.set(xlabel="epoch", ylabel="gradient norm")
        accuracy.legend(frameon=False, loc="lower right")
        norms.legend(frameon=False, fontsize="small")
    _share_limits(axes[1])
    _share_limits(axes[2])
    figure.suptitle("A net with sigmoid outputs, the same learning rate and samples everywhere")
    return figure


def _grid(runs, rows, height):
    """A figure with one column for each loss in `runs`, in their order."""
    module = optional_module("minnet.lab.figures", "matplotlib.figure", "plot")
    names = list(dict.fromkeys(run.loss_name for run in runs))
    figure = module.Figure(figsize=(1.2 + 4.6 * len(names), height), layout="constrained")
    axes = figure.subplots(rows, len(names), squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes, names


def _share_limits(axes):
    """One scale for a row of axes, so that losses can be compared by eye."""
    for get, put in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim")):
        limits = [getattr(ax, get)() for ax in axes]
        for ax in axes:
            getattr(ax, put)(min(low for low, _ in limits), max(high for _, high in limits))
