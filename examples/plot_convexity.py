r"""
(d) Squared error through a sigmoid is not convex
=================================================

The square of a line is a bowl. That of a sigmoid is not: with y = 0 the quadratic cost is a^2 / 2, which is level at
both ends. Cross-entropy is log(1 + exp(z)), and bends upwards everywhere:

.. math::
   \frac{\mathrm{d}^2 C}{\mathrm{d}z^2} = a^2 (1 - a) (2 - 3 a) \ \text{(quadratic)}, \qquad
   a (1 - a) \ \text{(cross-entropy)}.
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

# %%
# The curvature is measured, by differences of the gradients that the costs of the lab give.
z = np.linspace(-8, 8, 1601)
cost, slope, curvature = {}, {}, {}
for loss in ("mse", "bce"):
    pairs = [mn.lab.LOSSES[loss].value_and_grad(np.array([point]), np.zeros(1)) for point in z]
    cost[loss], slope[loss] = np.array([value for value, _ in pairs]), np.array([dz[0] for _, dz in pairs])
    curvature[loss] = np.gradient(slope[loss], z)
turns = z[np.flatnonzero(np.diff(np.sign(curvature["mse"])))]
print(f"the curvature of the quadratic cost changes its sign at z = {turns} only, cross-entropy's nowhere")

# %%
# Sums of bowls are bowls, sums of steps are stairs. Two samples share one weight: x = 8 is to give 0, x = -0.5 is to
# give 0.1. The first wants w < 0, the second w = 4.4.
x, y = np.array([[8.0, -0.5]]), np.array([[0.0, 0.1]])
w = np.linspace(-3, 8, 1101)
both = {loss: np.array([mn.lab.LOSSES[loss](v * x, y) for v in w]) for loss in ("mse", "bce")}
minima = {loss: w[1:-1][(c[1:-1] < c[:-2]) & (c[1:-1] < c[2:])] for loss, c in both.items()}
print("minima at w =", {mn.lab.LOSSES[loss].title: at.round(2).tolist() for loss, at in minima.items()})

# %%
# Left and middle: beyond z = log 2 (grey) the quadratic cost bends down to a plateau, where being wrong costs the most
# and moving changes nothing. Right: with two samples there is a second valley, far above the first, and descent from
# w = 2 ends in it. Cross-entropy has one valley.
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.5), layout="constrained")
for loss in ("mse", "bce"):
    axes[0].plot(z, cost[loss], color=COLORS[loss], label=mn.lab.LOSSES[loss].title)
    axes[1].plot(z, curvature[loss], color=COLORS[loss])
    above = both[loss] - both[loss].min()
    axes[2].plot(w, above, color=COLORS[loss])
    axes[2].plot(minima[loss], np.interp(minima[loss], w, above), "o", color=COLORS[loss])
axes[0].set(xlabel="logit z (target 0)", ylabel="cost C", ylim=(0, 3))
axes[1].set(xlabel="logit z (target 0)", ylabel="curvature of C")
axes[2].set(xlabel="weight w (two samples)", ylabel="cost C, less its least value", ylim=(-0.03, 0.8))
for ax in axes[:2]:
    ax.axvspan(turns[0], 8, color="0.93", zorder=0)
axes[0].legend(frameon=False)
plt.show()
