"""The command `python -m benchmarks.hard_inputs`: losses and gradients where formulas break, by minnet and its peers.

Each case is one small batch. The exact result is computed by mpmath from the very floats, or written out where it is a
limit or a promise. A loss, and each entry of a gradient, is right within 4 eps of its dtype, or within the spacing of
subnormal numbers; where the input makes no sense, an error is right. The table is in Markdown, as in docs/losses.md.
"""

import importlib
import math
import sys
import warnings
from collections import namedtuple

import mpmath
import numpy as np

EPS_ALLOWED = 4
INF, NAN = math.inf, math.nan
IGNORED = -100
ERROR = "an error"

# `wanted`: None (by mpmath), ERROR, or an Answer. `at`: the entry of the gradient that the table shows.
Case = namedtuple("Case", "name loss x target options wanted at", defaults=({}, None, (0, 0)))
Answer = namedtuple("Answer", "value grad")  # grad None: not given

mp = mpmath.mp.clone()
mp.dps = 400  # 1 - p holds the digits of exp(-700)


# ---- the cases ----


def cases():
    """All of them, in the order of the table."""
    return [*confident(), *infinite(), *left_out(), *senseless(), *taken()]


def softmax_case(name, rows, target, dtype="float64", wanted=None, at=(0, 0), **options):
    """A case of cross_entropy."""
    return Case(name, "cross_entropy", np.array(rows, dtype), np.array(target), options, wanted, at)


def sigmoid_case(name, logit, target, dtype="float64", wanted=None):
    """A case of binary_cross_entropy_with_logits, one logit."""
    x, t = np.array([logit], dtype), np.array([target], dtype)
    return Case(name, "binary", x, t, {}, wanted, (0,))


def confident():
    """Where loss and gradient are exponentially small, or the logits large."""
    for dtype, gaps in (("float32", (17, 30, 80, 200)), ("float64", (37, 100, 700))):
        yield from (softmax_case(f"right by {gap}, {dtype}", [[gap, 0, 0]], [0], dtype) for gap in gaps)
    yield softmax_case("wrong by 200, float32", [[0, 200, 0]], [0], "float32")
    for offset in (1e8, 1e30):
        yield softmax_case(f"logits [v, v] with v = {offset:.0e}, float32", [[offset, offset]], [0], "float32")
    yield softmax_case("focal, gamma 0.5, right by 20, float32", [[20, 0]], [0], "float32", gamma=0.5)
    nothing = Answer(0, np.zeros((1, 2)))  # exp(-5000) is no float
    yield softmax_case("focal, gamma 0.5, right by 10000", [[1e4, 0]], [0], wanted=nothing, gamma=0.5)
    yield sigmoid_case("binary, logit 17, label 1, float32", 17, 1, "float32")
    yield sigmoid_case("binary, logit -17, label 0, float32", -17, 0, "float32")
    yield sigmoid_case("binary, logit 40, label 1", 40, 1)


def infinite():
    """Infinite logits."""
    soft = Answer(math.log(2), np.zeros((1, 3)))
    yield softmax_case("logits [-inf, 0, 0], target [0, 1/2, 1/2]", [[-INF, 0, 0]], [[0, 0.5, 0.5]], wanted=soft)
    hard = Answer(INF, np.array([[-1, 0.5, 0.5]]))
    yield softmax_case("logits [-inf, 0, 0], label 0", [[-INF, 0, 0]], [0], wanted=hard)
    for sign in (1, -1):
        for label in (1, 0):
            missed = (sign > 0) != label
            wanted = Answer(INF if missed else 0, np.array([sign if missed else 0]))
            yield sigmoid_case(
                f"binary, logit {'+' if sign > 0 else '-'}inf, label {label}", sign * INF, label, wanted=wanted
            )


def left_out():
    """Rows that do not count, or none at all: the mean of nothing is 0 by promise, not by mathematics."""
    for bad in (NAN, INF):
        wanted = Answer(math.log(2), np.array([[-0.5, 0.5], [0, 0]]))
        name = f"an ignored row of {bad}"
        yield softmax_case(name, [[0, 0], [bad, bad]], [0, IGNORED], wanted=wanted, at=(1, 0), ignore_index=IGNORED)
    nothing = Answer(0, np.zeros((2, 2)))
    yield softmax_case("all rows ignored", [[0, 1], [1, 0]], [IGNORED] * 2, wanted=nothing, ignore_index=IGNORED)
    empty = Case(
        "no rows", "cross_entropy", np.empty((0, 3)), np.empty(0, np.int64), wanted=Answer(0, np.empty((0, 3)))
    )
    yield empty._replace(at=None)


def senseless():
    """What no loss is defined for."""
    yield softmax_case("label 3 of 3 classes", [[1, 2, 3]], [3], wanted=ERROR)
    yield softmax_case("label -1", [[1, 2, 3]], [-1], wanted=ERROR)
    yield softmax_case("target [-1/2, 3/2]", [[1, 2]], [[-0.5, 1.5]], wanted=ERROR)
    yield sigmoid_case("binary, target 2", 1, 2, wanted=ERROR)


def taken():
    """What should simply work."""
    yield softmax_case("labels in int32", [[1, 2, 3]], [1], at=(0, 1))._replace(target=np.array([1], np.int32))
    wide = np.arange(12.0).reshape(2, 6) ** 2 / 64
    yield Case("every other column", "cross_entropy", wide[:, ::2], np.array([0, 2]))
    yield Case("rows and columns exchanged", "cross_entropy", wide.T, np.array([0, 1, 0, 1, 1, 0]))


# ---- what is right ----


def exact(case):
    """The answer in mpmath's numbers, rows averaged."""
    if case.wanted is not None:
        return case.wanted
    one_row = exact_binary if case.loss == "binary" else exact_row
    found = [one_row(case, z, t) for z, t in zip(case.x.tolist(), case.target.tolist(), strict=True)]
    value = sum(loss for loss, _ in found) / len(found)
    return Answer(value, np.array([grad for _, grad in found], object) / len(found))


def exact_row(case, z, label):
    """(1 - p)^gamma (-log p) for the label's p, and its gradient."""
    e, gamma = [mp.exp(mp.mpf(v)) for v in z], mp.mpf(case.options.get("gamma", 0))
    p = [v / sum(e) for v in e]
    q = sum(e[:label] + e[label + 1 :]) / sum(e)
    surprise = -mp.log(p[label])
    factor = q**gamma + (surprise * gamma * q ** (gamma - 1) * p[label] if gamma else 0)
    return q**gamma * surprise, [factor * (-q if k == label else p[k]) for k in range(len(z))]


def exact_binary(case, z, t):
    """log(1 + exp(z)) - t z, and sigmoid(z) - t."""
    z, t = mp.mpf(z), mp.mpf(t)
    return mp.log1p(mp.exp(z)) - t * z, 1 / (1 + mp.exp(-z)) - t


def is_right(got, wanted, dtype):
    """Whether a number is the nearest but a few, or the same infinity."""
    if not math.isfinite(got) or not mp.isfinite(wanted):
        return bool(got == wanted)
    info = np.finfo(dtype)
    error = abs(mp.mpf(float(got)) - wanted)
    return bool(error <= EPS_ALLOWED * float(info.eps) * abs(wanted) or error <= float(info.smallest_subnormal))


def faults(case, answer, wanted):
    """What is wrong in an answer, in words; nothing where it is right."""
    if wanted == ERROR:
        return [f"loss {shown(answer.value)}"]
    found = [] if is_right(answer.value, wanted.value, case.x.dtype) else [f"loss {shown(answer.value)}"]
    if answer.grad is None:
        return found
    if answer.grad.shape != case.x.shape:
        return [*found, f"gradient of shape {answer.grad.shape}"]
    entries = [i for i in np.ndindex(case.x.shape) if not is_right(answer.grad[i], wanted.grad[i], case.x.dtype)]
    if entries:
        found.append(f"gradient {shown(answer.grad[case.at if case.at in entries else entries[0]])}")
    return found


def shown(number):
    """Three digits, and 0 without a sign."""
    return f"{float(number) + 0.0:.3g}"


def verdict(contender, case):
    """The cell of a table: "right", what is wrong, or a dash where there is no such thing."""
    wanted = exact(case)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = contender(case)
    except Exception as error:  # whatever a peer raises is its answer; a TypeError is none to a number out of range
        return "right" if wanted == ERROR and not isinstance(error, TypeError) else type(error).__name__
    return "-" if answer is None else ", ".join(faults(case, answer, wanted)) or "right"


# ---- who answers ----


def with_minnet():
    """Its functions as they are."""
    from minnet import functional as F

    functions = {"cross_entropy": F.cross_entropy, "binary": F.binary_cross_entropy_with_logits}

    return lambda case: Answer(*functions[case.loss](case.x, case.target, return_grad=True, **case.options))


def with_torch():
    """torch.nn.functional; it has no focal loss, which is written out."""
    import torch

    nn = torch.nn.functional

    def run(case):
        x = torch.from_numpy(case.x).requires_grad_()
        target = torch.from_numpy(case.target)
        options = dict(case.options)
        gamma = options.pop("gamma", None)
        function = nn.binary_cross_entropy_with_logits if case.loss == "binary" else nn.cross_entropy
        value = function(x, target, **options, reduction="none" if gamma else "mean")
        if gamma:
            value = ((1 - torch.exp(-value)) ** gamma * value).mean()
        value.backward()
        return Answer(value.item(), x.grad.numpy())

    return run


def with_jax():
    """Its log_softmax and log_sigmoid in the formulas of optax, masked by where: it has no losses of its own."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def cross_entropy(x, target, gamma=0, ignore_index=None):
        log_p = jax.nn.log_softmax(x)
        if target.ndim == 1:
            losses = -jnp.take_along_axis(log_p, target[:, None], -1)[:, 0]
        else:
            losses = -jnp.sum(target * log_p, -1)
        if gamma:
            losses = (1 - jnp.exp(-losses)) ** gamma * losses
        if ignore_index is None:
            return losses.mean()
        return jnp.where(target == ignore_index, 0, losses).sum() / jnp.sum(target != ignore_index)

    def binary(x, target):
        return jnp.mean(-target * jax.nn.log_sigmoid(x) - (1 - target) * jax.nn.log_sigmoid(-x))

    def run(case):
        function = binary if case.loss == "binary" else cross_entropy
        value, grad = jax.value_and_grad(function)(jnp.array(case.x), jnp.array(case.target), **case.options)
        return Answer(float(value), np.asarray(grad))

    return run


def with_sklearn():
    """The losses of its linear models, which are private; labels out of range are left out, as memory is read there."""
    from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss

    def run(case):
        x, rows = case.x, len(case.x)
        whole = case.target.ndim == 1 and np.issubdtype(case.target.dtype, np.integer)
        inside = whole and case.target.min(initial=0) >= 0 and case.target.max(initial=0) < x.shape[-1]
        if case.options or not rows or not (case.loss == "binary" or inside):
            return None
        loss = HalfBinomialLoss() if case.loss == "binary" else HalfMultinomialLoss(n_classes=x.shape[1])
        value, grad = loss.loss_gradient(case.target.astype(x.dtype), x, np.full(rows, 1 / rows, x.dtype))
        return Answer(value.sum(), grad)

    return run


def with_log_loss():
    """sklearn.metrics.log_loss, of probabilities; it gives no gradient."""
    from sklearn.metrics import log_loss

    def run(case):
        if case.options or case.target.ndim > 1:
            return None
        if case.loss == "binary":
            p = np.stack([1 / (1 + np.exp(case.x)), 1 / (1 + np.exp(-case.x))], 1)
        else:
            e = np.exp(case.x - case.x.max(1, keepdims=True, initial=-INF))
            p = e / e.sum(1, keepdims=True)
        return Answer(log_loss(case.target, p, labels=range(p.shape[1])), None)

    return run


CONTENDERS = {
    "minnet": (with_minnet, "minnet"),
    "torch": (with_torch, "torch"),
    "jax": (with_jax, "jax"),
    "scikit-learn `_loss`": (with_sklearn, "sklearn"),
    "scikit-learn `log_loss`": (with_log_loss, "sklearn"),
}


def load(names=tuple(CONTENDERS)):
    """The contenders that are installed."""
    found = {}
    for name in names:
        make, module = CONTENDERS[name]
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        found[name] = make()
    return found


# ---- the table ----


def table(contenders):
    """Lines of Markdown: a case a row, a contender a column."""
    heads = ["case", "exact", *contenders]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for case in cases():
        cells = [case.name, wanted_text(case), *(verdict(run, case) for run in contenders.values())]
        yield f"| {' | '.join(cells)} |"


def wanted_text(case):
    """The exact answer in words: the loss, and one entry of the gradient."""
    wanted = exact(case)
    if wanted == ERROR:
        return ERROR
    return f"loss {shown(wanted.value)}" + ("" if case.at is None else f", gradient {shown(wanted.grad[case.at])}")


def main():
    """Print the table and who was there; 1 where minnet is wrong."""
    contenders = load()
    lines = list(table(contenders))
    print("\n".join(lines))
    modules = dict.fromkeys(CONTENDERS[name][1] for name in contenders)
    print("\n" + ", ".join(f"{name} {sys.modules[name].__version__}" for name in modules))
    return int(any(verdict(contenders["minnet"], case) != "right" for case in cases()))


if __name__ == "__main__":
    sys.exit(main())
