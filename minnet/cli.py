"""The command line. `minnet saturation` is the main job: one saturated neuron, or a net, under two costs.

A command prints a table, writes what can be drawn or read again into a folder, and says what it wrote. Wrong arguments
end with exit status 2 and one line that says why. `minnet info` tells what runs here, `minnet bench` how fast.
"""

import argparse
import importlib
import math
import sys
from functools import partial
from pathlib import Path

import minnet
from minnet._checks import bad_value, words
from minnet._reports import in_folder, print_table, write_csv, write_figure
from minnet.cli_map import add_map, refuse_given
from minnet.initializers import INITIALIZERS
from minnet.lab.losses import LOSSES
from minnet.lab.network import net_samples, train_networks
from minnet.lab.neuron import train_neuron

__all__ = ["main"]

NEURON_ALONE = ["w", "b", "x", "y"]  # options that mean nothing to a net, and to a neuron
NET_ALONE = ["hidden", "init", "batch_size", "seed"]


def main(arguments=None):
    """Run a command; give its exit status."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return options.run(options, *rest) or 0
    except (ValueError, TypeError, OSError) as error:
        print(f"minnet {options.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"minnet {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser("minnet", description=minnet.__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"minnet {minnet.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_saturation(commands)
    add_map(commands)
    text = "how minnet was built and what it finds here: SIMD level, threads, libraries"
    info = commands.add_parser("info", help=text, description=text[0].upper() + text[1:] + ".")
    info.set_defaults(run=lambda options: minnet.show_config())
    # Everything behind `bench`, -h included, is for the benchmarks' own parser.
    bench = commands.add_parser("bench", help="time minnet beside other libraries; needs a clone", add_help=False)
    bench.set_defaults(run=lambda options, *rest: _bench(list(rest)))
    return parser


def _bench(arguments):
    """Hand over to the benchmarks, which stand beside the package in a clone and are not installed."""
    folders = [Path(minnet.__file__).parents[1], Path.cwd()]
    clones = [str(folder) for folder in folders if (folder / "benchmarks" / "contenders").is_dir()]
    if not clones:
        rule, hint = "the folder benchmarks must be here or beside the package", "run it in a clone of minnet"
        raise bad_value("bench", rule, words("neither"), hint)
    sys.path.insert(0, clones[0])
    return importlib.import_module("benchmarks.__main__").main(arguments)


def _add_saturation(commands):
    text = "why a confidently wrong sigmoid output stalls under the quadratic cost and not under cross-entropy"
    command = commands.add_parser("saturation", help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=partial(_saturation, command))

    def add(group, name, help, **options):
        default = options.get("default")
        shown = " ".join(f"{v}" for v in default) if isinstance(default, list) else default
        group.add_argument(name, help=help if default is None else f"{help} (default: {shown})", **options)

    both = command.add_argument_group("both experiments")
    add(
        both,
        "--loss",
        f"costs: {' '.join(LOSSES)}",
        nargs="+",
        choices=list(LOSSES),
        default=["mse", "bce"],
        metavar="LOSS",
    )
    add(both, "--lr", "learning rate (default: 0.15 for the neuron, 0.5 for the net)", type=float)
    add(both, "--epochs", "epochs (default: 300 for the neuron, 30 for the net)", type=int)
    add(both, "--out", "folder for the figure and the CSV file", default="saturation", metavar="DIR")
    both.add_argument("--no-plot", action="store_true", help="draw no figure (figures need matplotlib)")
    neuron = command.add_argument_group("one neuron, a = sigmoid(w x + b)")
    add(neuron, "--w", "starting weights, one a start", type=float, nargs="+", default=[0.6, 2.0])
    add(neuron, "--b", "starting biases, one a start", type=float, nargs="+", default=[0.9, 2.0])
    add(neuron, "--x", "input", type=float, default=1.0)
    add(neuron, "--y", "target, from 0 to 1", type=float, default=0.0)
    net = command.add_argument_group("a net with sigmoid outputs")
    net.add_argument("--net", action="store_true", help="train a net on the shipped digits instead of one neuron")
    add(net, "--mnist", "train it on MNIST's IDX files in this folder (implies --net)", metavar="DIR")
    add(net, "--hidden", "units in the hidden layer", type=int, default=30, metavar="UNITS")
    inits = ["scaled", "large"]
    text = f"starting weights: {' '.join(INITIALIZERS)}"
    add(net, "--init", text, nargs="+", choices=list(INITIALIZERS), default=inits, metavar="INIT")
    add(net, "--batch-size", "samples a step", type=int, default=10, metavar="N")
    add(net, "--seed", "for starting weights, order and the held-out fifth", type=int, default=0)


def _saturation(parser, options):
    net = options.net or options.mnist
    refuse_given("saturation", parser, options, NEURON_ALONE if net else NET_ALONE, net)
    experiment = _saturation_net if net else _saturation_neuron
    name, draw, columns, rows = experiment(options)
    written = write_csv(in_folder(options.out, name + ".csv"), columns, rows)
    if not options.no_plot:
        written = write_figure("minnet saturation", in_folder(options.out, name + ".png"), draw) + written
    print("\nWrote " + " and ".join(written))


# ---- one neuron ----


def _saturation_neuron(options):
    lr, epochs = 0.15 if options.lr is None else options.lr, 300 if options.epochs is None else options.epochs
    runs = [
        train_neuron(w, b, x=options.x, y=options.y, loss=loss, lr=lr, epochs=epochs)
        for loss in options.loss
        for w, b in _starts(options.w, options.b)
    ]
    print(f"One sigmoid neuron, a = sigmoid(w x + b), x = {options.x:g}, target y = {options.y:g},")
    print(f"gradient descent, learning rate {lr:g}, {epochs} epochs\n")
    print_table([_neuron_row(run) for run in runs])
    _print_derivation(runs)

    def draw():
        from minnet.lab.figures import draw_neurons

        return draw_neurons(runs)

    columns = ["loss", "start_w", "start_b", "epoch", "w", "b", "output", "cost", "dC/dw"]
    rows = [
        [run.loss_name, run.w[0], run.b[0], epoch, *values]
        for run in runs
        for epoch, values in enumerate(zip(run.w, run.b, run.output, run.loss, run.gradient, strict=True))
    ]
    return "neuron", draw, columns, rows


def _starts(w, b):
    """Pairs of w and b; a single value of one goes with every value of the other."""
    count = max(len(w), len(b))
    if len(w) not in (1, count) or len(b) not in (1, count):
        raise bad_value("saturation", "--w and --b must have as many values, or one of them a single one", (w, b))
    return zip(w * (count // len(w)), b * (count // len(b)), strict=True)


def _neuron_row(run):
    return {
        "loss": LOSSES[run.loss_name].title,
        "start w, b": f"{run.w[0]:g}, {run.b[0]:g}",
        "output": f"{run.output[0]:.4f}",
        "dC/dw": f"{run.gradient[0]:.4f}",
        "end w": f"{run.w[-1]:.3f}",
        "end b": f"{run.b[-1]:.3f}",
        "end output": f"{run.output[-1]:.4f}",
        "cost halved": _epochs(run.epochs_to_halve()),
        "|a - y| < 0.1": _epochs(run.epochs_until(0.1)),
    }


def _epochs(count):
    return "never" if count is None else f"epoch {count}"


def _print_derivation(runs):
    """The factor a (1 - a) in numbers, at each start."""
    print(
        "\nWhy: dC/dw is (a - y) x a (1 - a) for the quadratic cost, and (a - y) x for cross-entropy, whose derivative"
    )
    print("carries 1 / (a (1 - a)) and cancels the slope of the sigmoid. At the start:\n")
    starts = {(run.w[0], run.b[0]): run for run in runs}
    rows = []
    for (w, b), run in starts.items():
        error = (run.output[0] - run.y) * run.x
        slope = _slope(w * run.x + b)
        rows.append(
            {
                "w, b": f"{w:g}, {b:g}",
                "a": f"{run.output[0]:.4f}",
                "(a - y) x": f"{error:.4f}",
                "a (1 - a)": f"{slope:.4f}",
                "dC/dw quadratic": f"{error * slope:.4f}",
                "dC/dw cross-entropy": f"{error:.4f}",
                "ratio": f"{1 / slope:.1f}" if slope else "inf",
            }
        )
    print_table(rows)


def _slope(z):
    e = math.exp(-abs(z))
    return e / (1 + e) ** 2


# ---- a net ----


def _saturation_net(options):
    data, about = _net_data(options)
    sizes = f"{data[0].shape[1]}-{options.hidden}-10"
    lr, epochs = 0.5 if options.lr is None else options.lr, 30 if options.epochs is None else options.epochs
    print(f"A net {sizes} with sigmoid units on {about},")
    print(f"stochastic gradient descent, learning rate {lr:g}, batches of {options.batch_size}, {epochs} epochs\n")
    runs = train_networks(
        data,
        hidden=options.hidden,
        losses=options.loss,
        inits=options.init,
        lr=lr,
        epochs=epochs,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    shown = sorted({0, 1, 2, 5, 10, epochs} & set(range(epochs + 1)))
    print_table([_net_row(run, epoch) for run in runs for epoch in shown])
    print("\nsaturated: share of output units whose slope a (1 - a) is below 0.01; stuck: those on the wrong side.")
    print("|dC/dW|: norms of the gradient of the hidden and of the output layer.")

    def draw():
        from minnet.lab.figures import draw_networks

        return draw_networks(runs)

    columns = ["loss", "init", "epoch", "accuracy", "saturated", "stuck", "gradient_hidden", "gradient_output"]
    rows = [
        [run.loss_name, run.init, row["epoch"], accuracy, row["saturated"][-1], row["stuck"], *row["gradient_norm"]]
        for run in runs
        for row, accuracy in zip(run.probe, ["", *run.accuracy], strict=True)
    ]
    return "net", draw, columns, rows


def _net_data(options):
    data = net_samples(options.mnist, options.seed)
    kind = "images of MNIST" if options.mnist else "digits of 8 x 8 pixels"
    return data, f"{len(data[0])} {kind}, {len(data[2])} others held out"


def _net_row(run, epoch):
    row = run.probe[epoch]
    return {
        "loss": LOSSES[run.loss_name].title,
        "start": run.init,
        "epoch": f"{epoch}",
        "accuracy": f"{run.accuracy[epoch - 1]:.3f}" if epoch else "",
        "saturated": f"{row['saturated'][-1]:.1%}",
        "stuck": f"{row['stuck']:.2%}",
        "|dC/dW| hidden": f"{row['gradient_norm'][0]:.4f}",
        "|dC/dW| output": f"{row['gradient_norm'][1]:.4f}",
    }
