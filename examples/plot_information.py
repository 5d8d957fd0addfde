r"""
(h) Entropy, and what a wrong belief costs
==========================================

Eight horses win with probabilities 1/2, 1/4, 1/8, 1/16 and four times 1/64. The winners of many races are sent in
bits. Whoever knows p gives horse k a word of -log p_k bits; whoever believes q, one of -log q_k. The mean length is the
cross-entropy, the least one is the entropy, and what a wrong belief costs is the divergence:

.. math:: H(p, q) = -\sum_k p_k \log_2 q_k = H(p) + \mathrm{KL}(p \,\|\, q).
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

info = mn.information
p, q = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 64, 1 / 64, 1 / 64, 1 / 64]), np.full(8, 1 / 8)
words = ["0", "10", "110", "1110", "111100", "111101", "111110", "111111"]
length = sum(share * len(word) for share, word in zip(p, words, strict=True))
bits = {"H(p)": info.entropy(p, base=2), "H(p, q)": info.cross_entropy(p, q, base=2)}
bits |= {"KL(p || q)": info.kl_divergence(p, q, base=2), "KL(q || p)": info.kl_divergence(q, p, base=2)}
print("words", *words, f"are {length:g} bits a race")
print(", ".join(f"{name} = {value:.4g}" for name, value in bits.items()))

# %%
# The divergence is not a distance: it matters which of the two is taken for the other. Here p has two humps, q is a
# normal curve, and all means and widths are tried. KL(p || q), which cross-entropy minimizes, wants q nowhere small
# where p is not, and covers both humps; KL(q || p) wants q small wherever p is, and picks one.
x = np.linspace(-6, 6, 121)


def normal(mean, width):
    density = np.exp(-(((x - mean) / width) ** 2) / 2)
    return density / density.sum(axis=-1, keepdims=True)


humps = 0.6 * normal(-2, 0.7) + 0.4 * normal(2, 0.7)
means, widths = np.linspace(-3, 3, 61), np.linspace(0.5, 3, 51)
curves = normal(means[:, None, None], widths[:, None])
best = {}
for name, kl in (("KL(p || q)", info.kl_divergence(humps, curves)), ("KL(q || p)", info.kl_divergence(curves, humps))):
    row, column = np.unravel_index(np.argmin(kl), kl.shape)
    best[name] = (means[row], widths[column], kl[row, column])
    print("least {}: mean {:.1f}, width {:.2f}, divergence {:.2f}".format(name, *best[name]))

# %%
# Left: a coin with p = 0.3 and beliefs q. The cost touches the entropy (grey) at q = p and falls below it nowhere.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
belief = np.linspace(0.001, 0.999, 999)
coin, coins = [0.3, 0.7], np.stack([belief, 1 - belief], axis=1)
cost = info.cross_entropy(coin, coins, base=2)
left.fill_between(belief, info.entropy(coin, base=2), color="0.88", label="H(p)")
left.plot(belief, cost, color=COLORS["bce"], label="H(p, q) = H(p) + KL(p || q)")
left.set(xlabel="belief q of heads", ylabel="bits a throw", ylim=(0, 3.5))
right.fill_between(x, humps, color="0.88", label="p")
for (name, (mean, width, _)), style in zip(best.items(), ("-", "--"), strict=True):
    right.plot(x, normal(mean, width), style, color=COLORS["bce"], label=f"q of least {name}")
right.set(xlabel="x", ylabel="probability", ylim=(0, 0.09))
left.legend(frameon=False, loc="upper center")
right.legend(frameon=False)
plt.show()
