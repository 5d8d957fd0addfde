"""
(e) The simplest gradients
==========================

Squared error of a linear output and cross-entropy of a softmax have the same gradient: output - target. What would
other powers of the error do, the absolute error or the fourth power? Here are their gradients, and how they train.
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

rng = np.random.default_rng(0)
z, t = rng.normal(size=(100, 10)), rng.dirichlet(np.ones(10), size=100)
squared = mn.functional.mse_loss(z, t, reduction="sum", return_grad=True)[1] / 2 - (z - t)
softmax = mn.functional.cross_entropy(z, t, reduction="sum", return_grad=True)[1] - (mn.functional.softmax(z) - t)
print(f"gradient - (output - target): {np.abs(squared).max():.0e} (squared), {np.abs(softmax).max():.0e} (softmax)")


# %%
# A loss is any object that can do these two things. With each of three, a linear unit learns a line from 20 points.
class Power:
    def __init__(self, p):
        self.p = p

    def __call__(self, outputs, target):
        return self.value_and_grad(outputs, target)[0]

    def value_and_grad(self, outputs, target):
        e = outputs - target
        return np.mean(np.abs(e) ** self.p) / self.p, np.sign(e) * np.abs(e) ** (self.p - 1) / e.size


e, x = np.linspace(-2, 2, 80)[:, None], rng.uniform(-1, 1, (20, 1))
powers, checked, errors, accuracy = {"mae": Power(1), "mse": Power(2), "quartic": Power(4)}, {}, {}, {}
for name, loss in powers.items():
    checked[name] = mn.check_gradient(loss, e, 0 * e)
    net, sgd = mn.MLP([1, 1], dtype=np.float64, seed=0), mn.SGD(lr=0.1)
    history = mn.fit(net, x, 2 * x + 1, loss=loss, optimizer=sgd, epochs=500, batch_size=20)
    errors[name] = (loss.p * np.array(history["loss"])) ** (1 / loss.p)

# %%
# The same through sigmoids, where each gradient is multiplied by a (1 - a): a 64-30-10 net learns the shipped digits.
X, y, X_test, y_test = mn.datasets.holdout(*mn.datasets.digits(), seed=0)
T, held_out = np.eye(10)[y], (X_test, np.eye(10)[y_test])
for name, loss in mn.lab.LOSSES.items():
    net, sgd = mn.MLP([64, 30, 10], seed=0), mn.SGD(lr=0.3)
    history = mn.fit(net, X, T, loss=loss, optimizer=sgd, epochs=15, validation_data=held_out, seed=0)
    accuracy[name] = history["val_accuracy"]

# %%
# Left and middle: the absolute error pulls at a small error as at a large one, and jumps about the line for ever; the
# quartic cost lets go of small errors, and creeps; the square takes the same share off in every epoch. Right: through
# sigmoids no power comes near cross-entropy, and the first is content with ten outputs of 0, the median of the targets.
figure, (pull, line, digits) = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
for name, loss in powers.items():
    pull.plot(e, loss.value_and_grad(e, 0 * e)[1] * e.size, color=COLORS[name])
    line.semilogy(errors[name], ".", markersize=2, color=COLORS[name])
for name, values in accuracy.items():
    digits.plot(range(1, 16), values, color=COLORS[name], label=mn.lab.LOSSES[name].title)
pull.set(xlabel="error e = output - target", ylabel="gradient", ylim=(-3, 3))
line.set(xlabel="epoch", ylabel="error of a linear unit")
digits.set(xlabel="epoch", ylabel="accuracy on held-out digits", ylim=(0, 1))
figure.legend(loc="outside upper center", ncols=4, frameon=False)
plt.show()
