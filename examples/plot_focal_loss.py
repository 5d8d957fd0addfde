"""
(j) Focal loss where one sample in a hundred counts
===================================================

Of 100 negatives to one positive, those that are long since right still make much of the gradient, by their number.
Focal loss multiplies the loss of a sample whose own class has probability p by (1 - p)^gamma, and takes them out. It
does not move the line between the classes, as class weights do.
"""

# %%
# Two clouds that overlap, 100 : 1, and one small net for each loss.
import matplotlib.pyplot as plt
import numpy as np

import minnet as mn


def clouds(rng, n):
    y = (rng.random(n) < 0.01).astype(float)
    return rng.normal(size=(n, 2)) + 1.8 * y[:, None], y


(X, y), (X_test, y_test) = (clouds(np.random.default_rng(seed), n) for seed, n in ((0, 10_000), (1, 50_000)))
options = {"cross-entropy": {}, "focal, gamma = 2": {"gamma": 2.0}, "class weight 100": {"pos_weight": 100.0}}
nets = {name: mn.MLP([2, 16, 1], activation="tanh", seed=0) for name in options}
for name, net in nets.items():
    mn.fit(net, X, y, loss=mn.BCEWithLogitsLoss(**options[name]), optimizer=mn.Adam(lr=0.01), epochs=20, seed=0)

# %%
# Negatives to which the net of cross-entropy gives p < 0.1 are easy. What is their share of the gradient in this net?
z, easy_share = nets["cross-entropy"].forward(X)[:, 0], {}
easy = (y == 0) & (mn.functional.sigmoid(z) < 0.1)
for gamma in (0.0, 0.5, 1.0, 2.0, 3.0):
    grad = mn.BCEWithLogitsLoss(gamma=gamma).value_and_grad(z, y)[1]
    easy_share[gamma] = np.abs(grad[easy]).sum() / np.abs(grad).sum()
    print(f"gamma = {gamma:g}: {easy.mean():.0%} of the samples, {easy_share[gamma]:.2%} of the gradient")


# %%
# And the rare class? Recall and precision judge the answers "p > 1/2", average precision the order of the samples.
def judge(p, y):
    hits = y[np.argsort(-p, kind="stable")]
    average_precision = np.mean((np.cumsum(hits) / np.arange(1, len(y) + 1))[hits > 0])
    return np.mean(p[y == 1] > 0.5), np.mean(y[p > 0.5]), average_precision


judged = {name: judge(net.predict_proba(X_test), y_test) for name, net in nets.items()}
print({name: [f"{score:.3f}" for score in scores] for name, scores in judged.items()})

# %%
# From gamma 0 to 2 the share of easy negatives falls a hundredfold. But both classes lose alike, and recall stays where
# it was; a class weight buys recall with precision. All three nets order the samples equally well.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.semilogy(list(easy_share), list(easy_share.values()), "o-")
left.set(title="share of easy negatives in the gradient", xlabel="gamma")
for i, (name, scores) in enumerate(judged.items()):
    right.bar(np.arange(3) + 0.25 * i, scores, 0.25, label=name)
right.set(xticks=np.arange(3) + 0.25, xticklabels=["recall", "precision", "average precision"], ylim=(0, 1.1))
right.legend(frameon=False)
plt.show()
