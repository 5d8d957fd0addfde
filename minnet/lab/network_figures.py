"""Figures of maps of nets, drawn with matplotlib (extra `plot`), without pyplot: no display, no global state."""

import numpy as np

from minnet._checks import optional_module
from minnet.lab.figures import COLORS, TITLES

__all__ = ["draw_network_map"]

LAYERS = {"hidden": ("hidden units", "-"), "output": ("outputs", "--")}
NEVER = "#d9d9d9"


def draw_network_map(result):
    """Epochs to learn of a `NetworkMap`: see `NetworkMap.plot`."""
    both = len(result.hidden_scale) > 1 and len(result.output_scale) > 1
    return _draw_pictures(result) if both else _draw_curves(result)


# ---- one scale: curves ----


def _draw_curves(result):
    module = optional_module("NetworkMap.plot", "matplotlib.figure", "plot")
    figure = module.Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    layer, scales = _varied(result)
    never = 1.5 * result.settings["epochs"]
    for i, loss in enumerate(result.losses):
        epochs, median = (np.where(np.isfinite(a), a, never) for a in (result.epochs[i], result.median[i]))
        color = COLORS[loss]
        left.plot(scales, epochs.reshape(len(scales), -1), ".", color=color, alpha=0.35)
        left.plot(scales, median.reshape(-1), color=color, linewidth=1.8, label=TITLES[loss])
    for share, (name, style) in zip(result.saturated_at_start.reshape(-1, 2).T, LAYERS.values(), strict=True):
        right.plot(scales, 100 * share, style, color="0.3", linewidth=1.8, label=name)
    left.axhline(never, color="0.6", linewidth=0.8)
    left.set(yscale="log", ylim=(0.8, 1.4 * never), ylabel=f"{_learning(result)}, and median (grey line: never)")
    right.set(ylabel="saturated at the start, %", ylim=(-3, 103))
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xlabel=f"scale of the {layer} layer's starting weights")
        if scales.min() > 0:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        ax.legend(frameon=False, loc="center left")
    left.yaxis.set_major_formatter("{x:g}")
    figure.suptitle(_said(result), fontsize="medium")
    return figure


def _varied(result):
    """Which layer's scale varies, and its values."""
    hidden = len(result.hidden_scale) > 1
    return ("hidden", result.hidden_scale) if hidden else ("output", result.output_scale)


# ---- two scales: pictures ----


def _draw_pictures(result):
    module = optional_module("NetworkMap.plot", "matplotlib.figure", "plot")
    norm = optional_module("NetworkMap.plot", "matplotlib.colors", "plot").LogNorm(1, max(result.settings["epochs"], 2))
    figure = module.Figure(figsize=(1.4 + 4.2 * len(result.losses), 4.6), layout="constrained")
    panels = figure.subplots(1, len(result.losses), sharey=True, squeeze=False)[0]
    for ax, loss, median, never in zip(panels, result.losses, result.median, result.never, strict=True):
        learned = np.where(np.isfinite(median), median, np.nan)
        picture = ax.imshow(learned, norm=norm, cmap="viridis_r", origin="lower", aspect="auto")
        ax.set_facecolor(NEVER)
        for (i, j), share in np.ndenumerate(never):
            if share:
                color = "white" if np.isfinite(median[i, j]) else "0.15"
                ax.text(j, i, f"{share:.0%}", ha="center", va="center", fontsize="small", color=color)
        _draw_borders(ax, result.saturated_at_start)
        ax.set(title=TITLES[loss], xlabel="scale of the output layer's starting weights")
        ax.set_xticks(range(len(result.output_scale)), [f"{scale:g}" for scale in result.output_scale])
        ax.set_yticks(range(len(result.hidden_scale)), [f"{scale:g}" for scale in result.hidden_scale])
    panels[0].set_ylabel("scale of the hidden layer's starting weights")
    bar = figure.colorbar(picture, ax=panels, label=f"median of {_learning(result)} (grey: never)")
    bar.ax.yaxis.set_major_formatter("{x:g}")
    lines = "lines: half of the hidden units (solid) or of the outputs (dashed) are saturated at the start"
    figure.suptitle(f"{_said(result)}\nnumbers: nets that never learn; {lines}", fontsize="medium")
    return figure


def _draw_borders(ax, saturated):
    """Where half of a layer is saturated at the start."""
    for share, (_, style) in zip(np.moveaxis(saturated, -1, 0), LAYERS.values(), strict=True):
        if share.min() < 0.5 < share.max():
            ax.contour(share, [0.5], colors="0.1", linestyles=[style], linewidths=1.6)


def _learning(result):
    return f"epochs to {result.settings['target']:.0%}"


def _said(result):
    """What holds for all nets alike."""
    about = result.settings
    return (
        f"{about['samples']}, {about['hidden']} sigmoid units, learning rate {about['lr']:g}, {len(result.seeds)} seeds"
    )
