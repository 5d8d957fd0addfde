"""
(l) Fused and unfused cross-entropy
===================================

On paper -log(softmax(z)) is one function. Computed in two steps in float32 it is another: the probability of the right
class is rounded to 0 or 1 long before the logits are at an end, and the logarithm has nothing left to work with.
"""

# %%
# The two steps, and the chain rule through them. A common remedy, to clip probabilities to [1e-7, 1 - 1e-7], keeps the
# loss finite; but a clipped value does not depend on the logits, so the gradient of such a sample is 0.
import matplotlib.pyplot as plt
import numpy as np

import minnet as mn


class Unfused(mn.CrossEntropyLoss):
    def __init__(self, clip):
        super().__init__()
        self.clip = np.float32(clip)

    def value_and_grad(self, z, target):
        p, rows = mn.functional.softmax(z), np.arange(len(z))
        own, dp = p[rows, target], np.zeros_like(p)
        kept = np.clip(own, self.clip, 1 - self.clip)
        with np.errstate(all="ignore"):
            dp[rows, target] = np.where(kept == own, -1 / own, 0) / len(z)
            return np.mean(-np.log(kept)), p * (dp - np.sum(dp * p, axis=1, keepdims=True))


# %%
# Two logits, the right one ahead or behind by a margin, and a net whose output weights start a hundred times too large,
# so that it has such margins. Which share of the samples passes back NaN, or nothing?
losses = {"fused": mn.CrossEntropyLoss(), "unfused": Unfused(clip=0), "clipped": Unfused(clip=1e-7)}
margin, slope, lost, accuracy = np.arange(-120, 121), {}, {}, {"unfused": []}
X, y, X_test, y_test = mn.datasets.holdout(*mn.datasets.digits(), seed=0)
for name, loss in losses.items():
    pairs = [np.array([[m, 0]], np.float32) for m in margin]
    slope[name] = np.array([-loss.value_and_grad(pair, np.array([0]))[1][0, 0] for pair in pairs])
    net = mn.MLP([64, 30, 10], seed=0)
    net.layers[-1].W *= 100
    grad = loss.value_and_grad(net.forward(X), y)[1]
    lost[name] = np.mean(np.isnan(grad).any(axis=1)), np.mean(~grad.any(axis=1))
    if name != "unfused":  # whose weights would all be NaN after one step
        history = mn.fit(net, X, y, loss=loss, optimizer=mn.Adam(lr=0.03), validation_data=(X_test, y_test), seed=0)
        accuracy[name] = history["val_accuracy"]
    print(f"{name}: NaN for {lost[name][0]:.0%} of the samples, 0 for {lost[name][1]:.0%}")

# %%
# Far behind, the plain two steps pass back NaN and the clipped ones nothing; ahead by 17 or 18, both fall silent. The
# fused loss takes differences of logits before any logarithm; its gradient ends where float32 does, at a margin of 104.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for name, style, width in (("fused", "-", 4), ("unfused", "--", 2), ("clipped", ":", 2)):
    left.semilogy(margin, np.where(slope[name] > 0, slope[name], np.nan), style, linewidth=width, label=name)
    right.plot(np.arange(len(accuracy[name])) + 1, accuracy[name], style, linewidth=width)
left.set(title="size of the gradient (a gap: 0 or NaN)", xlabel="margin of the right logit")
right.set(title="accuracy on held-out digits", xlabel="epoch", ylim=(0, 1))
left.legend(frameon=False)
plt.show()
