"""Train a small net on the shipped digits, early stopping included, and look at what it gets wrong."""

import numpy as np

import minnet as mn

X, y, X_test, y_test = mn.datasets.holdout(*mn.datasets.digits(), seed=0)
net = mn.MLP([64, 30, 10], activation="sigmoid", seed=0)
history = mn.fit(
    net,
    X,
    y,
    loss=mn.CrossEntropyLoss(),
    optimizer=mn.SGD(lr=0.5, momentum=0.5),
    epochs=60,
    batch_size=10,
    validation_data=(X_test, y_test),
    callbacks=[mn.EarlyStopping("val_loss", patience=8)],
    seed=0,
)
print(history)

predicted, sure = net.predict(X_test), net.predict_proba(X_test).max(axis=1)
wrong = np.flatnonzero(predicted != y_test)
print(f"\n{len(wrong)} of {len(y_test)} held-out digits are wrong; the surest of them:")
for i in wrong[np.argsort(-sure[wrong])][:3]:
    print(f"  taken for {predicted[i]} with p = {sure[i]:.3f}, is a {y_test[i]}")

accuracy = np.mean(predicted == y_test)
if accuracy < 0.96:
    raise SystemExit(f"digits: accuracy must be at least 0.96, got {accuracy:.4f}")
