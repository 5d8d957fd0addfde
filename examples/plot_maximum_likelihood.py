"""
(g) The losses are likelihoods
==============================

Cross-entropy and squared error are the negative logarithm of a probability of the data: of yes and no, of one class of
several, of a normal distribution around the output. A net that minimizes one of them ends at what maximizes that
likelihood, and where the maximum is known in closed form, it must be met.
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

rng = np.random.default_rng(0)


def trained(X, y, loss, outputs, lr, epochs):
    """A net without hidden units, after so many steps down the gradient of all data."""
    net = mn.MLP([X.shape[1], outputs], dtype=np.float64, seed=0)
    mn.fit(net, X, y, loss=loss, optimizer=mn.SGD(lr=lr), epochs=epochs, batch_size=len(X))
    return net


# %%
# A coin, thrown 50 times: the likelihood is largest at the share of heads.
heads = (rng.random(50) < 2 / 3).astype(float)
coin = trained(np.zeros((50, 1)), heads, "bce", 1, lr=2.0, epochs=200).predict_proba(np.zeros((1, 1))).item()

# %%
# Three dice with four faces, thrown 600 times; a one-hot row tells which. It is largest at the frequencies of each die.
die = np.repeat(np.arange(3), 200)
face = np.concatenate([rng.choice(4, size=200, p=p) for p in rng.dirichlet(np.full(4, 4.0), size=3)])
frequencies = np.array([np.bincount(face[die == i], minlength=4) for i in range(3)]) / 200
dice = trained(np.eye(3)[die], face, "cross_entropy", 4, lr=2.0, epochs=800).predict_proba(np.eye(3))

# %%
# A line with normal noise: it is largest at the least squares.
x = rng.uniform(-1, 1, size=(40, 1))
y = 0.5 - 1.5 * x + rng.normal(scale=0.4, size=(40, 1))
net = trained(x, y, "mse", 1, lr=0.3, epochs=300)
line = np.array([net.layers[0].b[0], net.layers[0].W[0, 0]])
least = np.linalg.lstsq(np.hstack([np.ones_like(x), x]), y)[0][:, 0]

ends = {"coin": (coin, heads.mean()), "dice": (dice, frequencies), "line": (line, least)}
for name, (end, maximum) in ends.items():
    print(f"{name}: training ends {np.abs(end - maximum).max():.0e} from the maximum of the likelihood")

# %%
# Grey is computed from the data, colours come out of training.
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.5), layout="constrained")
p, places = np.append(np.linspace(0.3, 0.95, 200), coin), np.delete(np.arange(14), [4, 9])
likelihood = heads.sum() * np.log(p) + (1 - heads).sum() * np.log(1 - p)
left.plot(p[:-1], likelihood[:-1], color="0.6")
left.plot(coin, likelihood[-1], "o", color=COLORS["bce"])
left.set(xlabel="p of heads", ylabel="log-likelihood of the throws", title="binary cross-entropy")
middle.bar(places, frequencies.ravel(), color="0.8")
middle.plot(places, dice.ravel(), "o", color=COLORS["bce"])
middle.set(xlabel="four faces of three dice", ylabel="frequency, output", title="cross-entropy", xticks=[])
right.plot(x, y, ".", color="0.5")
right.plot([-1, 1], least @ [[1, 1], [-1, 1]], color="0.8", linewidth=5)
right.plot([-1, 1], line @ [[1, 1], [-1, 1]], color=COLORS["mse"])
right.set(xlabel="x", ylabel="y", title="squared error")
plt.show()
