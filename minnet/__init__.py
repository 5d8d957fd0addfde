"""minnet: a tiny layered MLP library for the CPU, exact in the tails, with a lab that measures saturation.

    import minnet as mn

    X, y = mn.datasets.digits()
    net = mn.MLP([64, 30, 10], activation="sigmoid", seed=0)
    history = mn.fit(net, X, y, loss="cross_entropy", optimizer=mn.SGD(lr=0.5), epochs=10, seed=0)

`minnet.functional` holds the functions, `minnet.lab` the experiments; `minnet --help` is the command line.
"""

import importlib

try:
    from minnet import _simd  # noqa: F401  a compiled module, as any other
except ImportError as error:
    from importlib.util import find_spec

    if find_spec("minnet._simd"):
        raise
    rule = f"minnet: its compiled modules must stand beside it, got none in {__path__[0]}"
    hint = "run Python in another folder than that of a clone, or pip install -e . in the clone"
    raise ImportError(f"{rule} ({hint})") from error

from minnet import functional, initializers, metrics, schedules
from minnet._threads import get_num_threads, set_num_threads
from minnet.callbacks import Checkpoint, CSVLogger, EarlyStopping, ProgressBar, SaturationProbe, StopAfter
from minnet.config import show_config
from minnet.files import load, save
from minnet.gradcheck import check_gradient
from minnet.heads import LinearCrossEntropy
from minnet.history import History
from minnet.layers import Dropout, Layer, Linear, ReLU, Sigmoid, Softplus, Tanh
from minnet.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    BrierLoss,
    CrossEntropyLoss,
    FocalLoss,
    GaussianNLLLoss,
    GeneralizedCrossEntropyLoss,
    HingeLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
    PoissonNLLLoss,
)
from minnet.model import MLP, Sequential
from minnet.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from minnet.population import Population
from minnet.training import evaluate, fit

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BrierLoss",
    "CSVLogger",
    "Checkpoint",
    "CrossEntropyLoss",
    "Dropout",
    "EarlyStopping",
    "FocalLoss",
    "GaussianNLLLoss",
    "GeneralizedCrossEntropyLoss",
    "HingeLoss",
    "History",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "Layer",
    "Linear",
    "LinearCrossEntropy",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "Optimizer",
    "PoissonNLLLoss",
    "Population",
    "ProgressBar",
    "RMSprop",
    "ReLU",
    "SaturationProbe",
    "Sequential",
    "Sigmoid",
    "Softplus",
    "StopAfter",
    "Tanh",
    "check_gradient",
    "datasets",
    "evaluate",
    "fit",
    "functional",
    "get_num_threads",
    "information",
    "initializers",
    "lab",
    "load",
    "metrics",
    "save",
    "schedules",
    "set_num_threads",
    "show_config",
]


def __getattr__(name):
    # These are loaded when they are first asked for: importing minnet should cost little more than numpy's import.
    if name in ("datasets", "information", "lab"):
        return importlib.import_module(f"minnet.{name}")
    raise AttributeError(f"module 'minnet' has no attribute {name!r}")
