# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Cross-entropy of softmax(z), value and gradient. Letters and rules: _activations.pyx; rows of logits: _rows.pxd.

Classes have weights w_k, rows have weights, s is the smoothing, gamma the focus (0: none). A row of weight 0 is not looked
at: its loss and gradient are 0 whatever it holds.
"""

from cpython.buffer cimport PyBuffer_Release
from libc.math cimport INFINITY, M_PI, NAN, cos, pow
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from minnet cimport _math
from minnet._doors cimport alike, apart, enter, labels_of
from minnet._loops cimport LANES, clones, whole_clones
from minnet._math cimport inlined, real
from minnet._rows cimport (
    FEW, FLUSH, ROWS, add, exp_others, flush, fold, fold_all, log_total, row_max, tile_load, tile_max, tile_others,
    tile_store,
)

# ---- labels --------------------------------------------------------------------------------------------------------
# With S = 1 + others = sum_k e_k and p_k = e_k / S:
#     c = logsumexp(z) - z_y = (m - z_y) + log(S)                  both terms >= 0, nothing cancels
#     d c / d z_k = p_k - [k = y];  for k = y that is -(sum of the other e) / S, which keeps its digits as p_y -> 1.
# With u = 1 - p_y = (sum of the other e) / S, whose slope is p_y times that of c, the focal loss and its gradient are
#     u^gamma c   and   u^gamma (1 + gamma p_y c / u) times that of c;    c / u -> 1 as u -> 0, so that nothing is lost
#     for gamma < 1, where u^(gamma - 1) has no limit.
# With smoothing, class k has the share T_k = w_k ((1 - s) [k = y] + s / C) of the target:
#     loss = sum_k T_k ((m - z_k) + log(S)),   d loss / d z_k = p_k sum(T) - T_k, with T_k = w_k s / C but at the label.

cdef inline inlined settle_label(
    real z_y, real e_y, real m, double others, double log_sum, double* loss, double* wrong, double* total,
) noexcept nogil:
    """From the sum of a row and its log(S): its c, the sum of the e of other classes, and S."""
    total[0] = 1.0 + others
    wrong[0] = others if z_y == m else total[0] - e_y
    loss[0] = (0.0 if z_y == m else <double>m - z_y) + log_sum


cdef inline inlined focus(double p_y, double u, double power, double gamma, double* loss, double* pull) noexcept nogil:
    """loss *= u^gamma; `pull` is what the gradient is multiplied by. p_y is given, since 1 - u would have few digits."""
    cdef double ratio = loss[0] / u
    ratio = gamma * p_y * (ratio if u > 0 else 1.0)
    pull[0] = power * (1.0 + (ratio if p_y > 0 else 0.0))   # 0 inf is NaN: c = inf has nothing to add
    loss[0] = power * loss[0]


cdef inline inlined smooth(
    double w_y, double distances, double e_y, double wrong, double total, double log_sum, double classes,
    const Options* o, double* loss, double* mass, double* slope,
) noexcept nogil:
    """loss = c becomes the smoothed one; sum(T), and S times the gradient at the label."""
    cdef double rest = o.s / classes, label = (1.0 - o.s) * w_y
    cdef double share = label + rest * w_y
    mass[0] = label + rest * o.mass
    loss[0] = label * loss[0] + rest * (distances + log_sum * o.mass)
    slope[0] = e_y * (mass[0] - share) - share * wrong


cdef inline inlined distance(real z, double m, double* d) noexcept nogil:
    """d = m - z, 0 at the maximum, even an infinite one."""
    d[0] = 0.0 if z == m else m - z


cdef inline inlined distance_block(const real* z, const real* w, double m, double* sums, Py_ssize_t n) noexcept nogil:
    cdef double d
    cdef Py_ssize_t j
    for j in range(n):
        distance(z[j], m, &d)
        sums[j] += d if w == NULL else 0.0 if w[j] == 0 else w[j] * d


cdef inline inlined distance_sum(const real* z, const real* w, double m, double* total, Py_ssize_t n) noexcept nogil:
    """sum_k w_k (m - z_k)."""
    cdef double sums[LANES]
    cdef double high[LANES]
    cdef double low[LANES]
    cdef Py_ssize_t block, j
    for j in range(LANES):
        sums[j] = high[j] = low[j] = 0
    for block in range(n // LANES):
        j = block * LANES
        distance_block(z + j, w if w == NULL else w + j, m, sums, LANES)
        if real is double and block % FLUSH == FLUSH - 1:
            flush(sums, high, low)
    j = n - n % LANES
    distance_block(z + j, w if w == NULL else w + j, m, sums, n % LANES)
    flush(sums, high, low)
    fold_all(high, low)
    total[0] = high[0] + (low[0] if high[0] < INFINITY else 0.0)   # the low part of an infinite sum is NaN


cdef clones label_row(
    const real* z, Py_ssize_t y, const real* w, double* loss, real* dz, Py_ssize_t n, double scale, const Options* o,
) noexcept nogil:
    cdef real m, e_y, factor, rest
    cdef double others, low, wrong, total, distances, log_sum, u, power, mass = 1.0, slope
    cdef Py_ssize_t k
    row_max(z, &m, n)
    exp_others(z, m, <real>1, &others, &low, dz, n, False)
    e_y = _math.exp_difference(z[y], m) * _math.unshift(m)
    others = others if m > -INFINITY else <double>NAN
    log_total(others, low, &log_sum)
    settle_label(z[y], e_y, m, others, log_sum, loss, &wrong, &total)
    slope = -wrong
    if o.gamma > 0:
        u = wrong / total
        _math.powers(&u, &power, &low, 1, o.gamma)
        focus((1.0 if z[y] == m else e_y) / total, u, power, o.gamma, loss, &mass)
        slope *= mass
    elif o.s > 0:
        distance_sum(z, w, m, &distances, n)
        smooth(1.0 if w == NULL else w[y], distances, 1.0 if z[y] == m else e_y, wrong, total, log_sum, n, o, loss, &mass, &slope)
    if dz == NULL:
        return
    factor = mass * scale / total
    rest = o.s / n * scale if o.gamma == 0 else 0.0
    if rest == 0:
        for k in range(n):
            dz[k] = dz[k] * factor * _math.unshift(factor)
    elif w == NULL:
        for k in range(n):
            dz[k] = dz[k] * factor * _math.unshift(factor) - rest
    else:
        for k in range(n):
            dz[k] = dz[k] * factor * _math.unshift(factor) - rest * w[k]
    dz[y] = slope * (scale / total)


cdef inline inlined label_lanes(
    const real* z, const int64_t* y, const real* w, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o,
) noexcept nogil:
    """A tile of rows; o is NULL, a constant of the caller, where there is neither smoothing nor focus."""
    cdef real t[FEW * ROWS]
    cdef real e[FEW * ROWS]
    cdef real m[ROWS]
    cdef real z_y[ROWS]
    cdef real e_y[ROWS]
    cdef int label[ROWS]
    cdef real factor[ROWS]
    cdef real slope[ROWS]
    cdef real rest[ROWS]
    cdef double others[ROWS]
    cdef double log_sum[ROWS]
    cdef double wrong[ROWS]
    cdef double total[ROWS]
    cdef double scales[ROWS]
    cdef double mass[ROWS]
    cdef double u[ROWS]
    cdef double power[ROWS]
    cdef double room[ROWS]
    cdef double inverse
    cdef Py_ssize_t j, k
    tile_load(z, weight, t, rows, n)
    tile_max(t, m, n)
    for j in range(ROWS):
        label[j], z_y[j], scales[j] = 0, 0, scale
    for j in range(rows):
        label[j] = <int>y[j]
    for j in range(rows):
        z_y[j] = t[y[j] * ROWS + j]
    tile_others(t, m, _math.unshift(<real>0), others, e, n)
    for j in range(rows if weight != NULL else 0):
        scales[j] *= weight[j]
    for j in range(ROWS):
        e_y[j] = _math.exp_difference(z_y[j], m[j]) * _math.unshift(m[j])   # as it stands in e
        log_sum[j] = _math.log1p(others[j])
        settle_label(z_y[j], e_y[j], m[j], others[j], log_sum[j], &loss[j], &wrong[j], &total[j])
        inverse = scales[j] / total[j]
        factor[j], slope[j] = inverse, -wrong[j] * inverse
    if o != NULL and o.gamma > 0:
        for j in range(ROWS):
            u[j] = wrong[j] / total[j]
        _math.powers(u, power, room, ROWS, o.gamma)
        for j in range(ROWS):
            focus(e_y[j] / total[j], u[j], power[j], o.gamma, &loss[j], &mass[j])
            inverse = scales[j] * mass[j] / total[j]
            factor[j], slope[j] = inverse, -wrong[j] * inverse
    elif o != NULL and o.s > 0:
        smooth_tile(t, y, w, m, e_y, log_sum, total, o, loss, wrong, mass, rows, n)
    if dz == NULL:
        return
    if o != NULL and o.s > 0 and o.gamma == 0:
        for j in range(ROWS):
            rest[j] = o.s / n * scales[j]
            factor[j] = mass[j] * scales[j] / total[j]
            slope[j] = -wrong[j] * (scales[j] / total[j])
        for k in range(n):
            for j in range(ROWS):
                e[k * ROWS + j] = e[k * ROWS + j] * factor[j] - rest[j] * (<real>1 if w == NULL else w[k])
                e[k * ROWS + j] = slope[j] if label[j] == <int>k else e[k * ROWS + j]
    else:
        for k in range(n):
            for j in range(ROWS):
                e[k * ROWS + j] *= factor[j]
                e[k * ROWS + j] = slope[j] if label[j] == <int>k else e[k * ROWS + j]
    tile_store(e, dz, rows, n)


cdef clones plain_tile(
    const real* z, const int64_t* y, const double* weight, double* loss, real* dz, Py_ssize_t rows, Py_ssize_t n,
    double scale,
) noexcept nogil:
    label_lanes(z, y, <const real*>NULL, weight, loss, dz, rows, n, scale, NULL)


cdef clones label_tile(
    const real* z, const int64_t* y, const real* w, const double* weight, double* loss, real* dz, Py_ssize_t rows,
    Py_ssize_t n, double scale, const Options* o,
) noexcept nogil:
    label_lanes(z, y, w, weight, loss, dz, rows, n, scale, o)


cdef inline inlined smooth_tile(
    const real* t, const int64_t* y, const real* w, const real* m, const real* e_y, const double* log_sum,
    const double* total, const Options* o, double* loss, double* wrong, double* mass, Py_ssize_t rows, Py_ssize_t n,
) noexcept nogil:
    """Smoothing for the rows of a tile; -S times the gradient at the label takes the place of `wrong`."""
    cdef double sums[ROWS]
    cdef double sums_low[ROWS]
    cdef double w_y[ROWS]
    cdef double d
    cdef Py_ssize_t j, k
    for j in range(ROWS):
        sums[j] = sums_low[j] = 0
        w_y[j] = w[y[j]] if w != NULL and j < rows else 1.0
    for k in range(n):
        if w == NULL or w[k] != 0:
            for j in range(ROWS):
                distance(t[k * ROWS + j], m[j], &d)
                d *= 1.0 if w == NULL else w[k]
                if real is float:
                    sums[j] += d
                else:
                    add(&sums[j], &sums_low[j], d)
    for j in range(ROWS):
        sums[j] += sums_low[j] if sums[j] < INFINITY else 0.0
        smooth(w_y[j], sums[j], e_y[j], wrong[j], total[j], log_sum[j], n, o, &loss[j], &mass[j], &wrong[j])
        wrong[j] = -wrong[j]


# ---- shares --------------------------------------------------------------------------------------------------------
# Where every class may have a share of the target, T_k = w_k ((1 - s) t_k + s / C), t probabilities, or onehot(y):
#     loss = sum_k T_k u_k^gamma c_k,   c_k = (m - z_k) + log(S),   u_k = 1 - p_k;   T_k = 0 adds 0 even where z_k = -inf
#          = sum_k T_k (m - z_k) + log(S) sum(T) where gamma = 0
#     G_k  = T_k u_k^gamma (1 + gamma p_k c_k / u_k),               as for a label
#     d loss / d z_k = p_k sum(G) - G_k = p_k (sum(G) - G_k) - G_k (1 - p_k), where 1 - p_k is (S - e_k) / S, or others / S
#     at the maximum: for one-hot shares this is the gradient of the label, digit by digit.

cdef inline inlined spread(
    const real* t, const int64_t* y, const real* w, real* T, Py_ssize_t n, Py_ssize_t step, real s,
) noexcept nogil:
    """The shares of a row, `step` apart: of the probabilities t, or where t is NULL of the label y."""
    cdef real rest = s / n, keep = <real>1 - s
    cdef Py_ssize_t k
    if t == NULL:
        for k in range(n):
            T[k * step] = rest if w == NULL else rest * w[k]
        T[y[0] * step] = (keep + rest) * (<real>1 if w == NULL else w[y[0]])
    else:
        for k in range(n):
            T[k * step] = keep * t[k] + rest if w == NULL else (keep * t[k] + rest) * w[k]


cdef inline inlined term(real z, real T, double m, double* loss) noexcept nogil:
    """loss = T (m - z)."""
    loss[0] = 0.0 if T == 0 else T * (0.0 if z == m else m - z)


# The focal factor of the most likely class is that of a label, in double. For the others p <= 1/2, and with u = 1 - p
# and V = u^(gamma - 1)
#     loss = T V u c,   G = T V (u + gamma p c),   V = u^i (1 - p)^f,   i whole, |f| < 1
# where (1 - p)^f is nearly a polynomial: no logarithm, exponential, root or quotient is needed, whatever gamma is.

cdef double WHOLE = 1e15   # a gamma beyond counts as this, where it would leave float32


cdef void fit(double f, double* c, Py_ssize_t terms) noexcept nogil:
    """(1 - p)^f = sum_i c_i x^i with x = 4 p - 1 for 0 <= p <= 1/2, from the values at Chebyshev's nodes.

    The power has its singularity at x = 3, so that its series in Chebyshev's polynomials falls by 3 + sqrt(8) a term.
    """
    cdef double cosine[4 * TERMS]     # of multiples of the first node's angle
    cdef double y[TERMS]
    cdef double t[TERMS]              # T_k, and T_(k - 1), by powers of x; T_-1 = T_1
    cdef double t_before[TERMS]
    cdef double a
    cdef Py_ssize_t i, k
    for i in range(4 * terms):
        cosine[i] = cos(M_PI * i / (2 * terms))
    for i in range(terms):
        y[i] = pow((3 - cosine[2 * i + 1]) / 4, f) - 1
        t[i], t_before[i], c[i] = i == 0, i == 1, i == 0
    for k in range(terms):
        a = 0
        for i in range(terms):
            a += y[i] * cosine[k * (2 * i + 1) % (4 * terms)]
        a *= (1.0 if k == 0 else 2.0) / terms
        for i in range(terms - 1, -1, -1):
            c[i] += a * t[i]
            t[i], t_before[i] = (2 * t[i - 1] if i > 0 else 0.0) - t_before[i], t[i]


cdef inline inlined quad(real x, real x2, const real* c, real* sum) noexcept nogil:
    sum[0] = (c[0] + c[1] * x) + x2 * (c[2] + c[3] * x)


cdef inline inlined small_power(real p, const real* c, real* power) noexcept nogil:
    """(1 - p)^f for 0 <= p <= 1/2 by `fit`: 10 terms for 24 digits, 22 for 53."""
    cdef real x = <real>4 * p - <real>1
    cdef real x2 = x * x
    cdef real x4 = x2 * x2
    cdef real first, second, third, fourth, fifth
    quad(x, x2, c, &first)
    quad(x, x2, c + 4, &second)
    if real is float:
        power[0] = first + x4 * (second + x4 * (c[8] + c[9] * x))
    else:
        quad(x, x2, c + 8, &third)
        quad(x, x2, c + 12, &fourth)
        quad(x, x2, c + 16, &fifth)
        power[0] = first + x4 * (second + x4 * (third + x4 * (fourth + x4 * (fifth + x4 * (c[20] + c[21] * x)))))


cdef inline inlined small_powers(real* u, real* V, const real* c, Py_ssize_t whole, Py_ssize_t n) noexcept nogil:
    """u = p on entry becomes 1 - p, or a power of it; V = (1 - p)^(whole + f)."""
    cdef Py_ssize_t j
    if c[1] == 0:   # f = 0
        for j in range(n):
            V[j] = 1
    else:
        for j in range(n):
            small_power(u[j], c, &V[j])
    for j in range(n):
        u[j] = <real>1 - u[j]
    while whole > 0:   # by squaring
        if whole & 1:
            for j in range(n):
                V[j] *= u[j]
        whole >>= 1
        if whole > 0:
            for j in range(n):
                u[j] *= u[j]


cdef inline inlined focal_term(
    real z, real p, real T, real m, real L, real gamma, real V, real F, real H, real* G, real* loss,
) noexcept nogil:
    """G, and loss = T u^gamma c; F and H are those of the maximum, for T = 1."""
    cdef real FAR = 1000
    cdef real u = <real>1 - p
    cdef real c = (m - z) + L
    cdef real near = FAR if FAR < c else c   # 0 inf is NaN
    cdef real share = V * (u + gamma * (p * near))
    cdef real cost = V * u * c
    share = H if z == m else share
    cost = F if z == m else cost
    G[0] = T * share
    loss[0] = <real>0 if T == 0 else T * cost


cdef inline inlined focus_maximum(
    double others, double log_sum, double power, double gamma, double* F, double* H,
) noexcept nogil:
    """loss = F and gradient G = H of a class at the maximum, for T = 1."""
    F[0] = log_sum
    focus(1.0 / (1.0 + others), others / (1.0 + others), power, gamma, F, H)


cdef inline inlined share_block(
    const real* z, const real* e, const real* T, real* G, real m, real L, real inverse, real F, real H, const real* c,
    const Options* o, double* losses, double* masses, Py_ssize_t n,
) noexcept nogil:
    """Losses and masses of up to LANES entries, added lane by lane; with gamma, G is kept."""
    cdef double wide[LANES]
    cdef real loss[LANES]
    cdef real slope[LANES]
    cdef real u[LANES]
    cdef real V[LANES]
    cdef real gamma = min(o.gamma, WHOLE)
    cdef Py_ssize_t j
    if o.gamma == 0:
        for j in range(n):
            term(z[j], T[j], m, &wide[j])
        for j in range(n):
            losses[j] += wide[j]
            masses[j] += T[j]
        return
    for j in range(n):
        u[j] = e[j] * inverse
    small_powers(u, V, c, o.whole, n)
    for j in range(n):
        focal_term(z[j], e[j] * inverse, T[j], m, L, gamma, V[j], F, H, &slope[j], &loss[j])
    for j in range(n):
        G[j] = slope[j]
        losses[j] += loss[j]
        masses[j] += slope[j]


cdef inline inlined share_sums(
    const real* z, const real* e, const real* T, real* G, real m, real L, real inverse, real F, real H,
    const Options* o, double* loss, double* mass, Py_ssize_t n,
) noexcept nogil:
    """The loss of a row and the sum of its G, or its T where gamma is 0."""
    cdef real c[TERMS]
    cdef double sums[2 * LANES]
    cdef double high[2 * LANES]
    cdef double low[2 * LANES]
    cdef Py_ssize_t block, j
    for j in range(TERMS):
        c[j] = o.fit[j] if o.gamma > 0 else 0.0
    for j in range(2 * LANES):
        sums[j] = high[j] = low[j] = 0
    for block in range(n // LANES):
        j = block * LANES
        share_block(z + j, e + j, T + j, G + j, m, L, inverse, F, H, c, o, sums, sums + LANES, LANES)
        if real is double and block % FLUSH == FLUSH - 1:
            flush(sums, high, low)
            flush(sums + LANES, high + LANES, low + LANES)
    j = n - n % LANES
    share_block(z + j, e + j, T + j, G + j, m, L, inverse, F, H, c, o, sums, sums + LANES, n % LANES)
    flush(sums, high, low)
    flush(sums + LANES, high + LANES, low + LANES)
    fold_all(high, low)
    fold_all(high + LANES, low + LANES)
    loss[0] = high[0] + (low[0] if high[0] < INFINITY else 0.0)   # the low part of an infinite sum is NaN
    mass[0] = high[LANES] + low[LANES]


cdef enum:
    MANY = 16   # Where `others` is as much, no p is large: the terms of p_k sum(G) - G_k are larger by a 15th at most.


cdef inline inlined share_gradient(real z, real G, real m, real mass, real others, real S, real factor, real* e) noexcept nogil:
    e[0] = (e[0] * (mass - G) - G * (others if z == m else S - e[0])) * factor


cdef clones share_row(
    const real* z, const real* t, const int64_t* y, const real* w, real* work, double* loss, real* dz, Py_ssize_t n,
    double scale, const Options* o,
) noexcept nogil:
    """`work` is room for 4 n numbers, of which the third n are not touched."""
    cdef real m, inverse, pull
    cdef real* e = work if dz == NULL else dz
    cdef const real* T = t   # nobody writes to it
    cdef const real* G
    cdef double others, low, log_sum, mass, u, power, F = 0, H = 0
    cdef Py_ssize_t k
    row_max(z, &m, n)
    exp_others(z, m, _math.unshift(m), &others, &low, e, n, False)
    others = others if m > -INFINITY else <double>NAN
    log_total(others, low, &log_sum)
    if w != NULL or y != NULL or o.s > 0:
        spread(t, y, w, work + n, n, 1, <real>o.s)
        T = work + n
    if o.gamma > 0:
        u = others / (1.0 + others)
        _math.powers(&u, &power, &low, 1, o.gamma)
        focus_maximum(others, log_sum, power, o.gamma, &F, &H)
    inverse = 1.0 / (1.0 + others)
    share_sums(z, e, T, work + 3 * n, m, <real>log_sum, inverse, <real>F, <real>H, o, loss, &mass, n)
    G = T if o.gamma == 0 else work + 3 * n
    if o.gamma == 0:
        loss[0] += log_sum * mass
    if dz != NULL and others >= MANY and m < INFINITY:
        pull = mass * scale / (1.0 + others)
        for k in range(n):
            dz[k] = dz[k] * pull - G[k] * <real>scale
    elif dz != NULL:
        for k in range(n):
            share_gradient(
                z[k], G[k], m, <real>mass, <real>others, <real>(1.0 + others), <real>(scale / (1.0 + others)), &dz[k])


cdef inline inlined share_lanes(
    const real* z, const real* e, real* T, const real* m, const real* L, const real* inverse, const real* F,
    const real* H, const real* c, const Options* o, double* loss, double* loss_low, double* mass, double* mass_low,
) noexcept nogil:
    """One class of a tile; with gamma, T becomes G."""
    cdef double losses[ROWS]
    cdef real cost[ROWS]
    cdef real u[ROWS]
    cdef real V[ROWS]
    cdef real gamma = min(o.gamma, WHOLE)
    cdef Py_ssize_t j
    if o.gamma == 0:
        for j in range(ROWS):
            term(z[j], T[j], m[j], &losses[j])
    else:
        for j in range(ROWS):
            u[j] = e[j] * inverse[j]
        small_powers(u, V, c, o.whole, ROWS)
        for j in range(ROWS):
            focal_term(z[j], e[j] * inverse[j], T[j], m[j], L[j], gamma, V[j], F[j], H[j], &T[j], &cost[j])
            losses[j] = cost[j]
    for j in range(ROWS):
        if real is float:
            loss[j] += losses[j]
            mass[j] += T[j]
        else:
            add(&loss[j], &loss_low[j], losses[j])
            add(&mass[j], &mass_low[j], T[j])


cdef inline inlined focus_maxima(
    const double* others, const double* log_sums, double gamma, real* F, real* H,
) noexcept nogil:
    """The same for the rows of a tile."""
    cdef double u[ROWS]
    cdef double power[ROWS]
    cdef double room[ROWS]
    cdef Py_ssize_t j
    for j in range(ROWS):
        u[j] = others[j] / (1.0 + others[j])
    _math.powers(u, power, room, ROWS, gamma)
    for j in range(ROWS):
        focus_maximum(others[j], log_sums[j], power[j], gamma, &u[j], &room[j])
        F[j], H[j] = u[j], room[j]


cdef clones share_tile(
    const real* z, const real* t, const int64_t* y, const real* w, const double* weight, double* loss, real* dz,
    Py_ssize_t rows, Py_ssize_t n, double scale, const Options* o,
) noexcept nogil:
    cdef real zs[FEW * ROWS]
    cdef real Ts[FEW * ROWS]
    cdef real es[FEW * ROWS]
    cdef real m[ROWS]
    cdef real L[ROWS]
    cdef real rest[ROWS]
    cdef real S[ROWS]
    cdef real inverse[ROWS]
    cdef real F[ROWS]
    cdef real H[ROWS]
    cdef real c[TERMS]
    cdef real total[ROWS]
    cdef real factor[ROWS]
    cdef double others[ROWS]
    cdef double low[ROWS]
    cdef double loss_low[ROWS]
    cdef double mass[ROWS]
    cdef double mass_low[ROWS]
    cdef Py_ssize_t j, k
    tile_load(z, weight, zs, rows, n)
    if rows < ROWS or weight != NULL:
        for k in range(n * ROWS):
            Ts[k] = 0
    for j in range(rows):
        if weight == NULL or weight[j] != 0:
            spread(t if t == NULL else t + j * n, y if y == NULL else y + j, w, Ts + j, n, ROWS, <real>o.s)
    tile_max(zs, m, n)
    tile_others(zs, m, _math.unshift(<real>0), others, es, n)
    for j in range(ROWS):
        low[j] = _math.log1p(others[j])
        L[j], rest[j], S[j] = low[j], others[j], 1.0 + others[j]
        inverse[j] = 1.0 / (1.0 + others[j])
        loss[j] = loss_low[j] = mass[j] = mass_low[j] = 0
    if o.gamma > 0:
        focus_maxima(others, low, o.gamma, F, H)
        for k in range(TERMS):
            c[k] = o.fit[k]
    for k in range(n):
        share_lanes(
            zs + k * ROWS, es + k * ROWS, Ts + k * ROWS, m, L, inverse, F, H, c, o, loss, loss_low, mass, mass_low)
    for j in range(ROWS):
        loss[j] += loss_low[j] if loss[j] < INFINITY else 0.0   # the low part of an infinite sum is NaN
        mass[j] += mass_low[j]
        if o.gamma == 0:
            loss[j] += low[j] * mass[j]
        total[j] = mass[j]
        factor[j] = (scale * weight[j] if weight != NULL and j < rows else scale) / (1.0 + others[j])
    if dz == NULL:
        return
    for k in range(n):
        for j in range(ROWS):
            share_gradient(
                zs[k * ROWS + j], Ts[k * ROWS + j], m[j], total[j], rest[j], S[j], factor[j], &es[k * ROWS + j])
    tile_store(es, dz, rows, n)


# ---- batches -------------------------------------------------------------------------------------------------------

cdef clones settle_rows(double* values, const double* weight, Py_ssize_t rows, double* high, double* low) noexcept nogil:
    """Weigh the losses of some rows, add them to high + low, each row to a lane."""
    cdef double copies[ROWS]   # arrays of the caller might overlap, and the loop would not vectorise
    cdef Py_ssize_t j
    for j in range(rows if weight != NULL else 0):
        values[j] = 0.0 if weight[j] == 0 else values[j] * weight[j]
    for j in range(ROWS):
        copies[j] = values[j] if j < rows else 0.0
    for j in range(rows):
        add(&high[j], &low[j], copies[j])


cdef double add_lanes(double* high, double* low) noexcept nogil:
    """The sum of all lanes: once a call, so that one level will do."""
    fold(high, low, 16)
    fold(high, low, 8)
    fold(high, low, 4)
    fold(high, low, 2)
    fold(high, low, 1)
    return high[0] + low[0] if low[0] == low[0] else high[0]   # of infinite losses nothing is rounded off


cdef bint skipped(const double* weight, real* dz, Py_ssize_t n) noexcept nogil:
    """Whether a row has the weight 0; its gradient is then cleared."""
    cdef Py_ssize_t k
    if weight == NULL or weight[0] != 0:
        return False
    for k in range(n if dz != NULL else 0):
        dz[k] = 0
    return True


cdef void weigh_labels(
    const int64_t* y, const real* w, const double* weight, int64_t* labels, double* products, Py_ssize_t rows,
    const Options* o,
) noexcept nogil:
    """Weights of some rows times those of their classes, 0 for ignored rows, whose label becomes 0."""
    cdef Py_ssize_t j
    cdef bint out
    for j in range(rows):
        out = o.masked and y[j] == o.ignored
        labels[j] = 0 if out else y[j]
        products[j] = 0.0 if out else 1.0 if weight == NULL else weight[j]
    if w != NULL:
        for j in range(rows):
            products[j] *= w[labels[j]]


cdef double batch(
    const real* z, const real* t, const int64_t* y, const real* w, const double* weight, real* work, real* loss, real* dz,
    Py_ssize_t n, Py_ssize_t classes, double scale, const Options* o,
) noexcept nogil:
    """The sum of the losses of n rows; anything but z may be NULL, and one of t and y is. dz may be z: the row that is
    read is then a copy, as loops over one array that is read and written under two names would not vectorise."""
    cdef double values[ROWS]
    cdef double products[ROWS]
    cdef int64_t checked[ROWS]
    cdef const double* u
    cdef const real* row
    cdef const real* shares = NULL
    cdef const int64_t* labels = NULL
    cdef real* slope = NULL
    cdef double high[ROWS]
    cdef double low[ROWS]
    cdef double row_scale
    cdef Py_ssize_t i, j, rows
    cdef bint label = t == NULL and (o.s == 0 or o.gamma == 0)
    cdef const real* of_rows = w if label and o.s == 0 else NULL   # the weight of the class is one of the row
    for i in range(ROWS):
        high[i] = low[i] = 0
    i = 0
    while i < n:
        rows = min(<Py_ssize_t>ROWS, n - i) if classes <= FEW else 1
        if t != NULL:
            shares = t + i * classes
        if y != NULL:
            labels = y + i
        if dz != NULL:
            slope = dz + i * classes
        row = z + i * classes
        u = NULL if weight == NULL else weight + i
        if of_rows != NULL or o.masked:
            weigh_labels(labels, of_rows, u, checked, products, rows, o)
            labels, u = checked, products
        row_scale = scale if u == NULL else scale * u[0]
        if dz == z and classes > FEW:
            memcpy(work + 2 * classes, row, classes * sizeof(real))
            row = work + 2 * classes
        if classes <= FEW and label and o.s == 0 and o.gamma == 0:
            plain_tile(row, labels, u, values, slope, rows, classes, scale)
        elif classes <= FEW and label:
            label_tile(row, labels, w, u, values, slope, rows, classes, scale, o)
        elif classes <= FEW:
            share_tile(row, shares, labels, w, u, values, slope, rows, classes, scale, o)
        elif skipped(u, slope, classes):
            values[0] = 0
        elif label:
            label_row(row, labels[0], w, values, slope, classes, row_scale, o)
        else:
            share_row(row, shares, labels, w, work, values, slope, classes, row_scale, o)
        settle_rows(values, u, rows, high, low)
        for j in range(rows if loss != NULL else 0):
            loss[i + j] = values[j]
        i += rows
    return add_lanes(high, low)


cdef Options options(const real[::1] w, Py_ssize_t classes, double s, double gamma) noexcept nogil:
    cdef Options o
    cdef Py_ssize_t k
    o.s, o.gamma, o.mass, o.ignored, o.masked = s, gamma, classes, 0, False
    if gamma > 0:
        for k in range(TERMS):
            o.fit[k] = 0
        o.whole = <Py_ssize_t>min(max(gamma - 1, 0), WHOLE)
        fit(gamma - 1 - o.whole if gamma < WHOLE else 0.0, o.fit, 10 if real is float else TERMS)
    if w.shape[0] > 0:
        o.mass = 0
        for k in range(classes):
            o.mass += w[k]
    return o


def cross_entropy_index(
    const real[:, ::1] z not None, const int64_t[::1] y not None, const real[::1] w not None,
    const double[::1] weight not None, real[::1] loss not None, real[:, ::1] dz not None,
    double scale, double s, double gamma, int64_t ignored, bint masked,
):
    """loss = weight sum_k T_k (1 - p_k)^gamma (-log p_k), p = softmax(z), T_k = w_k ((1 - s) [k = y] + s / C),
    dz = scale times its gradient; z, dz: (N, C), w: (C,), the others (N,). Returns the sum of the losses.

    With `masked`, rows whose label is `ignored` have the weight 0."""
    cdef double total
    cdef Options o = options(w, z.shape[1], s, gamma)
    o.ignored, o.masked = ignored, masked
    cdef real* work = <real*>malloc(4 * (z.shape[1] + 1) * sizeof(real))
    if work == NULL:
        raise MemoryError()
    with nogil:
        total = batch(
            &z[0, 0], <const real*>NULL, &y[0], &w[0] if w.shape[0] > 0 else NULL,
            &weight[0] if weight.shape[0] > 0 else NULL, work, &loss[0] if loss.shape[0] > 0 else NULL,
            &dz[0, 0] if dz.shape[0] > 0 else NULL, z.shape[0], z.shape[1], scale, &o)
    free(work)
    return total


def cross_entropy_soft(
    const real[:, ::1] z not None, const real[:, ::1] t not None, const real[::1] w not None,
    const double[::1] weight not None, real[::1] loss not None, real[:, ::1] dz not None,
    double scale, double s, double gamma,
):
    """The same for probabilities t, T_k = w_k ((1 - s) t_k + s / C); z, t, dz: (N, C), w: (C,), the others (N,)."""
    cdef double total
    cdef Options o = options(w, z.shape[1], s, gamma)
    cdef real* work = <real*>malloc(4 * (z.shape[1] + 1) * sizeof(real))
    if work == NULL:
        raise MemoryError()
    with nogil:
        total = batch(
            &z[0, 0], &t[0, 0], <const int64_t*>NULL, &w[0] if w.shape[0] > 0 else NULL,
            &weight[0] if weight.shape[0] > 0 else NULL, work, &loss[0] if loss.shape[0] > 0 else NULL,
            &dz[0, 0] if dz.shape[0] > 0 else NULL, z.shape[0], z.shape[1], scale, &o)
    free(work)
    return total


# ---- labels of a batch: where the first wrong one stands, or -1; what they count -----------------------------------

cdef whole_clones count_outside(
    const int64_t* y, int64_t* found, Py_ssize_t n, int64_t classes, int64_t ignored, bint masked,
) noexcept nogil:
    """Without an exit for the first, which would make it slower."""
    cdef int64_t total = 0
    cdef Py_ssize_t i
    if masked:
        for i in range(n):
            total += ((y[i] < 0) | (y[i] >= classes)) & (y[i] != ignored)
    else:
        for i in range(n):
            total += (y[i] < 0) | (y[i] >= classes)
    found[0] = total


def first_outside_range(const int64_t[::1] y not None, Py_ssize_t classes, ignored=None):
    """The first i with y_i < 0 or y_i >= classes, and y_i other than `ignored`, else -1; y: (N,)."""
    cdef bint masked = ignored is not None
    cdef int64_t label = ignored if masked else 0, wrong
    cdef Py_ssize_t i
    with nogil:
        count_outside(&y[0], &wrong, y.shape[0], classes, label, masked)
    if wrong:
        for i in range(y.shape[0]):
            if (y[i] < 0 or y[i] >= classes) and not (masked and y[i] == label):
                return i
    return -1


cdef whole_clones count_label(const int64_t* y, int64_t* found, Py_ssize_t n, int64_t label) noexcept nogil:
    cdef int64_t total = 0
    cdef Py_ssize_t i
    for i in range(n):
        total += y[i] == label
    found[0] = total


def count_labels(
    const int64_t[::1] y not None, const real[::1] w not None, const double[::1] weight not None, int64_t ignored,
):
    """count = sum of weight_i w[y_i] over y_i other than `ignored`, and how many are; y, weight: (N,), w: (C,)."""
    cdef double sums[4]
    cdef double v
    cdef int64_t found
    cdef Py_ssize_t i, start = 0
    cdef bint by_class = w.shape[0] > 0, by_row = weight.shape[0] > 0
    with nogil:
        count_label(&y[0], &found, y.shape[0], ignored)
        sums[0] = sums[1] = sums[2] = sums[3] = 0
        if by_class and not by_row and found == 0:
            for i in range(0, y.shape[0] - 3, 4):
                sums[0] += w[y[i]]
                sums[1] += w[y[i + 1]]
                sums[2] += w[y[i + 2]]
                sums[3] += w[y[i + 3]]
            start = y.shape[0] // 4 * 4
        for i in range(start, y.shape[0] if by_class or by_row else 0):
            v = w[y[i]] if by_class and y[i] != ignored else 1.0
            v = v * weight[i] if by_row else v
            sums[i & 3] += 0.0 if y[i] == ignored else v
    return (sums[0] + sums[1]) + (sums[2] + sums[3]) if by_class or by_row else <double>(y.shape[0] - found), found


# ---- the door: see _doors.pxd --------------------------------------------------------------------------------------

cdef double mean_loss(
    const real* z, const int64_t* y, real* dz, Py_ssize_t n, Py_ssize_t classes, double s, double gamma,
) noexcept nogil:
    """The mean cross-entropy of n rows of few classes and its gradient; -1 if a label is out of range.

    Smoothed or focal, but not both: that would need room for the shares of classes.
    """
    cdef double scale = 1.0 / n
    cdef Options o
    cdef int64_t wrong
    o.s, o.gamma, o.mass, o.masked = s, gamma, classes, False
    count_outside(y, &wrong, n, classes, 0, False)
    if wrong:
        return -1
    return scale * batch(
        z, <const real*>NULL, y, <const real*>NULL, NULL, <real*>NULL, <real*>NULL, dz, n, classes, scale, &o)


def cross_entropy_door(z not None, y not None, dz not None, double s, double gamma):
    """loss = mean(logsumexp(z) - z_y) and its gradient dz, if z, dz (N, C) and y (N,) are small and plain; else None.

    Smoothed by s or with the focus gamma, as in cross_entropy_index, but not both.
    """
    cdef Py_buffer a, b, c
    cdef double loss = -1
    if not enter(z, &a, False):
        return None
    if enter(y, &b, False):
        if enter(dz, &c, True):
            if alike(&a, &c) and a.buf != c.buf and apart(&b, &c) and a.ndim == 2 and b.ndim == 1:
                if labels_of(&b, a.shape[0]) and 0 < a.shape[1] <= FEW:
                    if a.format[0] == b"f":
                        with nogil:
                            loss = mean_loss(
                                <float*>a.buf, <int64_t*>b.buf, <float*>c.buf, a.shape[0], a.shape[1], s, gamma)
                    elif a.format[0] == b"d":
                        with nogil:
                            loss = mean_loss(
                                <double*>a.buf, <int64_t*>b.buf, <double*>c.buf, a.shape[0], a.shape[1], s, gamma)
            PyBuffer_Release(&c)
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return None if loss == -1 else loss
