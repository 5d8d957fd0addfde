"""
(c) The learning rate is not the point
======================================

A larger rate makes any neuron faster, so is a neuron under the quadratic cost merely trained too timidly? The question
is not how fast it learns but *when*: how its speed depends on how wrong it is. No rate can change that.
"""

import matplotlib.pyplot as plt
import numpy as np

import minnet as mn
from minnet.lab.figures import COLORS

# %%
# One confidently wrong neuron (w = b = 2, target 0), two costs, six rates from 0.02 to 5. Its speed is how far w moves
# in an epoch, divided by the rate.
rates = [0.02, 0.05, 0.15, 0.5, 1.5, 5.0]
runs, speed, error = {}, {}, {}
for loss in ("bce", "mse"):
    for lr in rates:
        run = mn.lab.train_neuron(2.0, 2.0, loss=loss, lr=lr, epochs=round(80 / lr))
        runs[loss, lr] = run
        speed[loss, lr] = -np.diff(run.w) / lr
        error[loss, lr] = np.abs(run.output - run.y)[:-1]

for loss in ("bce", "mse"):
    shares = [speed[loss, lr][0] / speed[loss, lr].max() for lr in rates]
    shown = ", ".join(f"{share:.2f}" for share in shares)
    print(f"{mn.lab.LOSSES[loss].title:14}  speed at the start / largest speed: {shown}")

# %%
# Left: over epochs, each rate gives a curve of its own, and with a large enough rate the quadratic cost comes before
# cross-entropy with a small one. Right: as a function of the error, all rates of a cost fall on one curve,
#
# .. math:: a \ \text{for cross-entropy}, \qquad a^2 (1 - a) \ \text{for the quadratic cost}.
#
# Under cross-entropy every run begins at its highest speed. Under the quadratic cost every run begins at an eighth of
# its highest, whatever the rate, and is fastest when it is half right already, at a = 2/3.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for (loss, lr), run in runs.items():
    shade = 0.3 + 0.7 * rates.index(lr) / (len(rates) - 1)
    left.semilogx(np.arange(1, len(run.output)), error[loss, lr], color=COLORS[loss], alpha=shade)
    label = mn.lab.LOSSES[loss].title if lr == rates[-1] else None
    right.plot(error[loss, lr], speed[loss, lr], ".", color=COLORS[loss], alpha=shade, label=label)
left.set(xlabel="epoch", ylabel="error |a - y|", title="rates 0.02 (pale) to 5 (dark)")
right.set(xlabel="error |a - y|", ylabel="movement of w / rate", title="speed as a function of the error")
right.legend(frameon=False)
plt.show()
