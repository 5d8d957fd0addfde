"""Optimizers: one step on a flat vector of parameters. They know vectors, not models.

``step(params, grads)`` writes to `params` and reads `grads`; whatever is remembered between steps (velocity, means)
starts at zero at the first step and stays with the optimizer, so that training may be taken up again. A learning rate
that is a schedule is a function of the epochs done, which ``end_epoch`` counts; `fit` calls it.
"""

import copy
import math

import numpy as np

from minnet import _updates
from minnet._checks import bad_type, bad_value, choice, integer, number, real_array, words
from minnet._rooms import room, zeros_beside
from minnet._threads import standing_team
from minnet.functional._share import NONE, by_dtype

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]

SGD_UPDATE, MOMENTUM_UPDATE = by_dtype(_updates.sgd_update), by_dtype(_updates.momentum_update)
ADAM_UPDATE, RMSPROP_UPDATE = by_dtype(_updates.adam_update), by_dtype(_updates.rmsprop_update)

# Parameters a thread that shares a step, at least: with two times as many, calling a helper that sleeps gains what it
# costs (measured in docs/numerics.md).
SHARE = 2**18


class Optimizer:
    """Base of the optimizers: what all of them take, and state vectors as long as the parameters.

    Parameters
    ----------
    lr : float or callable
        Learning rate, not negative, or a schedule: a function of the number of epochs done, see `minnet.schedules`.
    weight_decay : float
        Not negative; what it does, each optimizer says.
    decay_biases : bool
        False leaves parameters of one axis, such as biases, out of weight decay.
    clip_norm : float, optional
        A gradient whose Euclidean norm, over all parameters together, is larger is scaled down to this norm.
    clip_value : float, optional
        Every entry of the gradient is brought into [-clip_value, clip_value]. Give one of the two.
    groups : dict, optional
        Other settings "lr" and "weight_decay" for parameters of some name or beginning of a name:
        ``{"0.W": {"lr": 0.01}}``, or ``{"0": {"lr": 0.0}}`` to keep a whole layer as it is. The longest name that fits
        holds.
    """

    slots = ()  # names of the state vectors

    def __init__(self, lr, weight_decay, *, decay_biases=True, clip_norm=None, clip_value=None, groups=None):
        owner = type(self).__name__
        self._rates, self._parts = {}, None
        self.lr = lr
        self.weight_decay = number(owner, "weight_decay", weight_decay, 0)
        self.decay_biases = bool(decay_biases)
        if clip_norm is not None and clip_value is not None:
            raise bad_value(owner, "clip_norm and clip_value exclude each other", (clip_norm, clip_value))
        self.clip_norm = clip_norm if clip_norm is None else number(owner, "clip_norm", clip_norm, 0, above=True)
        self.clip_value = clip_value if clip_value is None else number(owner, "clip_value", clip_value, 0, above=True)
        self.groups = _checked_groups(owner, {} if groups is None else groups)
        self.state, self.steps, self.epochs = {}, 0, 0

    # ---- the learning rate ----

    @property
    def lr(self):
        """The learning rate as it was given: a number or a schedule. It may be set between steps."""
        return self._lr

    @lr.setter
    def lr(self, lr):
        self._lr = _checked_lr(type(self).__name__, lr)
        self._rates.clear()

    @property
    def rate(self):
        """The learning rate of this epoch, a number."""
        return self._rate(None, self._lr)

    def _rate(self, group, lr):
        """A rate as a number; a schedule is asked once an epoch."""
        if type(lr) is float or not callable(lr):
            return lr
        if group not in self._rates:
            self._rates[group] = number(type(self).__name__, f"lr after {self.epochs} epochs", lr(self.epochs), 0)
        return self._rates[group]

    def end_epoch(self, row=None):
        """Count an epoch; schedules that watch a loss read it from `row`, a dict such as {"loss": 0.3}."""
        for schedule in self._schedules():
            if hasattr(schedule, "observe"):
                schedule.observe(row or {})
        self.epochs += 1
        self._rates.clear()

    def _schedules(self):
        """All schedules, each once, in a fixed order."""
        rates = [self.lr, *(settings.get("lr") for settings in self.groups.values())]
        return list({id(lr): lr for lr in rates if callable(lr)}.values())

    # ---- which parameter is where ----

    def assign(self, named_parameters):
        """Tell which slice is which parameter: what `groups` and ``decay_biases=False`` need. `fit` does it.

        Parameters
        ----------
        named_parameters : list of (str, ndarray)
            In their order in the flat vector, as ``net.named_parameters()`` gives them.
        """
        self._parts, start, missing, names = [], 0, set(self.groups), []
        for name, array in named_parameters:
            fitting = [key for key in self.groups if f"{name}.".startswith(f"{key}.")]
            group = max(fitting, key=len, default=None)
            decays = self.decay_biases or np.ndim(array) > 1
            stop = start + np.size(array)
            if self._parts and self._parts[-1][2:] == (group, decays):
                start = self._parts.pop()[0]
            self._parts.append((start, stop, group, decays))
            start, missing = stop, missing.difference(fitting)
            names.append(name)
        if missing:
            shown = ", ".join(names if len(names) <= 8 else [*names[:6], "...", names[-1]])
            rule = f"groups must name parameters of the model ({shown}) or begin as they do"
            raise bad_value(type(self).__name__, rule, sorted(missing)[0])

    def _groups_of(self, params):
        """Slices that are updated alike, with their settings: (start, stop, lr, weight_decay)."""
        owner = type(self).__name__
        if self._parts is None:
            rule, hint = "groups and decay_biases=False need assign(net.named_parameters())", "fit calls it"
            raise bad_value(owner, rule, words("no names"), hint)
        assigned = self._parts[-1][1] if self._parts else 0
        if assigned != len(params):
            raise bad_value(owner, f"params must have the {assigned} entries that assign was told of", len(params))
        parts = []
        for start, stop, group, decays in self._parts:
            settings = self.groups.get(group, {})
            decay = settings.get("weight_decay", self.weight_decay) if decays else 0.0
            parts.append((start, stop, self._rate(group, settings.get("lr", self._lr)), decay))
        return parts

    # ---- a step ----

    def step(self, params, grads):
        """Update `params` (P,) in place from `grads` (P,), both float32 or both float64."""
        grads = self._checked(params, grads)
        if self.clip_norm is not None or self.clip_value is not None:
            grads = self._clipped(grads)
        if self.groups or not self.decay_biases:
            parts = self._groups_of(params)
        else:
            parts = [(0, len(params), self.rate, self.weight_decay)]
        for name in self.slots:
            if name not in self.state:
                self.state[name] = zeros_beside(params)
        self.steps += 1
        team = standing_team(len(params) // SHARE)
        for start, stop, lr, decay in parts:
            if stop - start == len(params):
                self._update(params, grads, self.state, lr, decay, team)
            else:
                state = {name: vector[start:stop] for name, vector in self.state.items()}
                self._update(params[start:stop], grads[start:stop], state, lr, decay, team)

    def _checked(self, params, grads):
        """`grads`, if both vectors fit each other and what is remembered."""
        owner = type(self).__name__
        if not isinstance(params, np.ndarray) or params.ndim != 1 or params.dtype.char not in "fd":
            raise bad_type(owner, "params must be a flat array of float32 or float64", params)
        if not (params.flags.c_contiguous and params.flags.writeable):
            raise bad_value(owner, "params must be writable and contiguous", params.flags)
        grads = real_array(owner, "grads", grads)
        if grads.shape != params.shape or grads.dtype != params.dtype:
            raise bad_value(owner, f"grads must be {params.shape} of {params.dtype}", (grads.shape, str(grads.dtype)))
        for kept in self.state.values():
            if kept.shape != params.shape or kept.dtype != params.dtype:
                rule = f"params must be as at the first step, {kept.shape} of {kept.dtype}"
                raise bad_value(owner, rule, (params.shape, str(params.dtype)), "one optimizer serves one model")
        return grads

    def _clipped(self, grads):
        """`grads`, or a clipped copy. A norm that is not finite cannot be scaled to another: it is left to be seen."""
        if self.clip_value is not None:
            return np.clip(grads, -self.clip_value, self.clip_value, out=room(grads.shape, grads.dtype))
        largest = float(max(np.max(grads, initial=0.0), -np.min(grads, initial=0.0)))
        if not 0 < largest < math.inf:
            return grads
        # Entries are brought to size 1 first: squares of 1e-30 or 1e30 leave the range of float32, their root does not.
        with np.errstate(under="ignore"):
            unit = np.divide(grads, grads.dtype.type(largest), out=room(grads.shape, grads.dtype))
            norm = math.sqrt(np.sum(np.square(unit, dtype=np.float64, out=room(grads.shape, np.float64))))
            clips = largest * norm > self.clip_norm
            return np.multiply(unit, self.clip_norm / norm, out=unit) if clips else grads

    # ---- to be saved ----

    def get_state(self):
        """What is remembered, a dict of numbers, lists and vectors: the optimizer's own, not copies."""
        schedules = [getattr(schedule, "state", None) for schedule in self._schedules()]
        kind = {"kind": type(self).__name__, "steps": self.steps, "epochs": self.epochs}
        return kind | {"schedules": schedules, "vectors": dict(self.state)}

    def set_state(self, state, params):
        """Go on from what `get_state` gave for an optimizer of the same settings and for parameters like `params`."""
        owner = f"{type(self).__name__}.set_state"
        if not isinstance(state, dict) or set(state) != {"kind", "steps", "epochs", "schedules", "vectors"}:
            raise bad_type(owner, "state must be what get_state gave", state)
        choice(owner, "kind", state["kind"], [type(self).__name__])
        steps, epochs = (integer(owner, name, state[name], 0) for name in ("steps", "epochs"))
        vectors, schedules = state["vectors"], self._schedules()
        names = set(self.slots) if steps else set()
        if not isinstance(vectors, dict) or set(vectors) != names:
            raise bad_value(owner, f"vectors must be {sorted(names)}", words(f"{vectors!r:.200}"), "other settings?")
        for name, v in vectors.items():
            if not isinstance(v, np.ndarray) or v.shape != params.shape or v.dtype != params.dtype:
                raise bad_value(owner, f"{name} must be {params.shape} of {params.dtype}", words(f"{v!r:.200}"))
        if not isinstance(state["schedules"], list) or len(state["schedules"]) != len(schedules):
            raise bad_value(owner, f"schedules must be {len(schedules)} states", state["schedules"], "other settings?")
        remembered = [getattr(schedule, "state", None) is not None for schedule in schedules]
        if [kept is not None for kept in state["schedules"]] != remembered:
            raise bad_value(owner, "schedules must remember what they have kept", state["schedules"], "other settings?")
        for targets in (copy.deepcopy(schedules), schedules):  # a state that does not fit is found by the copies
            for schedule, kept in zip(targets, state["schedules"], strict=True):
                if kept is not None:
                    schedule.state = kept
        self.state = {name: zeros_beside(params) for name in vectors}
        for name, v in vectors.items():
            self.state[name][:] = v
        self.steps, self.epochs = steps, epochs
        self._rates.clear()


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay as in torch.

    d = g + weight_decay w;  v = momentum v + d;  w = w - lr v, or w - lr (d + momentum v) with `nesterov`.

    Parameters
    ----------
    lr : float or callable
        Learning rate, not negative, or a schedule (`minnet.schedules`).
    momentum : float in [0, 1]
        The share of the last step that is kept.
    nesterov : bool
        Look ahead along the velocity.
    weight_decay : float
        Strength of the penalty weight_decay |w|^2 / 2.
    **shared
        decay_biases, clip_norm, clip_value, groups: see `Optimizer`.

    References
    ----------
    I. Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.
    """

    def __init__(self, lr=0.01, *, momentum=0.0, nesterov=False, weight_decay=0.0, **shared):
        super().__init__(lr, weight_decay, **shared)
        self.momentum = number("SGD", "momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        if nesterov and not momentum:
            raise bad_value("SGD", "nesterov needs a momentum above 0", momentum)
        self.slots = ("velocity",) if momentum else ()

    def _update(self, w, g, state, lr, decay, team):
        if self.momentum:
            MOMENTUM_UPDATE[w.dtype.char](g, w, state["velocity"], lr, self.momentum, self.nesterov, decay, team)
        else:
            SGD_UPDATE[w.dtype.char](g, w, lr, decay, team)

    def __repr__(self):
        return f"SGD(lr={_shown(self.lr)}, momentum={self.momentum:g})"


class Adam(Optimizer):
    """Steps of a size that adapts to each parameter, as in torch.

    d = g + weight_decay w;  m = beta1 m + (1 - beta1) d;  v = beta2 v + (1 - beta2) d^2;
    w = w - lr m' / (sqrt(v') + eps) with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t); eps stands outside the root.

    Parameters
    ----------
    lr : float or callable
        Learning rate, not negative, or a schedule (`minnet.schedules`).
    betas : (float, float), each in [0, 1)
        How much of the running means of the gradient and of its square is kept a step.
    eps : float
        Added to the root, above 0.
    weight_decay : float
        Strength of the penalty weight_decay |w|^2 / 2; it goes through the means. `AdamW` decays beside them.
    **shared
        decay_biases, clip_norm, clip_value, groups: see `Optimizer`.

    References
    ----------
    D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, 2015.
    """

    slots = ("mean", "square")
    decoupled = False

    def __init__(self, lr=0.001, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **shared):
        super().__init__(lr, weight_decay, **shared)
        owner = type(self).__name__
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise bad_type(owner, "betas must be two numbers", betas) from None
        self.betas = number(owner, "betas[0]", beta1, 0, 1), number(owner, "betas[1]", beta2, 0, 1)
        if 1 in self.betas:
            raise bad_value(owner, "betas must be less than 1", betas)
        self.eps = number(owner, "eps", eps, 0, above=True)

    def _update(self, w, g, state, lr, decay, team):
        decay, shrink = (0.0, lr * decay) if self.decoupled else (decay, 0.0)
        m, v = state["mean"], state["square"]
        ADAM_UPDATE[w.dtype.char](g, w, m, v, lr, *self.betas, self.eps, decay, shrink, self.steps, team)

    def __repr__(self):
        return f"{type(self).__name__}(lr={_shown(self.lr)})"


class AdamW(Adam):
    """Adam with decoupled weight decay, as in torch: weights shrink by the same share, whatever their gradients.

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
    w = (1 - lr weight_decay) w - lr m' / (sqrt(v') + eps) with m' and v' as in `Adam`; eps stands outside the root.

    Parameters
    ----------
    lr, betas, eps
        As in `Adam`.
    weight_decay : float
        Each step takes the share lr weight_decay off the weights.
    **shared
        decay_biases, clip_norm, clip_value, groups: see `Optimizer`.

    References
    ----------
    I. Loshchilov and F. Hutter, Decoupled weight decay regularization, 2019.
    """

    decoupled = True

    def __init__(self, lr=0.001, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, **shared):
        super().__init__(lr, betas=betas, eps=eps, weight_decay=weight_decay, **shared)


class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square, as in torch.

    d = g + weight_decay w;  s = alpha s + (1 - alpha) d^2;
    v = momentum v + d / (sqrt(s) + eps);  w = w - lr v; eps stands outside the root.
    With `centered`, s = alpha (s + (1 - alpha) (d - m)^2) is the running variance, with the running mean m of d. It is
    the mean square less m^2, but without the cancellation that can make it negative in rounding, and its root NaN.

    Parameters
    ----------
    lr : float or callable
        Learning rate, not negative, or a schedule (`minnet.schedules`).
    alpha : float in [0, 1)
        How much of the running means is kept a step.
    eps : float
        Added to the root, above 0.
    momentum : float in [0, 1]
        The share of the last step that is kept.
    centered : bool
        Divide by the root of the variance.
    weight_decay : float
        Strength of the penalty weight_decay |w|^2 / 2.
    **shared
        decay_biases, clip_norm, clip_value, groups: see `Optimizer`.

    References
    ----------
    T. Tieleman and G. Hinton, Lecture 6.5, COURSERA: Neural networks for machine learning, 2012; centered: A. Graves,
    Generating sequences with recurrent neural networks, 2013, eq. 38.
    """

    def __init__(self, lr=0.01, *, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0, **shared):
        super().__init__(lr, weight_decay, **shared)
        self.alpha = number("RMSprop", "alpha", alpha, 0, 1)
        if alpha == 1:
            raise bad_value("RMSprop", "alpha must be less than 1", alpha)
        self.eps = number("RMSprop", "eps", eps, 0, above=True)
        self.momentum = number("RMSprop", "momentum", momentum, 0, 1)
        self.centered = bool(centered)
        self.slots = ("square", *(["mean"] if centered else []), *(["velocity"] if momentum else []))

    def _update(self, w, g, state, lr, decay, team):
        none = NONE[w.dtype.char]
        s, m, v = state["square"], state.get("mean", none), state.get("velocity", none)
        RMSPROP_UPDATE[w.dtype.char](g, w, s, m, v, lr, self.alpha, self.eps, self.momentum, decay, team)

    def __repr__(self):
        return f"RMSprop(lr={_shown(self.lr)}, momentum={self.momentum:g})"


def _checked_lr(owner, lr):
    return lr if callable(lr) and not isinstance(lr, type) else number(owner, "lr", lr, 0)


def _checked_groups(owner, groups):
    """A copy, with numbers checked."""
    if not isinstance(groups, dict) or not all(isinstance(settings, dict) for settings in groups.values()):
        raise bad_type(owner, "groups must be a dict of dicts", groups, 'such as {"0.W": {"lr": 0.01}}')
    checked = {}
    for name, settings in groups.items():
        if not isinstance(name, str):
            raise bad_type(owner, "a group must have a name", name, "such as '0' or '0.W'")
        for key in settings:
            choice(owner, f"a setting of group {name!r}", key, ["lr", "weight_decay"])
        checked[name] = dict(settings)
        if "lr" in settings:
            checked[name]["lr"] = _checked_lr(owner, settings["lr"])
        if "weight_decay" in settings:
            checked[name]["weight_decay"] = number(owner, "weight_decay", settings["weight_decay"], 0)
    return checked


def _shown(lr):
    return repr(lr) if callable(lr) else f"{lr:g}"
