"""XOR, the smallest problem that needs a hidden layer, with one logit and binary cross-entropy."""

import numpy as np

import minnet as mn

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
y = np.array([0, 1, 1, 0])

net = mn.MLP([2, 8, 1], activation="tanh", seed=0)
history = mn.fit(net, X, y, loss="bce", optimizer=mn.Adam(lr=0.05), epochs=300, batch_size=4, seed=0)

for x, p in zip(X, net.predict_proba(X), strict=True):
    print(f"{x[0]} xor {x[1]} = {int(p > 0.5)}   (p = {p:.4f})")
print(f"loss {history['loss'][0]:.4f} -> {history['loss'][-1]:.6f}")

if not np.array_equal(net.predict(X), y):
    raise SystemExit("xor: all four answers must be right")
