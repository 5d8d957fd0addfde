# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
# The checks are off because functional.py has made them, once a call, before the first kernel.
"""Loops over one array or one batch.

Letters: N rows of a batch, C classes, P parameters, S = N or any other number of elements.

Design
a) The scalar functions stand in _math.pxd, forward beside derivative.
b) A `clones` function loops over pointers; it is compiled once for each SIMD level (_simd.h) and holds the vectors.
c) A `def` kernel takes typed memoryviews, lets the GIL go, and calls b). It trusts its arguments: shapes agree, arrays
   are C-contiguous, labels are in range. Only `functional` (and, for updates, `optimizers`) may call it.
d) Arguments: const inputs, then outputs, then scalars. An array of length 0 stands for one that is not given, or an
   output that is not wanted.
e) Activations give y and their slope dy/dx together, from one exp: their backward is one product, `chain_backward`.
   Losses give value and gradient together: two separate functions could disagree.
"""

from libc.math cimport INFINITY, NAN, fma, log, log1p, sqrt, sqrtf
from libc.stdint cimport int64_t

from minnet cimport _math
from minnet._math cimport real

cdef extern from "_simd.h":
    ctypedef void clones "MINNET_CLONES void"

cdef enum:
    LANES = 16    # independent accumulators, so that a sum or a maximum vectorises without reordering flags
    CHUNK = 256   # elements whose losses are held on the stack between two passes


cdef inline real* pointer(real[::1] a) noexcept nogil:
    """The first element, or NULL where the array stands for `not wanted`."""
    return &a[0] if a.shape[0] > 0 else NULL


# ---- activations: y = f(x), slope = f'(x) --------------------------------------------------------------------------

cdef clones sigmoid_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.sigmoid(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.sigmoid(x[i]), _math.sigmoid_slope(x[i])


cdef clones tanh_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.tanh(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.tanh(x[i]), _math.tanh_slope(x[i])


cdef clones softplus_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.softplus(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.softplus(x[i]), _math.sigmoid(x[i])


cdef clones log_sigmoid_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = _math.log_sigmoid(x[i])
    else:
        for i in range(n):
            y[i], slope[i] = _math.log_sigmoid(x[i]), _math.sigmoid(-x[i])


cdef clones relu_loop(const real* x, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if slope == NULL:
        for i in range(n):
            y[i] = <real>0 if 0 > x[i] else x[i]
    else:
        for i in range(n):
            slope[i] = <real>1 if x[i] > 0 else <real>0
            y[i] = <real>0 if 0 > x[i] else x[i]


def sigmoid_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = 1 / (1 + exp(-x)), slope = y (1 - y); all (N,)."""
    with nogil:
        sigmoid_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def tanh_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = tanh(x), slope = 1 - y^2; all (N,)."""
    with nogil:
        tanh_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def softplus_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = log(1 + exp(x)), slope = sigmoid(x); all (N,)."""
    with nogil:
        softplus_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def log_sigmoid_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = -log(1 + exp(-x)), slope = sigmoid(-x); all (N,)."""
    with nogil:
        log_sigmoid_loop(&x[0], &y[0], pointer(slope), x.shape[0])


def relu_forward(const real[::1] x not None, real[::1] y not None, real[::1] slope not None):
    """y = max(x, 0), slope = 1 where x > 0, else 0; all (N,)."""
    with nogil:
        relu_loop(&x[0], &y[0], pointer(slope), x.shape[0])


cdef clones product_loop(const real* a, const real* b, real* y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = a[i] * b[i]


def chain_backward(const real[::1] dy not None, const real[::1] slope not None, real[::1] dx not None):
    """dx = dy slope, the chain rule through any activation; all (N,)."""
    with nogil:
        product_loop(&dy[0], &slope[0], &dx[0], dy.shape[0])


# ---- rows: maximum and sum of exponentials -------------------------------------------------------------------------
# Everything about a row of logits follows from its maximum m, e_k = exp(z_k - m), and `others`, the sum of e without
# one maximal entry, whose e is 1: kept apart, because 1 + others rounds to 1 where a confident row's loss lives.
# Entries equal to the maximum have e = 1 without any subtraction, so +inf shares like any other tie. A row of -inf only
# has no limit: NaN.

cdef inline real row_max(const real* z, Py_ssize_t n) noexcept nogil:
    """The largest entry; NaN is passed over (the exponentials will carry it), -inf if there is none."""
    cdef real lanes[LANES]
    cdef real x, m = -INFINITY
    cdef Py_ssize_t block, i, j
    for j in range(LANES):
        lanes[j] = m
    for block in range(n // LANES):
        for j in range(LANES):
            x = z[block * LANES + j]
            lanes[j] = x if x > lanes[j] else lanes[j]
    for i in range(n - n % LANES, n):
        m = z[i] if z[i] > m else m
    for j in range(LANES):
        m = lanes[j] if lanes[j] > m else m
    return m


cdef struct Sum:
    double high   # the sum, rounded
    double low    # what rounding took from it


cdef inline void add(double* high, double* low, double v) noexcept nogil:
    """high + low += v, exactly but for the rounding of low (Knuth's TwoSum)."""
    cdef double t = high[0] + v
    cdef double v_part = t - high[0]
    low[0] += (high[0] - (t - v_part)) + (v - v_part)
    high[0] = t


cdef clones exp_others(const real* z, real m, Sum* others, real* e, Py_ssize_t n) noexcept nogil:
    """Sum of exp(z - m) over all entries but one maximum; the exponentials themselves go to `e` unless it is NULL."""
    cdef double high[LANES]
    cdef double low[LANES]
    cdef double ties[LANES]
    cdef real scratch[CHUNK]
    cdef real* chunk
    cdef const real* row
    cdef real v
    cdef Py_ssize_t start = 0, size, block, i, j
    for j in range(LANES):
        high[j] = low[j] = ties[j] = 0
    while start < n:
        size = min(<Py_ssize_t>CHUNK, n - start)
        row = z + start
        chunk = &scratch[0] if e == NULL else &e[start]
        for i in range(size):
            chunk[i] = <real>1 if row[i] == m else _math.exp_difference(row[i], m)
        for block in range(size // LANES):
            for j in range(LANES):
                i = block * LANES + j
                ties[j] += 1.0 if row[i] == m else 0.0
                v = <real>0 if row[i] == m else chunk[i]
                if real is float:
                    high[j] += v   # a double has 29 bits to spare for the sum of floats
                else:
                    add(&high[j], &low[j], v)
        for i in range(size - size % LANES, size):
            ties[0] += 1.0 if row[i] == m else 0.0
            add(&high[0], &low[0], <real>0 if row[i] == m else chunk[i])
        start += size
    others.high, others.low = -1.0, 0.0   # the one maximum that does not count
    for j in range(LANES):
        others.high += ties[j]
    for j in range(LANES):
        add(&others.high, &others.low, high[j])
        others.low += low[j]


cdef inline double log_total(Sum others) noexcept nogil:
    """log(1 + others), so that logsumexp = m + this."""
    return log1p(others.high) + others.low / (1.0 + others.high)


cdef inline Sum reciprocal_total(Sum others) noexcept nogil:
    """1 / (1 + others) to twice the digits of a double: the quotient, and its residue from an exact product."""
    cdef Sum total = Sum(1.0, others.low)
    cdef Sum inverse
    add(&total.high, &total.low, others.high)
    inverse.high = 1.0 / total.high
    inverse.low = (fma(-inverse.high, total.high, 1.0) - inverse.high * total.low) * inverse.high
    return inverse


# ---- softmax family ------------------------------------------------------------------------------------------------

cdef clones softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m = row_max(x, n)
    cdef Sum others, inverse
    cdef real high, low
    cdef Py_ssize_t i
    exp_others(x, m, &others, y, n)
    inverse = reciprocal_total(others)
    # Two parts, because rounding 1 / total to one real costs up to an ulp of every probability.
    high = inverse.high if m > -INFINITY else NAN
    low = (inverse.high - high) + inverse.low
    for i in range(n):
        y[i] = y[i] * high + y[i] * low


cdef clones log_softmax_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m = row_max(x, n)
    cdef Sum others
    cdef real L
    cdef Py_ssize_t i
    exp_others(x, m, &others, <real*>NULL, n)
    L = log_total(others) if m > -INFINITY else NAN
    for i in range(n):
        y[i] = -L if x[i] == m else (x[i] - m) - L


cdef clones logsumexp_row(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    cdef real m = row_max(x, n)
    cdef Sum others
    exp_others(x, m, &others, <real*>NULL, n)
    y[0] = m + log_total(others)


def softmax_forward(const real[:, ::1] x not None, real[:, ::1] y not None):
    """y = exp(x) / sum(exp(x)) a row; (N, C). Its backward is inside the losses."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            softmax_row(&x[i, 0], &y[i, 0], x.shape[1])


def log_softmax_forward(const real[:, ::1] x not None, real[:, ::1] y not None):
    """y = x - log(sum(exp(x))) a row; (N, C). Its backward is inside the losses."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            log_softmax_row(&x[i, 0], &y[i, 0], x.shape[1])


def logsumexp_forward(const real[:, ::1] x not None, real[::1] y not None):
    """y = log(sum(exp(x))) a row; x: (N, C), y: (N,). Its backward is softmax."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            logsumexp_row(&x[i, 0], &y[i], x.shape[1])


# ---- cross-entropy of softmax(z), value and gradient ---------------------------------------------------------------
# With S = 1 + others = sum_k e_k and p_k = e_k / S:
#     loss = logsumexp(z) - z_y = (m - z_y) + log(S)               both terms >= 0, nothing cancels
#     d loss / d z_k = p_k - [k = y];  for k = y that is -(sum of the other e) / S, which keeps its digits as p_y -> 1.

cdef clones cross_entropy_row(
    const real* z, Py_ssize_t y, double* loss, real* dz, Py_ssize_t n, double scale,
) noexcept nogil:
    cdef real m = row_max(z, n)
    cdef double gap = 0.0 if z[y] == m else <double>m - z[y]
    cdef Sum others
    cdef double total, wrong
    cdef real factor
    cdef Py_ssize_t k
    exp_others(z, m, &others, dz, n)
    total = 1.0 + others.high
    if not m > -INFINITY:
        scale = gap = NAN
    if dz != NULL:
        wrong = others.high if z[y] == m else total - dz[y]
        factor = scale / total
        for k in range(n):
            dz[k] *= factor
        dz[y] = -wrong / total * scale
    loss[0] = gap + log_total(others)


def cross_entropy_index(
    const real[:, ::1] z not None, const int64_t[::1] y not None, const real[::1] weight not None,
    real[::1] loss not None, real[:, ::1] dz not None, double scale,
):
    """loss = weight (logsumexp(z) - z_y), dz = scale weight (softmax(z) - onehot(y)); z, dz: (N, C), the others (N,).

    Returns the sum of the losses."""
    cdef Py_ssize_t i, n = z.shape[0], classes = z.shape[1]
    cdef double value, w, total = 0
    with nogil:
        for i in range(n):
            w = weight[i] if weight.shape[0] > 0 else 1.0
            cross_entropy_row(&z[i, 0], y[i], &value, &dz[i, 0] if dz.shape[0] > 0 else NULL, classes, scale * w)
            if loss.shape[0] > 0:
                loss[i] = w * value
            total += w * value
    return total


# Probability targets t, T = sum(t), p_k = e_k / S:
#     loss = sum_k t_k (logsumexp(z) - z_k) = sum_k t_k ((m - z_k) + log(S)); t_k = 0 adds 0 even where z_k = -inf
#     d loss / d z_k = T p_k - t_k = p_k (T - t_k) - t_k (1 - p_k), where 1 - p_k is (S - e_k) / S, or others / S at the
#     maximum: for a one-hot t this is the index kernel's gradient, digit by digit.

cdef clones cross_entropy_soft_row(
    const real* z, const real* t, double* loss, real* dz, Py_ssize_t n, double scale,
) noexcept nogil:
    cdef real m = row_max(z, n)
    cdef Sum others
    cdef double total, log_sum, mass = 0, value = 0
    cdef real rest, S, T, factor
    cdef Py_ssize_t k
    exp_others(z, m, &others, dz, n)
    total, log_sum = 1.0 + others.high, log_total(others)
    rest, S = others.high, total
    if not m > -INFINITY:
        scale = log_sum = NAN
    for k in range(n):
        mass += t[k]
        value += 0.0 if t[k] == 0 else t[k] * ((0.0 if z[k] == m else <double>m - z[k]) + log_sum)
    if dz != NULL:
        T = mass
        factor = scale / total
        for k in range(n):
            dz[k] = (dz[k] * (T - t[k]) - t[k] * (rest if z[k] == m else S - dz[k])) * factor
    loss[0] = value


def cross_entropy_soft(
    const real[:, ::1] z not None, const real[:, ::1] t not None, const real[::1] weight not None,
    real[::1] loss not None, real[:, ::1] dz not None, double scale,
):
    """loss = weight sum_k t_k (logsumexp(z) - z_k), dz = scale weight (sum(t) softmax(z) - t); z, t, dz: (N, C).

    Returns the sum of the losses."""
    cdef Py_ssize_t i, n = z.shape[0], classes = z.shape[1]
    cdef double value, w, total = 0
    with nogil:
        for i in range(n):
            w = weight[i] if weight.shape[0] > 0 else 1.0
            cross_entropy_soft_row(
                &z[i, 0], &t[i, 0], &value, &dz[i, 0] if dz.shape[0] > 0 else NULL, classes, scale * w)
            if loss.shape[0] > 0:
                loss[i] = w * value
            total += w * value
    return total


# ---- elementwise losses, value and gradient ------------------------------------------------------------------------
# Each has a loop that gives loss and slope = d loss / d x of one chunk; `settle` weighs them, stores what is wanted and
# adds to the total.

cdef clones settle(
    const real* chunk_loss, const real* chunk_slope, const real* weight, double* total, real* loss, real* dx,
    Py_ssize_t n, double scale,
) noexcept nogil:
    cdef double lanes[LANES]
    cdef real factor = scale
    cdef Py_ssize_t block, i, j
    for j in range(LANES):
        lanes[j] = 0
    for block in range(n // LANES):
        for j in range(LANES):
            i = block * LANES + j
            lanes[j] += <double>chunk_loss[i] * (<double>weight[i] if weight != NULL else 1.0)
    for i in range(n - n % LANES, n):
        lanes[0] += <double>chunk_loss[i] * (<double>weight[i] if weight != NULL else 1.0)
    for j in range(LANES):
        total[0] += lanes[j]
    if loss != NULL:
        for i in range(n):
            loss[i] = chunk_loss[i] * weight[i] if weight != NULL else chunk_loss[i]
    if dx != NULL:
        for i in range(n):
            dx[i] = chunk_slope[i] * (weight[i] * factor if weight != NULL else factor)


# a = |z|, e = exp(-a); `wrong` is the share of the target on the other side of 0 than z:
#     loss = t softplus(-z) + (1 - t) softplus(z) = wrong a + log(1 + e)        both terms >= 0
#     d loss / d z = sigmoid(z) - t = (wrong - (1 - wrong) e) / (1 + e) with the sign of z; never sigmoid(z) - 1

cdef clones bce_with_logits_loop(const real* z, const real* t, real* loss, real* dz, Py_ssize_t n) noexcept nogil:
    cdef real a, e, wrong, paid, slope
    cdef Py_ssize_t i
    for i in range(n):
        a = _math.magnitude(z[i])
        e = _math.exp(-a)
        wrong = t[i] if z[i] < 0 else <real>1 - t[i]
        paid = wrong * a
        loss[i] = (paid if wrong > 0 else <real>0) + _math.log1p_unit(e)
        slope = (wrong - (<real>1 - wrong) * e) / (<real>1 + e)
        dz[i] = -slope if z[i] < 0 else slope


# From probabilities p, as they are: a certain wrong answer costs inf. A share of 0 adds 0.
#     loss = -t log(p) - (1 - t) log(1 - p),   d loss / d p = (1 - t) / (1 - p) - t / p

cdef void bce_loop(const real* p, const real* t, real* loss, real* dp, Py_ssize_t n) noexcept nogil:
    cdef double yes, no
    cdef Py_ssize_t i
    for i in range(n):
        yes, no = t[i], 1.0 - t[i]
        loss[i] = (-yes * log(p[i]) if yes > 0 else 0.0) + (-no * log1p(-<double>p[i]) if no > 0 else 0.0)
        dp[i] = (no / (1.0 - p[i]) if no > 0 else 0.0) - (yes / p[i] if yes > 0 else 0.0)


cdef clones squared_error_loop(const real* x, const real* t, real* loss, real* dx, Py_ssize_t n) noexcept nogil:
    cdef real error
    cdef Py_ssize_t i
    for i in range(n):
        error = x[i] - t[i]
        loss[i] = error * error
        dx[i] = error + error


cdef enum Kind:
    BCE_WITH_LOGITS
    BCE
    SQUARED_ERROR


cdef double elementwise(
    Kind kind, const real[::1] x, const real[::1] t, const real[::1] weight, real[::1] loss, real[::1] dx, double scale,
) noexcept nogil:
    cdef real chunk_loss[CHUNK]
    cdef real chunk_slope[CHUNK]
    cdef double total = 0
    cdef Py_ssize_t i = 0, size, n = x.shape[0]
    while i < n:
        size = min(<Py_ssize_t>CHUNK, n - i)
        if kind == BCE_WITH_LOGITS:
            bce_with_logits_loop(&x[i], &t[i], chunk_loss, chunk_slope, size)
        elif kind == BCE:
            bce_loop(&x[i], &t[i], chunk_loss, chunk_slope, size)
        else:
            squared_error_loop(&x[i], &t[i], chunk_loss, chunk_slope, size)
        settle(
            chunk_loss, chunk_slope,
            &weight[i] if weight.shape[0] > 0 else NULL,
            &total,
            &loss[i] if loss.shape[0] > 0 else NULL,
            &dx[i] if dx.shape[0] > 0 else NULL,
            size, scale)
        i += size
    return total


def binary_cross_entropy_with_logits(
    const real[::1] z not None, const real[::1] t not None, const real[::1] weight not None,
    real[::1] loss not None, real[::1] dz not None, double scale,
):
    """loss = weight (softplus(z) - t z), dz = scale weight (sigmoid(z) - t); all (N,). Returns the sum of the losses."""
    cdef double total
    with nogil:
        total = elementwise(BCE_WITH_LOGITS, z, t, weight, loss, dz, scale)
    return total


def binary_cross_entropy(
    const real[::1] p not None, const real[::1] t not None, const real[::1] weight not None,
    real[::1] loss not None, real[::1] dp not None, double scale,
):
    """loss = -weight (t log(p) + (1 - t) log(1 - p)), dp = scale weight (p - t) / (p (1 - p)); all (N,).

    Returns the sum of the losses."""
    cdef double total
    with nogil:
        total = elementwise(BCE, p, t, weight, loss, dp, scale)
    return total


def squared_error(
    const real[::1] x not None, const real[::1] t not None, const real[::1] weight not None,
    real[::1] loss not None, real[::1] dx not None, double scale,
):
    """loss = weight (x - t)^2, dx = scale weight 2 (x - t); all (N,). Returns the sum of the losses."""
    cdef double total
    with nogil:
        total = elementwise(SQUARED_ERROR, x, t, weight, loss, dx, scale)
    return total


# ---- ranges: where the first wrong target stands, or -1 ------------------------------------------------------------

def first_outside_range(const int64_t[::1] y not None, Py_ssize_t classes):
    """The first i with y_i < 0 or y_i >= classes, else -1; y: (N,)."""
    cdef Py_ssize_t i
    for i in range(y.shape[0]):
        if y[i] < 0 or y[i] >= classes:
            return i
    return -1


def first_outside_unit(const real[::1] x not None):
    """The first i for which 0 <= x_i <= 1 does not hold, NaN included, else -1; x: (N,)."""
    cdef Py_ssize_t i
    for i in range(x.shape[0]):
        if not (0 <= x[i] <= 1):
            return i
    return -1


# ---- updates of a flat parameter vector, in place ------------------------------------------------------------------

cdef clones sgd_loop(real* w, const real* g, Py_ssize_t n, real lr, real decay) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        w[i] -= lr * (g[i] + decay * w[i])


cdef clones momentum_loop(
    real* w, real* v, const real* g, Py_ssize_t n, real lr, real momentum, bint nesterov, real decay,
) noexcept nogil:
    cdef real step
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        v[i] = momentum * v[i] + step
        w[i] -= lr * (step + momentum * v[i] if nesterov else v[i])


cdef clones adam_loop(
    real* w, real* m, real* v, const real* g, Py_ssize_t n, real rate, real beta1, real beta2, real root, real eps,
    real decay,
) noexcept nogil:
    cdef real step
    cdef Py_ssize_t i
    for i in range(n):
        step = g[i] + decay * w[i]
        m[i] += (step - m[i]) * (<real>1 - beta1)
        v[i] = beta2 * v[i] + (<real>1 - beta2) * step * step
        w[i] -= rate * m[i] / ((sqrtf(v[i]) if real is float else sqrt(v[i])) / root + eps)


def sgd_update(const real[::1] g not None, real[::1] w not None, double lr, double decay):
    """w -= lr (g + decay w); all (P,)."""
    with nogil:
        sgd_loop(&w[0], &g[0], w.shape[0], lr, decay)


def momentum_update(
    const real[::1] g not None, real[::1] w not None, real[::1] v not None,
    double lr, double momentum, bint nesterov, double decay,
):
    """d = g + decay w, v = momentum v + d, w -= lr v, or lr (d + momentum v) with nesterov; all (P,)."""
    with nogil:
        momentum_loop(&w[0], &v[0], &g[0], w.shape[0], lr, momentum, nesterov, decay)


def adam_update(
    const real[::1] g not None, real[::1] w not None, real[::1] m not None, real[::1] v not None,
    double lr, double beta1, double beta2, double eps, double decay, int64_t step,
):
    """m, v = running means of g and g^2, w -= lr m' / (sqrt(v') + eps), m' = m / (1 - beta1^step) ...; all (P,)."""
    cdef double rate = lr / (1.0 - beta1 ** step)
    cdef double root = sqrt(1.0 - beta2 ** step)
    with nogil:
        adam_loop(&w[0], &m[0], &v[0], &g[0], w.shape[0], rate, beta1, beta2, root, eps, decay)
