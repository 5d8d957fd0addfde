"""A layer and a loss of one's own: a learned scale, and the log-cosh loss. check_gradient tests both."""

import numpy as np

import minnet as mn


class Scale(mn.Layer):
    """y = s x, one factor a feature; ds = sum over rows of x dy, dx = s dy."""

    def __init__(self, features):
        self.allocate({"s": (features,)})
        self.initialize(None)

    def initialize(self, rng):
        self.s[...] = 1

    def forward(self, x, rng=None):
        self._x = x
        return x * self.s

    def backward(self, dy):
        self.ds[...] = np.sum(self._x * dy, axis=0)
        return dy * self.s


class LogCosh:
    """Mean of log(cosh(x - t)) = |d| + log1p(exp(-2 |d|)) - log 2; a squared error near 0, an absolute one far off."""

    def __call__(self, x, t):
        return self.value_and_grad(x, t)[0]

    def value_and_grad(self, x, t):
        d = x - np.reshape(t, x.shape)
        value = np.mean(np.abs(d) + np.log1p(np.exp(-2 * np.abs(d))) - np.log(2))
        return float(value), np.tanh(d) / d.size


rng = np.random.default_rng(0)
print("largest error of the layer's gradients:", mn.check_gradient(Scale(3), rng.normal(size=(5, 3))))
print("largest error of the loss's gradient:  ", mn.check_gradient(LogCosh(), rng.normal(size=(5, 2)), np.ones((5, 2))))

X = rng.normal(size=(500, 3))
y = X @ [1.0, -2.0, 3.0]
net = mn.Sequential([Scale(3), mn.Linear(3, 1)], seed=0)
history = mn.fit(net, X, y, loss=LogCosh(), optimizer=mn.SGD(lr=0.1), epochs=30, seed=0)
effect = net.layers[0].s * net.layers[1].W[:, 0]
print("the product of scale and weight, wanted 1, -2, 3:", np.round(effect, 3))

if np.abs(effect - [1, -2, 3]).max() > 0.01:
    raise SystemExit("own_layer_and_loss: the line must be found to 0.01")
