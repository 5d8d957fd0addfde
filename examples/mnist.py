"""A 784-100-10 sigmoid net on real MNIST: the 10,000 test images to learn from, 5,000 others to be judged by.

Needs the IDX files in the folder that MINNET_DATA names: t10k-*, and train5k-* (or train-*).
"""

import os
import sys
import time

import minnet as mn

if "MINNET_DATA" not in os.environ:
    sys.exit("mnist: set MINNET_DATA to a folder with MNIST's IDX files; nothing was trained")

X, y = mn.datasets.mnist("test")
try:
    X_test, y_test = mn.datasets.mnist("train5k")
except ValueError:
    X_test, y_test = (part[:5000] for part in mn.datasets.mnist("train"))

net = mn.MLP([784, 100, 10], activation="sigmoid", seed=0)
started = time.perf_counter()
history = mn.fit(
    net,
    X,
    y,
    loss="cross_entropy",
    optimizer=mn.SGD(lr=0.5),
    epochs=20,
    batch_size=10,
    validation_data=(X_test, y_test),
    seed=0,
)
print(history)
print(f"{time.perf_counter() - started:.1f} s")

if history[-1]["val_accuracy"] < 0.95:
    raise SystemExit(f"mnist: accuracy must be at least 0.95, got {history[-1]['val_accuracy']:.4f}")
