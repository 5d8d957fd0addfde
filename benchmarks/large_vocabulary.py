"""A linear layer and its cross-entropy over 32,000 classes, beside torch: `python -m benchmarks.large_vocabulary`.

Each way runs in a process of its own, in turns, because the peak of memory is one of the process. Forward and all
gradients, 4096 rows of 256 inputs, float32, all threads.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

ROWS, INPUTS, CLASSES = 4096, 256, 32_000
WAYS = ["minnet", "torch plain", "torch linear_cross_entropy", "torch chunked"]


def minnet_step(x, W, b, y):
    """One call with all gradients, as a function that gives the loss."""
    from minnet import functional as F

    out = np.ones_like(x), np.ones_like(W), np.ones_like(b)
    F.linear_cross_entropy(x[:8], W, y[:8], b, return_grad=True)
    return lambda: F.linear_cross_entropy(x, W, y, b, return_grad=True, out=out)[0]


def torch_step(way, x, W, b, y):
    """The same by one of torch's ways."""
    import torch
    from torch.nn import functional as T

    x, W, b = (torch.from_numpy(np.ascontiguousarray(a)).requires_grad_() for a in (x, W.T, b))
    y = torch.from_numpy(y)
    options = {"options": torch.nn.LinearCrossEntropyOptions()} if way == "torch chunked" else {}

    def step():
        x.grad = W.grad = b.grad = None
        if way == "torch plain":
            loss = T.cross_entropy(T.linear(x, W, b), y)
        else:
            loss = T.linear_cross_entropy(x, W, y, linear_bias=b, **options)
        loss.backward()
        return float(loss)

    return step


def resident():
    """Megabytes of memory in use now (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def run(way, repeats):
    """Times, memory above what was there before, and the loss, of one way, in this process."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, INPUTS), np.float32)  # in float32 at once: no peak before the one that counts
    W = np.float32(0.05) * rng.standard_normal((INPUTS, CLASSES), np.float32)
    b, y = np.zeros(CLASSES, np.float32), rng.integers(0, CLASSES, ROWS)
    step = minnet_step(x, W, b, y) if way == "minnet" else torch_step(way, x, W, b, y)
    before, times = resident(), []
    for _ in range(repeats):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return {"times": times, "megabytes": above, "loss": loss}


def main():
    """Print medians, ratios to minnet and peaks of memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_vocabulary", description=__doc__.split(":")[0])
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--turns", type=int, default=3, help="processes of each way")
    parser.add_argument("--repeats", type=int, default=3, help="steps in each process")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(run(arguments.way, arguments.repeats)))
        return
    found = {way: [] for way in WAYS}
    for _ in range(arguments.turns):
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.large_vocabulary", "--way", way]
            done = subprocess.run([*command, "--repeats", str(arguments.repeats)], capture_output=True, text=True)
            if done.returncode:
                print(f"{way}: {done.stderr.strip().splitlines()[-1]}")
            else:
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    report(found)


def report(found):
    """The table; torch's memory holds the gradients that it makes, 33 MB."""
    medians = {way: statistics.median(t for one in runs for t in one["times"]) for way, runs in found.items() if runs}
    for way, median in medians.items():
        above, loss = max(one["megabytes"] for one in found[way]), found[way][0]["loss"]
        ratio = median / medians["minnet"]
        print(f"{way:28} {median:6.2f} s  {ratio:5.2f} x minnet  {above:6.0f} MB above the inputs  loss {loss:.6f}")


if __name__ == "__main__":
    main()
