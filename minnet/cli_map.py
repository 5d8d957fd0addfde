"""`minnet map`: how long neurons take to learn, over a grid of their starts, inputs, targets or learning rates.

With `--net` it trains real nets instead, see `cli_networks`.
"""

import argparse
import contextlib
import importlib.util
import math
import signal
import sys
from functools import partial

import numpy as np

from minnet._checks import bad_value, integer
from minnet._reports import in_folder, print_table, write_csv, write_figure
from minnet.cli_networks import NETS_ALONE, add_networks, map_nets
from minnet.lab.grids import NAMES, Grid
from minnet.lab.losses import LOSSES
from minnet.lab.maps import map_neurons
from minnet.lab.network_maps import NET_LOSSES

__all__ = ["add_map", "refuse_given"]

COMMAND = "minnet map"
LARGEST = 2**24  # neurons of a map that is held whole; more are counted as they come
SHOWN = 1000  # values of an axis in a figure
NEURONS_ALONE = ["w", "b", "z0", "x", "y", "grid", "threshold", "double", "count"]  # options that mean nothing to nets
DESCRIPTION = """
How long do sigmoid neurons, a = sigmoid(w x + b), take to learn? Each neuron of a grid is trained by gradient descent,
until |a - y| < threshold or the epochs are over. A table, a figure and the map (map.npz, for minnet.lab.PhaseMap.load,
or MapSummary.load if neurons are only counted) show how the quadratic cost and cross-entropy compare, and how well the
law of small steps foretells it. A parameter with one value is the same for all neurons; with two it is an axis of the
grid, from the one to the other.
"""
EXAMPLES = """
examples:
  minnet map                               starts (w, b) from -8 to 8, 1000 x 1000 neurons
  minnet map --z0 -2 8 --lr 0.003 3        starting logits and learning rates
  minnet map --z0 -2 8 --epochs 10000      one axis: curves, and the law
  minnet map --w -8 8 --b 0 --x 0.5 2      other pairs
  minnet map --grid 31623 --store parts    10^9 neurons, counted as they come; the same command goes on if killed
  minnet map --net --output-scale 1 4 16   nets on digits, from larger and larger starting weights
"""


def add_map(commands):
    """Add the command to a parser's commands."""
    text = "how long neurons take to learn, over a grid: a map, a figure, and the law beside it"
    command = commands.add_parser(
        "map",
        help=text,
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=partial(_map, command))

    _add_parameters(command.add_argument_group("the neurons: one value, or two ends of an axis"))
    training = command.add_argument_group("their training")
    names = list(NET_LOSSES)
    text = f"costs: {' '.join(LOSSES)}, for nets also cross_entropy, of softmax (default: mse bce)"
    training.add_argument("--loss", help=text, nargs="+", choices=names, metavar="LOSS", default=["mse", "bce"])
    training.add_argument("--epochs", help="epochs (default: 300 for neurons, 30 for nets)", type=int)
    text = "how near the output must come to the target (default: 0.1)"
    training.add_argument("--threshold", help=text, type=float, default=0.1)
    training.add_argument("--double", help="compute in float64 instead of float32", action="store_true")

    add_networks(command)
    running = command.add_argument_group("running")
    text = "processes that share the work (default: this one, with threads)"
    running.add_argument("--workers", help=text, type=int, metavar="N")
    text = "keep finished parts in this folder; the same command goes on from them if it is killed"
    running.add_argument("--store", help=text, metavar="DIR")
    text = f"only count neurons by their epochs, as is done with more than {LARGEST:,} neurons"
    running.add_argument("--count", help=text, action="store_true")
    text = "folder for the figure, the map and the CSV file of the table (default: map)"
    running.add_argument("--out", help=text, default="map", metavar="DIR")
    running.add_argument("--no-plot", help="draw no figure (figures need matplotlib)", action="store_true")


def _add_parameters(values):
    def parameter(name, help, **options):
        values.add_argument(name, help=help, type=float, nargs="+", metavar=("VALUE", "END"), **options)

    parameter("--w", "starting weights (default: -8 8)")
    parameter("--b", "starting biases (default: -8 8)")
    parameter("--z0", "starting logits, instead of w and b: w = 0, b = z0")
    parameter("--x", "inputs (default: 1)", default=[1.0])
    parameter("--y", "targets, from 0 to 1 (default: 0)", default=[0.0])
    parameter("--lr", "learning rates; an axis is divided evenly in ratios (default: 0.15, for nets 0.5)")
    text = "points along each axis, or one number for all (default: 1000)"
    values.add_argument("--grid", help=text, type=int, nargs="+", metavar="N", default=[1000])


def _map(parser, options):
    nets = options.net or options.mnist
    refuse_given(COMMAND, parser, options, NEURONS_ALONE if nets else NETS_ALONE, nets)
    with _pool(options.workers) as pool:
        if nets:
            map_nets(options, pool)
        else:
            _map_neurons(options, pool)


def refuse_given(command, parser, options, names, nets):
    """An error if one of these options was given: they are of the other experiment than what is asked for."""
    for name in names:
        value = getattr(options, name)
        if value != parser.get_default(name):
            rule, hint = ("without --net", "it is for neurons") if nets else ("with --net", "it is for nets")
            raise bad_value(command, f"--{name.replace('_', '-')} must go {rule}", value, hint)


def _map_neurons(options, pool):
    options.epochs = 300 if options.epochs is None else options.epochs
    grid = Grid(COMMAND, _parameters(options))
    result, shown = _results(grid, options, pool)
    summary = result if result is not shown else result.summary()
    _print_heading(grid, options, summary)
    rows = _rows(summary, shown)
    print_table([_cells(row) for row in rows])
    _print_notes(shown, sampled=result is not shown)
    written = [in_folder(options.out, "map.npz"), in_folder(options.out, "map.csv")]
    result.save(written[0])
    write_csv(written[1], rows[0].keys(), [row.values() for row in rows])
    if not options.no_plot and len(grid.axes) in (1, 2):
        written = write_figure(COMMAND, in_folder(options.out, "map.png"), shown.plot) + written
    print("\nWrote " + ", ".join(written))


def _results(grid, options, pool):
    """The map, twice; or, of a grid that is too large, the summary, and the map of a sample to be shown."""
    settings = {"loss": options.loss, "epochs": options.epochs, "threshold": options.threshold}
    settings["dtype"] = np.float64 if options.double else np.float32
    counted = options.count or math.prod(grid.shape) > LARGEST
    result = map_neurons(
        **grid.parameters,
        **settings,
        reduce="histogram" if counted else None,
        executor=pool,
        store=options.store,
        progress=sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None,
    )
    return result, map_neurons(**grid.cut(grid.every(SHOWN)), **settings) if counted else result


def _pool(workers):
    """A pool of processes, or None; started afresh, as one with threads is not to be forked; Ctrl-C is not for them."""
    if workers is None:
        return contextlib.nullcontext()
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    workers = integer(COMMAND, "--workers", workers, 1)
    return ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))


# ---- the grid ----


def _parameters(options):
    """The parameters of the neurons: numbers, and vectors where two ends were given."""
    given = {name: getattr(options, name) for name in NAMES if getattr(options, name) is not None}
    given.setdefault("lr", [0.15])
    if "z0" not in given:
        given = {"w": [-8.0, 8.0], "b": [-8.0, 8.0]} | given
    elif "w" in given or "b" in given:
        raise bad_value(COMMAND, "--z0 must stand alone, without --w and --b", [*given])
    for name, ends in given.items():
        if len(ends) > 2:
            raise bad_value(COMMAND, f"--{name} must have one value or two ends", ends)
    axes = [name for name, ends in given.items() if len(ends) == 2]
    points = options.grid * len(axes) if len(options.grid) == 1 else options.grid
    if len(points) != len(axes) or min(points, default=1) < 1:
        raise bad_value(
            COMMAND, f"--grid must have one number of at least 1, or {len(axes)}, one an axis", options.grid
        )
    points = dict(zip(axes, points, strict=True))
    return {name: _axis(name, *ends, points[name]) if name in points else ends[0] for name, ends in given.items()}


def _axis(name, low, high, points):
    if not (math.isfinite(low) and math.isfinite(high)):
        raise bad_value(COMMAND, f"--{name} must have finite ends", (low, high))
    if name != "lr":
        return np.linspace(low, high, points)
    if not 0 < low <= high:
        raise bad_value(COMMAND, "--lr must have ends above 0, in ascending order", (low, high))
    return np.geomspace(low, high, points)


# ---- the table ----


def _print_heading(grid, options, summary):
    shape = " x ".join(str(n) for n in grid.shape)
    values = [f"{name} = {_range(value)}" for name, value in grid.parameters.items() if name != "lr"]
    print(
        f"{summary.neurons:,} sigmoid neurons"
        + (f" ({shape})" if len(grid.shape) > 1 else "")
        + f", {', '.join(values)},"
    )
    print(f"gradient descent, learning rate {_range(grid.parameters['lr'])}, {options.epochs} epochs;", end=" ")
    print(f"a neuron has learned when |a - y| < {options.threshold:g}\n")


def _range(value):
    return f"{value:g}" if isinstance(value, float) else f"{value[0]:g} ... {value[-1]:g}"


def _rows(summary, shown):
    """The numbers of the table, a dict a loss."""
    departures, laws = shown.departure(), shown.law()
    rows = []
    for i, loss in enumerate(summary.losses):
        off = np.abs(departures[i])
        with_law = np.isfinite(off)
        near = off[with_law] <= 0.02 * laws[i][with_law]
        rows.append(
            {
                "loss": LOSSES[loss].title,
                "learned_at_once": summary.counts[i, 0] / summary.neurons,
                "never_learned": summary.never[i],
                "median_epochs": summary.quantile(0.5)[i],
                "mean_epochs": summary.mean[i],
                "law_median_difference": np.median(off[with_law]) if near.size else np.nan,
                "law_largest_difference": np.max(off[with_law]) if near.size else np.nan,
                "law_within_2_percent": np.mean(near) if near.size else np.nan,
            }
        )
    return rows


def _cells(row):
    law = [row[f"law_{name}"] for name in ("median_difference", "largest_difference", "within_2_percent")]
    return {
        "loss": row["loss"],
        "at once": f"{row['learned_at_once']:.2%}",
        "never": f"{row['never_learned']:.2%}",
        "median epochs": "never" if math.isnan(row["median_epochs"]) else f"{row['median_epochs']:.0f}",
        "mean, if learned": _number(row["mean_epochs"], ".1f"),
        "epochs off the law": "" if math.isnan(law[0]) else f"{law[0]:.2f}, at most {law[1]:.2f}",
        "within 2 % of it": _number(law[2], ".1%"),
    }


def _number(value, form):
    return "" if math.isnan(value) else format(value, form)


def _print_notes(shown, *, sampled):
    print("\nat once: near the target from the start; never: not within the epochs that were run.")
    if np.isfinite(shown.departure()).any():
        print(
            "The law is the limit of small steps. Its columns are about the neurons that learned, but not at once: by"
        )
        print("how many epochs it is off, in the median and at most, and for how many neurons it is within 2 %.")
    if sampled:
        print(f"The law's columns and the figure are of a sample: {shown.summary().neurons:,} neurons of the grid.")
