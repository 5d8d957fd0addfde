"""
(f) Cross-entropy is linear in the target
=========================================

An image may be a 3 with probability 0.6 and an 8 with 0.3. Whoever labels it names one class; the distribution t is
written down nowhere. Is a net then trained on the wrong thing? Not under cross-entropy: its gradient softmax(z) - t is
linear in t, so labels give on average the gradient of the distribution that they come from.
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

z, t = np.array([2.0, 0.0, -1.0, 0.5]), np.array([0.1, 0.6, 0.0, 0.3])
p = mn.functional.softmax(z)


def cross_entropy_gradients(targets):
    logits = np.tile(z, (len(targets), 1))
    return mn.functional.cross_entropy(logits, targets, reduction="none", return_grad=True)[1]


def absolute_gradients(targets):
    """Of sum(abs(p - t)) with respect to the logits, through the Jacobian of the softmax: p (s - sum(p s))."""
    s = np.sign(p - targets)
    return p * (s - (s * p).sum(axis=1, keepdims=True))


# %%
# The gradient of t itself, and means over n sampled labels, n from 1 to 512, each 1000 times. How far apart are they?
counts, repeats = 2 ** np.arange(10), 1000
rng = np.random.default_rng(0)
distance, bias = {}, {}
for loss, gradients in {"bce": cross_entropy_gradients, "mae": absolute_gradients}.items():
    exact = gradients(t[None])[0]
    distance[loss] = []
    for n in counts:
        labels = rng.choice(4, p=t, size=n * repeats)
        means = gradients(np.eye(4)[labels]).reshape(repeats, n, 4).mean(axis=1)
        distance[loss].append(((means - exact) ** 2).sum(axis=1))
    bias[loss] = means.mean(axis=0) - exact
    distance[loss] = np.array(distance[loss])

slope = np.polyfit(np.log(counts), np.log(distance["bce"].mean(axis=1)), 1)[0]
print(f"squared distance under cross-entropy falls as n to the power {slope:.3f}")
print("bias, seen in half a million labels:", {loss: b.round(4).tolist() for loss, b in bias.items()})

# %%
# Under cross-entropy the distance is noise alone, and falls as
#
# .. math:: \frac{1}{n} \Big( 1 - \sum_k t_k^2 \Big),
#
# the variance of a mean (dashed). The absolute error, whose gradient takes no more than the sign of p - t, has a bias:
# from n = 10 on, more labels do not help, as each of them says something else than t does.
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for loss, title in (("bce", "cross-entropy"), ("mae", "absolute error")):
    ax.loglog(counts, distance[loss].mean(axis=1), "o-", color=COLORS[loss], label=title)
ax.loglog(counts, (1 - t @ t) / counts, "--", color="0.3", label="variance of a mean of n labels")
ax.set(xlabel="labels n", ylabel="squared distance of gradients")
ax.legend(frameon=False)
plt.show()
