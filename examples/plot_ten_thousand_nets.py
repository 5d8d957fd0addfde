"""
(o) Ten thousand nets
=====================

One net that learns XOR proves little: the next start or the next learning rate may fail. `Population` trains ten
thousand nets 2-8-1 at once, in a second or two, and so a loss can be judged by shares and distributions.
"""

# %%
# A hundred rates times a hundred starts, for cross-entropy and for the squared error of linear outputs. XOR counts as
# solved when the mean loss shows that no sample is wrong: a wrong answer of four alone costs log(2) / 4 or (1/2)^2 / 4.
import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
titles = {"mse": "squared error", "bce": "cross-entropy"}
one_wrong = {"mse": 0.5**2 / 4, "bce": np.log(2) / 4}
rates = np.geomspace(0.01, 100, 100)


def epochs_to_solve(loss, lr, seeds):
    nets = mn.Population([2, 8, 1], members=len(seeds), loss=loss, seeds=seeds)
    history = nets.fit(X, y, lr=lr, epochs=1000, every=10)
    solved = history.loss < one_wrong[loss]
    return np.where(solved.any(axis=0), history.epoch[solved.argmax(axis=0)], np.inf)


epochs = {
    loss: epochs_to_solve(loss, np.repeat(rates, 100), np.tile(np.arange(100), 100)).reshape(100, 100)
    for loss in titles
}
share = {loss: np.mean(np.isfinite(epochs[loss]), axis=1) for loss in titles}

# %%
# Then ten thousand starts for each loss, at the rate that was best for it.
best = {loss: rates[np.argmin(np.median(epochs[loss], axis=1))] for loss in titles}
starts = {loss: epochs_to_solve(loss, best[loss], np.arange(10_000)) for loss in titles}
for loss, title in titles.items():
    good, quantiles = rates[share[loss] >= 0.9], np.quantile(starts[loss], [0.01, 0.5, 0.99])
    print(f"{title}: nine of ten solved at rates {good[0]:.2f} to {good[-1]:.2f};", end=" ")
    print(f"at {best[loss]:.2f} {np.isfinite(starts[loss]).mean():.2%}, after {quantiles} epochs (1 %, 50 %, 99 %)")

# %%
# Cross-entropy solves XOR over a range of rates ten times as wide, and at its best rate in a quarter of the epochs.
# Its derivative a - y is bounded; that of the squared error grows with the error, and at larger rates so do the steps.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for loss, title in titles.items():
    left.semilogx(rates, 100 * share[loss], color=COLORS[loss], label=title)
    right.hist(starts[loss], np.arange(0, 1000, 10), color=COLORS[loss], label=f"{title}, rate {best[loss]:.2f}")
left.set(title="100 starts a rate", xlabel="learning rate", ylabel="solved within 1000 epochs, %")
right.set(title="10,000 starts at the best rate", xlabel="epochs to solve", ylabel="nets", xlim=(0, 600))
for ax in (left, right):
    ax.legend(frameon=False)
plt.show()
