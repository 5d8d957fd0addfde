"""Figures of maps of nets, drawn with matplotlib (extra `plot`), without pyplot: no display, no global state."""

import numpy as np

from minnet._checks import optional_module
from minnet.lab.figures import COLORS, TITLES

__all__ = ["draw_network_map"]

LAYERS = ("hidden units", "outputs")
NEVER = "#d9d9d9"


def draw_network_map(result):
    """Epochs to learn of a `NetworkMap`: see `NetworkMap.plot`."""
    both = len(result.hidden_scale) > 1 and len(result.output_scale) > 1
    return _draw_pictures(result) if both else _draw_curves(result)


# ---- one scale: curves ----


def _draw_curves(result):
    module = optional_module("NetworkMap.plot", "matplotlib.figure", "plot")
    figure = module.Figure(figsize=(12, 3.8), layout="constrained")
    left, *right = figure.subplots(1, 3)
    layer, scales = _varied(result)
    _draw_epochs(left, scales, result)
    for i, ax in enumerate(right):
        ax.plot(scales, 100 * result.saturated_at_start[..., i].reshape(-1), color="0.4", label="at the start")
        for loss, share in zip(result.losses, result.saturated_at_end[..., i], strict=True):
            ax.plot(scales, 100 * share.reshape(-1), "--", color=COLORS[loss], label=f"at the end: {TITLES[loss]}")
        ax.set(ylabel=f"saturated {LAYERS[i]}, %", ylim=(-3, 103))
    for ax in (left, *right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xlabel=f"scale of the {layer} layer's starting weights")
        if scales.min() > 0:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        ax.legend(frameon=False, fontsize="small")
    figure.suptitle(_said(result), fontsize="medium")
    return figure


def _draw_epochs(ax, scales, result):
    """Epochs of all nets, and their medians; those that never came stand on a line above the others."""
    never = 1.5 * result.settings["epochs"]
    ax.axhline(never, color="0.6", linewidth=0.8)
    for loss, epochs, median in zip(result.losses, result.epochs, result.median, strict=True):
        seeds = np.nan_to_num(epochs, nan=never).reshape(len(scales), -1)
        ax.plot(scales, seeds, ".", color=COLORS[loss], alpha=0.35)
        ax.plot(scales, np.minimum(median, never).reshape(-1), color=COLORS[loss], label=TITLES[loss])
    ax.set(yscale="log", ylim=(0.8, 1.4 * never), ylabel=f"{_learning(result)}, and median (grey line: never)")
    ax.yaxis.set_major_formatter("{x:g}")


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
    for share, style in zip(np.moveaxis(saturated, -1, 0), ("-", "--"), strict=True):
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
