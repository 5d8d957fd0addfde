"""Learning rates as functions of the epoch, for the `lr` of an optimizer.

A schedule is called with the number of epochs done, 0 in the first, and gives the rate of the next one; any function of
that kind serves as one: ``SGD(lr=lambda epoch: 0.5 / (epoch + 1))``. A constant rate is a plain number. A schedule with
a method `observe(row)` is shown the row of the history after each epoch, and what such a schedule remembers is its
`state`; it serves one optimizer. The optimizer counts the epochs, so that a schedule goes on in the next `fit`.
"""

import math

from minnet._checks import bad_type, bad_value, integer, number, words

__all__ = ["Cosine", "InverseScaling", "Plateau", "Step", "WarmUp"]


class Schedule:
    """Base of the schedules: a repr of the settings."""

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({settings})"


class Step(Schedule):
    """A fall by the same factor every so many epochs: lr factor^floor(epoch / every).

    Parameters
    ----------
    lr : float
        Where it starts, not negative.
    every : int
        Epochs between falls.
    factor : float
        Not negative.
    """

    def __init__(self, lr, *, every, factor=0.1):
        self.lr = number("Step", "lr", lr, 0)
        self.every = integer("Step", "every", every, 1)
        self.factor = number("Step", "factor", factor, 0)

    def __call__(self, epoch):  # noqa: D102
        return self.lr * self.factor ** (epoch // self.every)


class Cosine(Schedule):
    """Half a cosine from lr to `end`, and `end` from then on: end + (lr - end) (1 + cos(pi epoch / epochs)) / 2.

    Parameters
    ----------
    lr : float
        Where it starts, not negative.
    epochs : int
        How many it takes.
    end : float
        Where it ends, not negative.

    References
    ----------
    I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts, 2017.
    """

    def __init__(self, lr, *, epochs, end=0.0):
        self.lr = number("Cosine", "lr", lr, 0)
        self.epochs = integer("Cosine", "epochs", epochs, 1)
        self.end = number("Cosine", "end", end, 0)

    def __call__(self, epoch):  # noqa: D102
        share = (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2
        return self.end + (self.lr - self.end) * share


class InverseScaling(Schedule):
    """A fall as a power of the samples seen: lr / (1 + samples epoch)^power.

    With the number of training samples for `samples` it is scikit-learn's ``learning_rate="invscaling"``; with 1 it
    falls with the epochs.

    Parameters
    ----------
    lr : float
        Where it starts, not negative.
    power : float
        Not negative.
    samples : int
        How many an epoch counts for.
    """

    def __init__(self, lr, *, power=0.5, samples=1):
        self.lr = number("InverseScaling", "lr", lr, 0)
        self.power = number("InverseScaling", "power", power, 0)
        self.samples = integer("InverseScaling", "samples", samples, 1)

    def __call__(self, epoch):  # noqa: D102
        return self.lr / (1 + self.samples * epoch) ** self.power


class Plateau(Schedule):
    """A fall by the same factor whenever a loss has not fallen for more than `patience` epochs.

    The rule is that of torch's ReduceLROnPlateau with an absolute threshold; its defaults are those of scikit-learn's
    ``learning_rate="adaptive"``, which differs in that many gains below `min_delta` never add up to one.

    Parameters
    ----------
    lr : float
        Where it starts, not negative.
    factor : float in [0, 1]
        What a fall multiplies the rate by.
    patience : int
        Epochs without improvement that are borne.
    min_delta : float
        What counts as an improvement.
    min_lr : float
        No fall goes below it.
    monitor : str
        The column of the history; one whose name ends in "accuracy" must rise instead of fall.
    """

    def __init__(self, lr, *, factor=0.2, patience=10, min_delta=1e-4, min_lr=0.0, monitor="loss"):
        self.lr = number("Plateau", "lr", lr, 0)
        self.factor = number("Plateau", "factor", factor, 0, 1)
        self.patience = integer("Plateau", "patience", patience, 0)
        self.min_delta = number("Plateau", "min_delta", min_delta, 0)
        self.min_lr = number("Plateau", "min_lr", min_lr, 0)
        self.monitor = monitor
        self._rate, self._best, self._bad = self.lr, math.inf, 0

    def __call__(self, epoch):  # noqa: D102
        return self._rate

    def observe(self, row):
        """Compare the epoch that has ended with the best so far."""
        if self.monitor not in row:
            rule, hint = f"monitor must be a column of the history ({', '.join(row)})", "val_ needs validation_data"
            raise bad_value("Plateau", rule, self.monitor, hint)
        value = float(row[self.monitor])
        score = -value if self.monitor.endswith("accuracy") else value
        if score < self._best - self.min_delta:
            self._best, self._bad = score, 0
        else:
            self._bad += 1
        if self._bad > self.patience:
            self._rate, self._bad = min(self._rate, max(self._rate * self.factor, self.min_lr)), 0

    @property
    def state(self):
        """What it remembers, three numbers: the rate, the best score, the epochs without improvement."""
        return [self._rate, self._best, self._bad]

    @state.setter
    def state(self, state):
        if not isinstance(state, list) or len(state) != 3:
            raise bad_type("Plateau", "state must be a list of three numbers", state)
        rate, best, bad = state
        if not isinstance(best, float) or math.isnan(best):
            raise bad_value("Plateau", "the best score must be a float and not NaN", best)
        rate, bad = number("Plateau", "rate", rate, 0), integer("Plateau", "epochs", bad, 0)
        self._rate, self._best, self._bad = rate, best, bad


class WarmUp(Schedule):
    """A rise in equal steps to where another schedule starts, which follows: (epoch + 1) / (epochs + 1) of it.

    Parameters
    ----------
    schedule : float or callable
        What follows: a constant rate, or a schedule, whose own epochs begin when the rise has ended.
    epochs : int
        Epochs below the full rate.

    References
    ----------
    P. Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017.
    """

    def __init__(self, schedule, *, epochs):
        self.schedule = schedule if callable(schedule) else number("WarmUp", "schedule", schedule, 0)
        self.epochs = integer("WarmUp", "epochs", epochs, 1)

    def __call__(self, epoch):  # noqa: D102
        later = max(epoch - self.epochs, 0)
        rate = self.schedule(later) if callable(self.schedule) else self.schedule
        return rate * min((epoch + 1) / (self.epochs + 1), 1.0)

    def observe(self, row):
        """Show the row to the schedule that follows, from the first epoch on."""
        if hasattr(self.schedule, "observe"):
            self.schedule.observe(row)

    @property
    def state(self):
        """What the schedule that follows remembers."""
        return getattr(self.schedule, "state", None)

    @state.setter
    def state(self, state):
        if not hasattr(self.schedule, "state"):
            raise bad_value("WarmUp", "the schedule must remember something to go on from a state", words("none"))
        self.schedule.state = state
