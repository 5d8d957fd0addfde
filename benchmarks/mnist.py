"""A 784-100-10 net on real MNIST, beside scikit-learn's MLPClassifier: `python -m benchmarks.mnist`.

Both learn from the 10,000 test images and are judged by 5,000 of the training images, as in examples/mnist.py. Both
have the same starting weights, logistic units, cross-entropy and float32, and plain SGD of one rate and batch size;
only the order of the images is of their own drawing. `--rate 0.05 --momentum 0.9 --alpha 1e-4` takes scikit-learn's
defaults, Nesterov's momentum and a small penalty on the weights. They train in turns, once a round; given are medians.
"""

import argparse
import os
import statistics
import sys
import time
import warnings

from benchmarks.threads import restrict

HIDDEN = 100


def images():
    """Images to learn from and to be judged by, with their labels."""
    import minnet as mn

    train = mn.datasets.mnist("test")
    try:
        return train, mn.datasets.mnist("train5k")
    except ValueError:
        return train, tuple(part[:5000] for part in mn.datasets.mnist("train"))


def start(seed):
    """The net that all of a round start from."""
    import minnet as mn

    return mn.MLP([784, HIDDEN, 10], activation="sigmoid", seed=seed)


def with_minnet(X, y, seed, options):
    """A function that trains, and one that predicts."""
    import minnet as mn

    net, rest = start(seed), {"epochs": options.epochs, "batch_size": options.batch, "seed": seed}
    optimizer = mn.SGD(
        options.rate,
        momentum=options.momentum,
        nesterov=options.momentum > 0,
        weight_decay=options.alpha / options.batch,  # scikit-learn's alpha is that of a batch, and spares the biases
        decay_biases=options.alpha == 0,
    )
    return lambda: mn.fit(net, X, y, loss="cross_entropy", optimizer=optimizer, **rest), net.predict


def with_sklearn(X, y, seed, options):
    """The same by scikit-learn, which is told not to stop before the last epoch."""
    from sklearn.neural_network import MLPClassifier

    weights = [(layer.W, layer.b) for layer in start(seed).layers if layer.size]

    class SameStart(MLPClassifier):
        def _init_coef(self, fan_in, fan_out, dtype):
            W, b = next((W, b) for W, b in weights if W.shape == (fan_in, fan_out))
            return W.astype(dtype), b.astype(dtype)

    model = SameStart(
        (HIDDEN,),
        activation="logistic",
        solver="sgd",
        alpha=options.alpha,
        batch_size=options.batch,
        learning_rate_init=options.rate,
        momentum=options.momentum,
        nesterovs_momentum=options.momentum > 0,
        max_iter=options.epochs,
        n_iter_no_change=options.epochs,
        tol=0.0,
        random_state=seed,
    )
    return lambda: model.fit(X, y), model.predict


CONTENDERS = {"minnet": with_minnet, "scikit-learn": with_sklearn}


def measure(options):
    """Seconds and accuracies of every contender, one a round."""
    (X, y), (X_test, y_test) = images()
    seconds, accuracies = ({name: [] for name in CONTENDERS} for _ in range(2))
    for seed in range(options.rounds):
        for name, make in CONTENDERS.items():
            train, predict = make(X, y, seed, options)
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of epochs that have run out, which they should
                train()
            seconds[name].append(time.perf_counter() - started)
            accuracies[name].append(float((predict(X_test) == y_test).mean()))
    return seconds, accuracies


def main():
    """Print accuracies, times and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist", description=__doc__.split(":")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--alpha", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3, help="seeds, one a round")
    parser.add_argument("--threads", choices=["1", "all"], default="1", help="how many may be used")
    options = parser.parse_args()
    if "MINNET_DATA" not in os.environ:
        sys.exit("mnist: set MINNET_DATA to a folder with MNIST's IDX files; nothing was measured")
    restrict(options.threads if options.threads == "all" else 1)
    seconds, accuracies = measure(options)
    print(f"784-{HIDDEN}-10, {', '.join(f'{name} {value}' for name, value in vars(options).items())}")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        shown, times = (" ".join(f"{value:.{d}f}" for value in of[name]) for of, d in ((accuracies, 4), (seconds, 2)))
        ratio = median / medians["minnet"]
        print(f"{name:14} accuracy {shown}   {median:6.2f} s ({times})   {ratio:5.2f} x minnet")
    means = [statistics.fmean(accuracies[name]) for name in CONTENDERS]
    print(f"mean accuracies differ by {100 * (means[0] - means[1]):+.2f} points")


if __name__ == "__main__":
    main()
