"""Data-parallel training: the ranks of a communicator make every step together, each from its own rows.

A step's gradient is that of the mean over the rows of all ranks: each adds its own, times what its rows count, to one
flat buffer, in which the loss and the counts ride, and one Allreduce sums the buffers. So the ranks hold the same bits
after every step. Of a communicator only `Get_rank`, `Get_size`, `Allreduce`, `bcast` and `Abort` are used, as mpi4py
has them; minnet itself imports no MPI.
"""

import contextlib
import sys
import time
import traceback
import zlib

import numpy as np

from minnet._checks import bad_type, bad_value, words
from minnet.losses import is_sum, weight_of

HEARD = 0.1  # seconds in which a launcher passes on what was printed; what it has not read when the job ends is lost
METHODS = ("Get_rank", "Get_size", "Allreduce", "bcast", "Abort")


def ranks_of(owner, comm):
    """Who trains together: the ranks of `comm`, or this process alone where there is no other."""
    if comm is None:
        return Alone()
    if isinstance(comm, type) or not all(callable(getattr(comm, name, None)) for name in METHODS):
        raise bad_type(owner, "comm must be a communicator such as mpi4py's MPI.COMM_WORLD", comm)
    return Ranks(owner, comm) if comm.Get_size() > 1 else Alone()


class Alone:
    """One process: whatever `Ranks` would ask the others is known already."""

    rank, size = 0, 1

    def agreed(self):
        return contextlib.nullcontext()

    def aborting(self):
        return contextlib.nullcontext()

    def start(self, run):
        pass

    def begin_epoch(self, run):
        pass

    def reduce(self, grads, value, loss, target):
        return value

    def follow(self, run, update):
        pass

    def means(self, sums, counts):
        return {name: total / counts[name] if counts[name] else 0.0 for name, total in sums.items()}

    def means_of_steps(self, sums, counts):
        return self.means(sums, counts)

    def end_epoch(self, row, params):
        return row

    def stopped(self, stop):
        return stop


class Ranks:
    """The ranks of a communicator, of which this process is one. Every method is called by all of them, or none."""

    def __init__(self, owner, comm):
        self.owner, self.comm, self.rank, self.size = owner, comm, comm.Get_rank(), comm.Get_size()
        self.alike = None  # an error that all ranks raise together

    # ---- errors ----

    @contextlib.contextmanager
    def agreed(self):
        """What is done inside succeeds on all ranks, or is an error on all of them."""
        error = None
        try:
            yield
        except BaseException as caught:
            error = caught
        failed = self._sum([float(error is not None and rank == self.rank) for rank in range(self.size)])
        if failed.any():
            first = int(np.argmax(failed))
            said = self.comm.bcast(f"{type(error).__name__}: {error}", root=first)
            raise error if error is not None else RuntimeError(f"{self.owner}: rank {first} failed: {said}")

    @contextlib.contextmanager
    def aborting(self):
        """An error of one rank alone would leave the others waiting for it: it is printed, and the job ends."""
        try:
            yield
        except BaseException as error:
            if error is not self.alike:
                said = f"{self.owner}: rank {self.rank} failed, and ends the job\n{traceback.format_exc()}"
                print(said, end="", file=sys.stderr, flush=True)
                time.sleep(HEARD)
                self.comm.Abort(1)
            raise

    # ---- a run ----

    def start(self, run):
        """Give all ranks the parameters and the optimizer's state of rank 0."""
        ours = {
            "parameters": f"{run.net.params.size} of {run.net.params.dtype}",
            "loss": type(run.loss).__name__,
            "epochs": run.epochs,
            "epochs done": run.epoch,
            "metrics": [metric.__name__ for metric in run.metrics],
            "validation_data": "none" if run.validation_data is None else "some",
        }
        has_state = hasattr(run.optimizer, "get_state")
        theirs, params, state, run.stop = self.comm.bcast(
            (ours, run.net.params, run.optimizer.get_state() if has_state else None, run.stop), root=0
        )
        with self.agreed():
            for name, value in theirs.items():
                if ours[name] != value:
                    raise bad_value(self.owner, f"{name} must be as on rank 0, {value}", words(f"{ours[name]}"))
            if self.rank:
                run.net.params[...] = params
                if state is not None:
                    run.optimizer.set_state(state, run.net.params)
        self.sent, self.received = (np.zeros(run.net.params.size + 3, run.net.params.dtype) for _ in range(2))

    def begin_epoch(self, run):
        """Give the other ranks generators of their own, which follow from that of rank 0 and from the rank."""
        self.rows, self.total = 0.0, 0.0
        state = self.comm.bcast(run.rng.bit_generator.state, root=0)
        if self.rank:
            run.rng = np.random.default_rng([self.rank, *repr(state).encode()])

    def reduce(self, grads, value, loss, target):
        """The loss of a step over the rows of all ranks; its gradient takes the place of this rank's in `grads`.

        None where no rank has rows. With the mean m_r of rank r, which has been divided by n_r, the mean over all is
        sum n_r m_r / sum n_r; so is its gradient. A loss that is a sum is summed.
        """
        n, rows = weight_of(loss, target) if len(target) else 0, len(target)
        with np.errstate(under="ignore", over="ignore"):  # a loss that overflows is seen as one
            if n:
                np.multiply(grads, n, out=self.sent[:-3])
            else:
                self.sent.fill(0)
            self.sent[-3:] = value * n, n, rows
            self.comm.Allreduce(self.sent, self.received)
            total, n, rows = self.received[-3:].tolist()
            divisor = 1.0 if is_sum(loss) else n or 1.0
            np.divide(self.received[:-3], divisor, out=grads)
        if not rows:
            return None
        value = total / divisor
        self.rows, self.total = self.rows + rows, self.total + value * (1.0 if is_sum(loss) else rows)
        return value

    def follow(self, run, update):
        """Make the steps of ranks that still have rows when this one has none left; ends when all have ended."""
        while (value := self.reduce(run.net.grads, 0.0, run.loss, ())) is not None:
            update(run, value)
            run.batch += 1

    def means(self, sums, counts):
        """Means over all ranks, from what this one has summed and counted under the same names."""
        totals = self._sum([*sums.values(), *(counts[name] for name in sums)]).tolist()
        return Alone().means(dict(zip(sums, totals, strict=False)), dict(zip(sums, totals[len(sums) :], strict=True)))

    def means_of_steps(self, sums, counts):
        """The same after an epoch, with the loss that the steps of all ranks had."""
        return self.means(sums, counts) | {"loss": self.total / self.rows}

    def end_epoch(self, row, params):
        """Rank 0's row of the history, times included; an error where the parameters are not the same bits."""
        row, checksum = self.comm.bcast((row, zlib.crc32(params)), root=0)
        if zlib.crc32(params) != checksum:
            hint = "did a callback change them, or are the CPUs or the optimizers of different kinds?"
            got = words(f"others on rank {self.rank}")
            raise bad_value(self.owner, "parameters must be the same bits on all ranks", got, hint)
        return row

    def stopped(self, stop):
        """Whether rank 0 stops, and so all."""
        return self.comm.bcast(stop, root=0)

    def _sum(self, numbers):
        """Sums over all ranks, in float64."""
        ours = np.array(numbers, np.float64)
        sums = np.empty_like(ours)
        self.comm.Allreduce(ours, sums)
        return sums
