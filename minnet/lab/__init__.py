"""The saturation lab: why a sigmoid output under squared error stalls when it starts confidently wrong.

`train_neuron` follows one neuron, `run_neurons` trains millions at once, `run_perceptrons` those with several inputs
and samples; `map_neurons` maps grids of any size, on this machine or on many, and `epochs_by_law` says what to expect.
`train_networks` follows a real net, from small and from large starting weights, and `map_networks` maps many of them.
Losses of the lab act on the sigmoid's output a: "mse" is (a - y)^2 / 2, "bce" the binary cross-entropy, "mae" |a - y|,
"quartic" (a - y)^4 / 4.
"""

from minnet.lab.law import epochs_by_law
from minnet.lab.losses import LOSSES, AbsoluteCost, CrossEntropyCost, QuadraticCost, QuarticCost
from minnet.lab.maps import MapSummary, PhaseMap, map_neurons
from minnet.lab.network import NetworkRun, train_networks
from minnet.lab.network_maps import NetworkMap, map_networks
from minnet.lab.neuron import NeuronRun, train_neuron
from minnet.lab.neurons import NeuronsRun, run_neurons, run_perceptrons
from minnet.lab.tasks import run_tasks

__all__ = [
    "LOSSES",
    "AbsoluteCost",
    "CrossEntropyCost",
    "MapSummary",
    "NetworkMap",
    "NetworkRun",
    "NeuronRun",
    "NeuronsRun",
    "PhaseMap",
    "QuadraticCost",
    "QuarticCost",
    "epochs_by_law",
    "map_networks",
    "map_neurons",
    "run_neurons",
    "run_perceptrons",
    "run_tasks",
    "train_networks",
    "train_neuron",
]
