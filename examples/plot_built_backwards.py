r"""
(b) A loss built backwards
==========================

Wanted: a loss that makes a sigmoid neuron learn faster the more wrong it is, dC/dz = a - y. The chain rule says
dC/dz = dC/da a (1 - a), so the loss must have the slope

.. math:: \frac{\mathrm{d}C}{\mathrm{d}a} = \frac{a - y}{a (1 - a)}.

What is C? Suppose that nobody had told us. The slope can be integrated numerically, from the target to the output.
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

nodes, weights = np.polynomial.legendre.leggauss(100)  # Gauss's rule with 100 points, on [-1, 1]


def integral(slope, y, a):
    """The integral of slope(s, y) over s from y to a."""
    s = y + (a - y) * (nodes + 1) / 2
    return (a - y) / 2 * np.sum(weights * slope(s, y))


def wanted(s, y):
    return (s - y) / (s * (1 - s))


# %%
# It is compared with the binary cross-entropy, -y log(a) - (1 - y) log(1 - a), for three targets. A slope gives a loss
# up to a constant; the integral is 0 at a = y, so what cross-entropy is there, the entropy of the target, is taken off.
a = np.linspace(0.01, 0.99, 99)
targets = (0.0, 0.3, 1.0)
built, known = {}, {}
for y in targets:
    built[y] = np.array([integral(wanted, y, end) for end in a])
    entropy = mn.information.entropy([y, 1 - y])
    known[y] = mn.functional.binary_cross_entropy(a, np.full(99, y), reduction="none") - entropy
    print(f"target {y}: integral and cross-entropy differ by at most {np.abs(built[y] - known[y]).max():.0e}")

# %%
# Left: the wanted slope grows without bound towards the wrong end, as it must to make up for a (1 - a); that of the
# quadratic cost stays below 1. Right: what was integrated (dots) is cross-entropy (lines).
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(a, wanted(a, 0.0), color=COLORS["bce"], label="wanted: (a - y) / (a (1 - a))")
left.plot(a, a, color=COLORS["mse"], label="quadratic cost: a - y")
left.set(xlabel="output a (target 0)", ylabel="dC/da", ylim=(0, 20))
left.legend(frameon=False)
for y, style in zip(targets, ("-", "--", ":"), strict=True):
    right.plot(a, known[y], style, color=COLORS["bce"], label=f"cross-entropy, y = {y:g}")
    right.plot(a[::7], built[y][::7], "o", color="0.2", markersize=4, label="integral" if y == 1 else None)
right.set(xlabel="output a", ylabel="C less its least value", ylim=(0, 4.7))
right.legend(frameon=False, loc="upper center")
plt.show()
