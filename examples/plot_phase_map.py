"""
(n) The phase map and its law
=============================

From how many starts does a sigmoid neuron learn, and how soon? In the limit of small steps its logit follows

.. math::
   \\frac{\\mathrm{d}z}{\\mathrm{d}t} = -k a \\ \\text{(cross-entropy)}, \\quad -k a^2 (1 - a) \\ \\text{(quadratic)},
   \\quad k = \\text{rate} \\cdot (1 + x^2).

Integrated, the plateau grows linearly with the depth of saturation under the one cost, exponentially under the other.
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

# %%
# A map of starts: 200 x 200 neurons under each cost. The law foretells each of them.
ends = np.linspace(-8, 8, 200)
pm = mn.lab.map_neurons(w=ends, b=ends, lr=0.15, epochs=300)
law = pm.law()
for loss, never in zip(pm.losses, pm.summary().never, strict=True):
    print(f"{mn.lab.LOSSES[loss].title}: {never:.1%} do not learn within 300 epochs")
print(f"the law is off by {np.nanmax(abs(pm.departure())):.1f} epochs at most")

# %%
# Starting logits and ever larger steps: the law is off by an epoch or two, always; that is little where there are many.
depth = mn.lab.map_neurons(z0=np.linspace(-1, 6, 211), lr=np.geomspace(0.002, 2, 13), epochs=130_000, dtype="float64")
relative = np.max(abs(depth.departure() / depth.law()), axis=1)  # (losses, rates)
steps = 2 * depth.axes["lr"]

# %%
# Left: white neurons are at their target from the start, grey ones need more than 300 epochs, lines are the law of 300
# and 50. Middle: epochs and law (dashed) at a rate of 0.2. Right: the largest relative difference from the law.
figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
for i, (loss, ax) in enumerate(zip(pm.losses, axes[:2], strict=True)):
    colors = plt.colormaps["viridis_r"].with_extremes(under="white", bad="0.85")
    picture = ax.imshow(pm.epochs[i].T, origin="lower", extent=(-8, 8, -8, 8), vmin=0.5, vmax=300, cmap=colors)
    ax.contour(ends, ends, law[i].T, [50, 300], colors="black", linewidths=1, linestyles="dashed")
    ax.set(title=mn.lab.LOSSES[loss].title, xlabel="weight w", ylabel="bias b")
    axes[2].semilogy(depth.axes["z0"], depth.epochs[i, :, 8], color=COLORS[loss], label=mn.lab.LOSSES[loss].title)
    axes[2].semilogy(depth.axes["z0"], depth.law()[i, :, 8], "k--", linewidth=0.9)
    axes[3].loglog(steps, relative[i], "o-", color=COLORS[loss], markersize=3)
figure.colorbar(picture, ax=axes[:2], label="epochs to learn")
axes[2].set(xlabel="starting logit z", ylabel="epochs to learn")
axes[2].legend(frameon=False)
axes[3].axhline(0.02, color="0.6", linewidth=0.8)
axes[3].set(xlabel="step k", ylabel="relative departure from the law")
plt.show()
