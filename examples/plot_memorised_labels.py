"""
(k) Zero loss is not learning
=============================

A net with more weights than it needs learns labels that are pure chance as well as true ones: its training loss says
nothing about what it knows. Weight decay makes memory dear, and there the two kinds of labels part.
"""

# %%
# The same 600 digits with their own labels and with these labels shuffled, under more and more weight decay.
import matplotlib.pyplot as plt
import numpy as np

import minnet as mn

X, y, X_test, y_test = mn.datasets.holdout(*mn.datasets.digits(), seed=0)
X, y = X[:600], y[:600]
labels = {"true": y, "shuffled": np.random.default_rng(0).permutation(y)}
decays = [0.0, 0.001, 0.003, 0.01, 0.03]


def trained(target, decay):
    net = mn.MLP([64, 128, 10], activation="relu", init="he", seed=0)
    optimizer = mn.SGD(lr=0.1, momentum=0.9, weight_decay=decay)
    history = mn.fit(net, X, target, loss="cross_entropy", optimizer=optimizer, epochs=150, batch_size=50, seed=0)
    return history["loss"][-1], np.mean(net.predict(X) == target), np.mean(net.predict(X_test) == y_test)


loss, train, test = (
    {kind: dict(zip(decays, column, strict=True)) for kind, column in zip(labels, columns, strict=True)}
    for columns in np.transpose([[trained(target, decay) for decay in decays] for target in labels.values()], (2, 0, 1))
)
for kind in labels:
    for d in decays:
        print(f"{kind}, decay {d:g}: loss {loss[kind][d]:.3f}, training {train[kind][d]:.1%}, test {test[kind][d]:.1%}")

# %%
# Without decay both nets are right on all of their training samples, with a loss near 0; on held-out digits one is
# right 97 times in a hundred, the other ten times. A decay of 0.003 takes away a third of what was learned by heart and
# nothing of what was understood. More decay ends memory, and in time knowledge, too. It is a price and no lock: Zhang
# et al. saw larger nets memorise in spite of it.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, title, accuracy in zip(axes, ("training accuracy", "test accuracy"), (train, test), strict=True):
    for kind in labels:
        ax.plot(range(len(decays)), accuracy[kind].values(), "o-", label=f"{kind} labels")
    ax.axhline(0.1, color="0.6", linewidth=0.8)
    ax.set(title=title, xlabel="weight decay", xticks=range(len(decays)), xticklabels=decays, ylim=(0, 1.03))
axes[0].legend(frameon=False)
plt.show()
