"""A map that is killed with SIGKILL at random moments and called again until it is done: prints its deaths as JSON."""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from minnet.lab import map_neurons, maps

maps.TILE = 2**10  # many tasks


def work(folder, name, reduce):
    """The whole map, in a process of its own; gives its number."""
    process, code = os.fork(), 1
    if not process:
        try:
            grid = {"w": np.linspace(-8, 8, 220), "b": np.linspace(-8, 8, 250), "epochs": 1500}
            map_neurons(**grid, reduce=reduce, store=folder / name).save(folder / f"{name}.npz")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def end(process):
    """How it ended: 0, or the signal, negative."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code not in (0, -signal.SIGKILL):
        sys.exit("a map failed")
    return code


def main(folder, reduce):
    started = time.monotonic()
    end(work(folder, "whole", reduce))
    whole = time.monotonic() - started
    seed = time.time_ns()
    times, exits, finished = np.random.default_rng(seed), [], []
    while 0 not in exits:
        process = work(folder, "killed", reduce)
        if len(exits) < 12:
            time.sleep(times.uniform(0.02, 0.25) * whole)
            os.kill(process, signal.SIGKILL)
        exits.append(end(process))
        finished.append(len(list((folder / "killed").glob("*.npz"))))
    print(json.dumps({"seed": seed, "exits": exits, "finished": finished}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), None if sys.argv[2] == "whole" else sys.argv[2])
