"""
(o) Ten thousand nets
=====================

One net that learns XOR proves little: the next start or the next learning rate may fail. `Population` trains ten
thousand nets 2-8-1 at once, a thousand epochs in less than a second. So each point of a map can be a net of its own.
"""

# %%
# A hundred rates times a hundred scales of the starting weights of the output layer, each net with its own seed, under
# the quadratic cost of a sigmoid output and under cross-entropy. XOR counts as solved when the mean loss shows that no
# sample is wrong: one wrong answer of four alone costs (1/2)^2 / 2 / 4 or log(2) / 4.
import matplotlib.pyplot as plt
import numpy as np

import minnet as mn

X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
one_wrong = {"quadratic": 1 / 32, "bce": np.log(2) / 4}
titles = {"quadratic": "quadratic cost", "bce": "cross-entropy"}
rates, scales = np.geomspace(0.01, 1000, 100), np.geomspace(1, 1000, 100)


def epochs_to_solve(loss):
    scale = iter(np.repeat(scales, 100))  # one a net, in their order

    def start(rng, fan_in, fan_out):
        weights = mn.initializers.scaled(rng, fan_in, fan_out)
        return weights * next(scale) if fan_out == 1 else weights

    nets = mn.Population([2, 8, 1], members=10_000, loss=loss, init=start)
    history = nets.fit(X, y, lr=np.tile(rates, 100), epochs=1000, every=5)
    solved = history.loss < one_wrong[loss]
    return np.where(solved.any(axis=0), history.epoch[solved.argmax(axis=0)], np.inf).reshape(100, 100)


epochs = {loss: epochs_to_solve(loss) for loss in titles}

# %%
# From small and from large output weights: which share of the starts is solved at the rate that is best for the loss,
# and in how many epochs?
best = {}
for name, part in {"1 to 3": scales < 3, "30 to 100": (scales > 30) & (scales < 100)}.items():
    for loss in titles:
        share = np.mean(np.isfinite(epochs[loss][part]), axis=0)
        median = np.median(epochs[loss][part], axis=0)
        best[loss, name] = share.max(), median.min()
        print(f"scales {name}, {titles[loss]}: {share.max():.0%} solved, median {median.min():g} epochs")

# %%
# From small weights, where no output is saturated, both losses solve XOR from every start and about as soon, each at a
# rate of its own. From large ones no rate helps the quadratic cost, and cross-entropy learns at a small one. White nets
# have not solved XOR in a thousand epochs.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, (loss, title) in zip(axes, titles.items(), strict=True):
    values = np.where(np.isfinite(epochs[loss]), epochs[loss], np.nan)
    picture = ax.pcolormesh(rates, scales, values, norm="log", vmin=10, vmax=1000, cmap="viridis_r", rasterized=True)
    ax.set(title=title, xlabel="learning rate", xscale="log", yscale="log")
axes[0].set_ylabel("scale of the output weights")
figure.colorbar(picture, ax=axes, label="epochs to solve XOR")
plt.show()
