"""A map by two processes of a dask cluster, one of them killed in mid-run: prints what happened, as JSON."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

from minnet.lab import map_neurons, maps

maps.TILE = 2**13  # many tasks
GRID = {"w": np.linspace(-8, 8, 500), "b": np.linspace(-8, 8, 600), "epochs": 600}


def kill_a_worker(store, victim, report):
    """When some parts have come, and most have not."""
    while (finished := len(list(store.glob("*.npz")))) < 3:
        time.sleep(0.001)
    os.kill(victim, signal.SIGKILL)
    report |= {"killed": victim, "finished_when_killed": finished}


def main(folder):
    here = map_neurons(**GRID)
    local = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(**local) as cluster, Client(cluster) as client:
        workers, store = list(client.run(os.getpid).values()), folder / "parts"
        report = {"address": cluster.scheduler_address, "workers": workers}
        killer = threading.Thread(target=kill_a_worker, args=(store, workers[0], report), daemon=True)
        killer.start()
        there = map_neurons(**GRID, executor=client, store=store)
        killer.join(10)
        report["tasks"] = len(list(store.glob("*.npz")))
        report["workers_afterwards"] = list(client.run(os.getpid).values())
    report["same_bytes"] = all(getattr(here, a).tobytes() == getattr(there, a).tobytes() for a in ("epochs", "output"))
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
