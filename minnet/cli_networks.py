"""`minnet map --net`: how long real nets take to learn, over scales of the starting weights of both layers."""

import importlib.util
import itertools
import sys

import numpy as np

from minnet._checks import bad_value
from minnet._reports import in_folder, print_table, write_csv, write_figure
from minnet.lab.figures import TITLES
from minnet.lab.network_maps import map_networks

__all__ = ["NETS_ALONE", "add_networks", "map_nets"]

NETS_ALONE = ["hidden_scale", "output_scale", "seeds", "target", "hidden", "batch_size"]  # they mean nothing to neurons


def add_networks(command):
    """Add the options of nets to the parser of `minnet map`."""
    nets = command.add_argument_group("nets with one layer of sigmoid units, instead of neurons")
    nets.add_argument("--net", action="store_true", help="train nets on the shipped digits, to an accuracy on others")
    nets.add_argument("--mnist", help="train them on MNIST's IDX files in this folder (implies --net)", metavar="DIR")
    for layer in ("hidden", "output"):
        text = f"factors of the {layer} layer's starting weights (default: 1 16 64)"
        nets.add_argument(f"--{layer}-scale", help=text, type=float, nargs="+", metavar="SCALE", default=[1, 16, 64])
    nets.add_argument("--seeds", help="nets for each pair of scales (default: 8)", type=int, default=8, metavar="N")
    nets.add_argument("--target", help="accuracy of a net that has learned (default: 0.9)", type=float, default=0.9)
    nets.add_argument("--hidden", help="hidden units (default: 30)", type=int, default=30, metavar="UNITS")
    nets.add_argument("--batch-size", help="samples a step (default: 10)", type=int, default=10, metavar="N")


def map_nets(options, pool):
    """Train the nets, print the table, write the files."""
    if options.lr and len(options.lr) > 1:
        raise bad_value("minnet map", "--lr must have one value for nets", options.lr)
    names = ("hidden_scale", "output_scale", "loss", "seeds", "target", "hidden", "batch_size", "store")
    given = {"lr": options.lr[0] if options.lr else 0.5, "epochs": 30 if options.epochs is None else options.epochs}
    result = map_networks(
        **{name: getattr(options, name) for name in names},
        **given,
        folder=options.mnist,
        executor=pool,
        progress=sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None,
    )
    _print_heading(result)
    print_table(list(_rows(result)))
    print("\nsaturated: shares of hidden units and of outputs whose slope a (1 - a) is below 0.01 at the start.")
    written = [in_folder(options.out, "networks.npz"), in_folder(options.out, "networks.csv")]
    result.save(written[0])
    write_csv(written[1], *_table(result))
    if not options.no_plot:
        written = write_figure("minnet map", in_folder(options.out, "networks.png"), result.plot) + written
    print("\nWrote " + ", ".join(written))


def _print_heading(result):
    about = result.settings
    print(f"{result.epochs.size} nets with {about['hidden']} sigmoid units on {about['samples']}, stochastic gradient")
    print(f"descent, learning rate {about['lr']:g}, batches of {about['batch_size']}, up to {about['epochs']} epochs;")
    print(f"a net has learned at an accuracy of {about['target']:.0%} on held-out samples\n")


def _rows(result):
    """A row of text for each loss and pair of scales."""
    for i, j, k in np.ndindex(result.never.shape):
        saturated, median = result.saturated_at_start[j, k], result.median[i, j, k]
        learned = result.epochs[i, j, k][~np.isnan(result.epochs[i, j, k])]
        yield {
            "loss": TITLES[result.losses[i]],
            "hidden scale": f"{result.hidden_scale[j]:g}",
            "output scale": f"{result.output_scale[k]:g}",
            "saturated": f"{saturated[0]:.0%}, {saturated[1]:.0%}",
            "never": f"{result.never[i, j, k]:.0%}",
            "median epochs": f"{median:g}" if np.isfinite(median) else "never",
            "epochs, if learned": f"{learned.min():g} ... {learned.max():g}" if learned.size else "",
            "mean accuracy": f"{result.accuracy[i, j, k].mean():.3f}",
        }


def _table(result):
    """The columns of the CSV file, and its rows, one a net."""
    columns = [
        "loss",
        "hidden_scale",
        "output_scale",
        "seed",
        "epochs",
        "accuracy",
        "saturated_hidden",
        "saturated_outputs",
    ]
    axes = itertools.product(result.losses, result.hidden_scale, result.output_scale, result.seeds)
    values = [result.epochs.reshape(-1), result.accuracy.reshape(-1), *result.saturated[..., 0, :].reshape(-1, 2).T]
    return columns, [[*where, *row] for where, row in zip(axes, zip(*values, strict=True), strict=True)]
