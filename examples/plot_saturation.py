"""
(a) One neuron, two costs
=========================

A sigmoid neuron, a = sigmoid(w x + b), is to learn the output 0 for the input 1. It starts once a little wrong
(w = 0.6, b = 0.9, so a = 0.82) and once confidently wrong (w = b = 2, a = 0.98), and it follows its gradient with the
same learning rate 0.15 under the quadratic cost and under cross-entropy.
"""

import matplotlib.pyplot as plt

import minnet as mn
from minnet.lab.figures import COLORS

# %%
# The gradient of the quadratic cost (a - y)^2 / 2 carries the slope of the sigmoid,
#
# .. math:: \frac{\partial C}{\partial w} = (a - y) \, a (1 - a) \, x,
#
# and a (1 - a) is 0.018 at a = 0.98. In that of cross-entropy the slope cancels: (a - y) x.
starts = {"a little wrong": (0.6, 0.9), "confidently wrong": (2.0, 2.0)}
runs = {(loss, start): mn.lab.train_neuron(*starts[start], loss=loss) for loss in ("mse", "bce") for start in starts}
halved = {key: run.epochs_to_halve() for key, run in runs.items()}
for (loss, start), epochs in halved.items():
    print(f"{mn.lab.LOSSES[loss].title:14}  {start:17}  cost halved after {epochs:3} epochs")

# %%
# Under the quadratic cost the confidently wrong neuron hardly moves for 150 epochs. Under cross-entropy it is only
# a few epochs behind the other, and both end almost together.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, start in zip(axes, starts, strict=True):
    for loss in ("mse", "bce"):
        ax.plot(runs[loss, start].output, color=COLORS[loss], label=mn.lab.LOSSES[loss].title)
    ax.set(title=f"{start} at the start", xlabel="epoch", ylim=(0, 1))
axes[0].set_ylabel("output a (target 0)")
axes[0].legend(frameon=False)
plt.show()
