"""A map by the processes of an MPI job (`mpiexec -n 3 python -m mpi4py.futures map_on_mpi.py`): prints JSON."""

import json
import time

import numpy as np
from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor

from minnet.lab import map_neurons, maps, run_tasks

maps.TILE = 2**13  # many tasks
GRID = {"w": np.linspace(-8, 8, 150), "b": np.linspace(-8, 8, 200)}


def rank():
    time.sleep(0.1)  # the others get some
    return MPI.COMM_WORLD.Get_rank()


if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        there = map_neurons(**GRID, executor=executor)
        ranks = set(run_tasks(rank, [()] * 6, executor=executor))
    here = map_neurons(**GRID)
    same = all(getattr(here, a).tobytes() == getattr(there, a).tobytes() for a in ("epochs", "output"))
    print(json.dumps({"ranks": sorted(ranks), "same_bytes": same}))
