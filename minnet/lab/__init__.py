"""The saturation lab: why a sigmoid output under squared error stalls when it starts confidently wrong.

`train_neuron` follows one neuron, `run_neurons` trains millions at once; `train_networks` follows a real net, from
small and from large starting weights.
Losses of the lab act on the sigmoid's output a: "mse" is (a - y)^2 / 2, "bce" the binary cross-entropy.
"""

from minnet.lab.losses import LOSSES, CrossEntropyCost, QuadraticCost
from minnet.lab.network import NetworkRun, train_networks
from minnet.lab.neuron import NeuronRun, train_neuron
from minnet.lab.neurons import NeuronsRun, run_neurons

__all__ = [
    "LOSSES",
    "CrossEntropyCost",
    "NetworkRun",
    "NeuronRun",
    "NeuronsRun",
    "QuadraticCost",
    "run_neurons",
    "train_networks",
    "train_neuron",
]
