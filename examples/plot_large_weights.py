"""
(m) Large starting weights: the slope that cross-entropy does not cancel
========================================================================

An error goes back through a layer times the slopes of its units, a (1 - a) for a sigmoid, and those are small where the
weights are large. Cross-entropy cancels the slopes of the *outputs*, as its derivative is divided by them. The slopes
of *hidden* units come in by the chain rule whatever the loss, and no loss cancels them.
"""

# %%
# In the nets 64-30-10 for the digits, either the hidden or the output weights start 4, 16, 64 or 256 times too large.
# How much of an error passes a layer at the start: the output error a - y, and what comes down to the hidden units?
import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

X, y, *_ = mn.datasets.holdout(*mn.datasets.digits(), seed=0)
target, scales = np.eye(10)[y], np.array([1, 4, 16, 64, 256])


def passed(layer, scale, loss):
    net = mn.MLP([64, 30, 10], seed=0)
    hidden, activation, output = net.layers
    (output if layer == "output" else hidden).W *= scale
    h = activation.forward(hidden.forward(X))
    z = output.forward(h)
    dz = mn.lab.LOSSES[loss].value_and_grad(z, target)[1] * len(X)
    dh = dz @ output.W.T
    before, after = (mn.functional.sigmoid(z) - target, dz) if layer == "output" else (dh, dh * h * (1 - h))
    return np.linalg.norm(after) / np.linalg.norm(before)


cases = [(layer, loss) for layer in ("output", "hidden") for loss in ("mse", "bce")]
share = {(layer, loss): np.array([passed(layer, scale, loss) for scale in scales]) for layer, loss in cases}
for (layer, loss), values in share.items():
    print(f"{layer} weights, {mn.lab.LOSSES[loss].title:14s} passes", *(f"{value:.3f}" for value in values))

# %%
# Do such nets learn? Three seeds, up to 12 epochs for an accuracy of 90 % on held-out digits.
saturated = {
    "output": mn.lab.map_networks(hidden_scale=1, output_scale=16, seeds=3, epochs=12),
    "hidden": mn.lab.map_networks(hidden_scale=256, output_scale=1, seeds=3, epochs=12),
}
for layer, nets in saturated.items():
    print(f"{layer} units saturated: {nets}")

# %%
# Left, cross-entropy passes the whole output error, however large the weights, and the quadratic cost hardly any of it.
# Right, the two lines are one: hidden units that are saturated keep all but a few per cent from the weights below them.
# So cross-entropy rescues nets whose outputs are saturated, and none whose hidden units are; small weights do.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for layer, loss in cases:
    ax, style = axes[int(layer == "hidden")], "o-" if loss == "mse" else "s--"
    ax.loglog(scales, share[layer, loss], style, color=COLORS[loss], label=mn.lab.LOSSES[loss].title)
    ax.set(title=f"error passed by the {layer} units", xlabel=f"scale of the {layer} layer's weights", ylim=(0.01, 1.5))
axes[0].legend(frameon=False)
plt.show()
