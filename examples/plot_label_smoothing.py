"""
(i) Label smoothing: finite logits, less confidence
===================================================

Cross-entropy with hard labels has no minimum: once every training sample is right, larger logits are always better.
If a share eps of each target is spread over all C classes, the best distance between the logits of the own class and of
the others is finite, log((1 - eps + eps / C) / (eps / C)): 4.51 for eps = 0.1 and ten classes.
"""

# %%
# Three hundred digits, learned for longer and longer, with hard and with smoothed labels.
import matplotlib.pyplot as plt
import numpy as np

import minnet as mn


def trained(X, y, eps, epochs):
    loss, net = mn.CrossEntropyLoss(label_smoothing=eps), mn.MLP([64, 64, 10], activation="relu", init="he", seed=0)
    mn.fit(net, X, y, loss=loss, optimizer=mn.Adam(lr=0.003), epochs=epochs, batch_size=50, seed=0)
    return net


X, y, X_test, y_test = mn.datasets.holdout(*mn.datasets.digits(), seed=0)
own = np.eye(10)[y[:300]] - (1 - np.eye(10)[y[:300]]) / 9  # times logits: the class's, less the mean of the others
gaps, epochs = {0.0: [], 0.1: []}, [50, 100, 200, 400, 800]
for eps, row in gaps.items():
    row += [10 * np.mean(own * trained(X[:300], y[:300], eps, n).forward(X[:300])) for n in epochs]
    print(f"eps = {eps:g}: mean gap", *(f"{gap:.2f}" for gap in row), f"after {epochs} epochs")


# %%
# Is a net right as often as it is sure? ECE is the mean distance over ten bins; noisy: 30 % of labels drawn at random.
def judge(p, y):
    sure, right = p.max(axis=1), p.argmax(axis=1) == y
    excess = np.bincount(np.minimum(sure * 10, 9).astype(int), sure - right)
    return np.mean(right), np.mean(sure), np.sum(np.abs(excess)) / len(y)


rng = np.random.default_rng(0)
noisy = [np.where(rng.random(len(t)) < 0.3, rng.integers(10, size=len(t)), t) for t in (y, y_test)]
judged = {
    f"{task}, eps = {eps:g}": judge(trained(X[:600], known[:600], eps, 200).predict_proba(X_test), wanted)
    for task, (known, wanted) in (("clean", (y, y_test)), ("noisy", noisy))
    for eps in gaps
}
print({name: f"ECE {ece:.3f}" for name, (_, _, ece) in judged.items()})

# %%
# The gap grows without end for hard labels and comes to 4.51 for smoothed ones. Smoothing lowers confidence, called for
# or not: on clean digits it makes a well calibrated net too modest, on noisy ones a net that is far too sure less so.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(epochs, np.transpose(list(gaps.values())), "o-", label=[f"eps = {eps:g}" for eps in gaps])
left.set(title="mean logit gap on the training samples", xlabel="epochs", ylim=(0, None))
for i, (name, marker) in enumerate((("accuracy", "o"), ("confidence", "x"))):
    right.plot([row[i] for row in judged.values()], list(judged), marker, markersize=9, label=name)
right.set(title="held-out digits", xlim=(0, 1), ylim=(-0.5, 3.5))
left.legend(frameon=False)
right.legend(frameon=False, loc="center left")
plt.show()
