"""
One saturated neuron under two costs
====================================

A sigmoid neuron is to learn the output 0 for the input 1. Started at w = b = 2 it is confidently wrong, a = 0.98. Under
the quadratic cost it hardly moves for 150 epochs, because its gradient carries the slope a (1 - a) = 0.018; under
cross-entropy that slope cancels, and the wrong neuron learns fastest when it is most wrong.
"""

# %%
# Train from an easy and from the unlucky start, with the same learning rate.
import minnet as mn
from minnet.lab.figures import draw_neurons

starts = [(0.6, 0.9), (2.0, 2.0)]
runs = [mn.lab.train_neuron(w, b, loss=loss, lr=0.15) for loss in ("mse", "bce") for w, b in starts]
for run in runs:
    print(run, "- cost halved after", run.epochs_to_halve(), "epochs")

# %%
# Cost, output and the paths of weight and bias: open circles are starts, filled ones ends.
figure = draw_neurons(runs)
figure.savefig("plot_saturation.png", dpi=120)
