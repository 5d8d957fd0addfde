# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Small nets by the thousand, one a SIMD lane.

Letters and rules: _activations.pyx; M members, B blocks of them, L lanes of a block.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from minnet cimport _math
from minnet._math cimport inlined, real
from minnet._loops cimport clones


# ---- nets ----------------------------------------------------------------------------------------------------------
# LANES members of a block go side by side: number j of all of them stands at [j * LANES, (j + 1) * LANES) of every
# array. Parameters lie as in an MLP: W (I, O) and b (O), that is a matrix (I + 1, O) whose last row meets an input of
# 1. So each step is one product C[a, b] = sum over k of A[a, k] B[k, b], lane by lane:
#     outputs      z[row, o] = sum over i of x[row, i] W[i, o]
#     gradients    dW[i, o] = sum over rows of x[row, i] dz[row, o],      dx[row, i] = sum over o of dz[row, o] W[i, o]
# A product goes in tiles of C that stay in registers while k runs: each number loaded serves several products. Where
# the members share their data, x is one number for all lanes.

cdef enum:
    BLOCK = 256   # numbers that stay in the first cache between two loops
    LANES = 16    # floats of the widest vector
    TALL = 4      # rows and columns of a tile
    WIDE = 2
    ROWS = 32     # most samples that go through a net at once
    WHOLE = -LANES   # n & WHOLE is n, a multiple of LANES; gcc then makes no loops for a rest, half of the code

cdef enum Activation:
    SIGMOID
    TANH
    RELU

cdef enum Criterion:
    BCE
    MSE
    CROSS_ENTROPY
    QUADRATIC

cdef enum Ending:   # what becomes of C
    PUT       # the product
    CHAIN     # times it: slopes of what it is the gradient of
    DESCEND   # less rate times it

cdef struct Steps:   # from one element to the next, down and along A, B and C
    Py_ssize_t a_row, a_k, b_k, b_column, c_row, c_column


cdef inline inlined tile(
    const real* A, const real* B, real* C, const real* rate, const Steps* steps, Py_ssize_t depth, Ending ending,
    int rows, int columns, bint shared,
) noexcept nogil:
    cdef real sums[TALL * WIDE * LANES]
    cdef real x
    cdef Py_ssize_t k = 0
    cdef int a, b, j
    for a in range(rows):
        for b in range(columns):
            for j in range(LANES):
                sums[(a * columns + b) * LANES + j] = 0
    while True:   # at least once; with `for`, gcc keeps the sums in memory before and after
        for a in range(rows):
            for b in range(columns):
                for j in range(LANES):
                    x = A[a * steps.a_row + k * steps.a_k + (0 if shared else j)]
                    sums[(a * columns + b) * LANES + j] += x * B[k * steps.b_k + b * steps.b_column + j]
        k += 1
        if k == depth:
            break
    if ending == CHAIN:
        for a in range(rows):
            for b in range(columns):
                for j in range(LANES):
                    sums[(a * columns + b) * LANES + j] *= C[a * steps.c_row + b * steps.c_column + j]
    elif ending == DESCEND:
        for a in range(rows):
            for b in range(columns):
                for j in range(LANES):
                    x = rate[j] * sums[(a * columns + b) * LANES + j]
                    sums[(a * columns + b) * LANES + j] = C[a * steps.c_row + b * steps.c_column + j] - x
    for a in range(rows):
        for b in range(columns):
            for j in range(LANES):
                C[a * steps.c_row + b * steps.c_column + j] = sums[(a * columns + b) * LANES + j]


cdef inline inlined band(
    const real* A, const real* B, real* C, const real* rate, const Steps* steps, Py_ssize_t columns, Py_ssize_t depth,
    Ending ending, int tall, int wide, bint shared,
) noexcept nogil:
    """`tall` rows of C, `wide` columns at a time and then one."""
    cdef Py_ssize_t b = 0
    while b + wide <= columns:
        tile(A, B, C, rate, steps, depth, ending, tall, wide, shared)
        B += wide * steps.b_column
        C += wide * steps.c_column
        b += wide
    while b < columns:
        tile(A, B, C, rate, steps, depth, ending, tall, 1, shared)
        B += steps.b_column
        C += steps.c_column
        b += 1


cdef inline inlined product(
    const real* A, const real* B, real* C, const real* rate, const Steps* steps,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, Ending ending, bint shared,
) noexcept nogil:
    cdef Py_ssize_t a = 0
    while a + TALL <= rows:
        band(A + a * steps.a_row, B, C + a * steps.c_row, rate, steps, columns, depth, ending, TALL, WIDE, shared)
        a += TALL
    if a + 2 <= rows:
        band(A + a * steps.a_row, B, C + a * steps.c_row, rate, steps, columns, depth, ending, WIDE, TALL, shared)
        a += 2
    if a < rows:
        band(A + a * steps.a_row, B, C + a * steps.c_row, rate, steps, columns, depth, ending, 1, TALL, shared)


cdef clones shared_product(
    const real* A, const real* B, real* C, const real* rate, const Steps* steps,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, Ending ending,
) noexcept nogil:
    """C from A B; A has one number for all lanes."""
    if ending == PUT:
        product(A, B, C, rate, steps, rows, columns, depth, PUT, True)
    else:
        product(A, B, C, rate, steps, rows, columns, depth, DESCEND, True)


cdef clones lanes_product(
    const real* A, const real* B, real* C, const real* rate, const Steps* steps,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, Ending ending,
) noexcept nogil:
    """C from A B."""
    if ending == PUT:
        product(A, B, C, rate, steps, rows, columns, depth, PUT, False)
    elif ending == CHAIN:
        product(A, B, C, rate, steps, rows, columns, depth, CHAIN, False)
    else:
        product(A, B, C, rate, steps, rows, columns, depth, DESCEND, False)


# y = f(z), and the slope f'(z) in place of z, in two loops over a piece of z: one is bound by the length of its chain.
#     sigmoid: e = exp(-|z|), y = (e or 1) / (1 + e), slope e / (1 + e)^2
#     tanh: e = exp(-2 |z|), y = (1 - e) / (1 + e) with the sign of z, slope 4 e / (1 + e)^2; 1 - e does not cancel

cdef inline inlined sigmoid_piece(real* z, real* y, Py_ssize_t n) noexcept nogil:
    cdef real e[BLOCK]
    cdef real o, small
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        e[i] = _math.exp(-_math.magnitude(z[i]))
    for i in range(n):
        o = <real>1 / (<real>1 + e[i])
        small = e[i] * o
        y[i] = small if z[i] < 0 else o
        z[i] = small * o


cdef inline inlined exp_and_rest(real x, real* e, real* rest) noexcept nogil:
    """exp(x) for x <= 0, as _math.exp, and 1 - exp(x), which does not cancel."""
    cdef real LOG2E = 1.4426950408889634
    cdef real LN2_HIGH = 0.693359375 if real is float else 0.693147180369123816490
    cdef real LN2_LOW = -2.12194440054690583e-4 if real is float else 1.90821492927058770002e-10
    cdef real SHIFTED = 12583103.0 if real is float else 6755399441057279.0   # rounder + 64 or 512
    cdef real bounded = _math.lowest(x) if _math.lowest(x) > x else x
    cdef real t = bounded * LOG2E + SHIFTED
    cdef real n = t - SHIFTED
    cdef real r = (bounded - n * LN2_HIGH) - n * LN2_LOW
    cdef real p = r + r * r * _math.expm1_tail(r, r * r)
    cdef real scale = _math.pow2(t)
    e[0] = (<real>1 + p) * scale * _math.unshift(x)
    scale = scale * _math.unshift(x)
    rest[0] = (<real>1 - scale) - scale * p


cdef inline inlined tanh_piece(real* z, real* y, Py_ssize_t n) noexcept nogil:
    cdef real e[BLOCK]
    cdef real rest[BLOCK]
    cdef real o
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        exp_and_rest(<real>-2 * _math.magnitude(z[i]), &e[i], &rest[i])
    for i in range(n):
        o = <real>1 / (<real>1 + e[i])
        y[i] = (-rest[i] if z[i] < 0 else rest[i]) * o
        z[i] = <real>4 * e[i] * o * o


cdef clones activate(real* z, real* y, Py_ssize_t n, Activation activation) noexcept nogil:
    cdef Py_ssize_t i, start = 0
    while start < n:
        if activation == SIGMOID:
            sigmoid_piece(z + start, y + start, min(<Py_ssize_t>BLOCK, n - start))
        elif activation == TANH:
            tanh_piece(z + start, y + start, min(<Py_ssize_t>BLOCK, n - start))
        else:
            for i in range(start, min(start + BLOCK, n)):
                y[i] = z[i] if z[i] > 0 else <real>0
                z[i] = <real>1 if z[i] > 0 else <real>0
        start += BLOCK


# Losses: dz = scale d loss / d z, and, where they are asked for, the losses and the right answers (1 or 0). The
# formulas are those of _elementwise.pyx and _softmax.pyx, with no digit lost in a tail:
#     bce: dz = a - t = (wrong - (1 - wrong) e) / (1 + e) with the sign of z, e = exp(-|z|), wrong as above
#     quadratic: dz = (a - t) e / (1 + e)^2
#     cross-entropy, e_k = exp(z_k - max), others = sum of e without one maximum, so that p_k = e_k / (1 + others),
#     T = sum of t: loss = T log(1 + others) + sum of t_k (max - z_k),
#     dz_k = T p_k - t_k = ((T - t_k) e_k - t_k (others + (1 - e_k))) / (1 + others)      T - t_k is exact for one label

cdef inline inlined error(real z, real t, real* d, real* slope) noexcept nogil:
    """a - t and a (1 - a), a = sigmoid(z)."""
    cdef real e = _math.exp(-_math.magnitude(z))
    cdef real wrong = t if z < 0 else <real>1 - t
    d[0] = (wrong - (<real>1 - wrong) * e) / (<real>1 + e)
    d[0] = -d[0] if z < 0 else d[0]
    slope[0] = _math.sigmoid_slope(e)


cdef clones bce_slope(const real* z, const real* t, real* dz, Py_ssize_t n, real scale) noexcept nogil:
    cdef real d, slope
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        error(z[i], t[i], &d, &slope)
        dz[i] = d * scale


cdef clones quadratic_slope(const real* z, const real* t, real* dz, Py_ssize_t n, real scale) noexcept nogil:
    cdef real d, slope
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        error(z[i], t[i], &d, &slope)
        dz[i] = d * slope * scale


cdef clones quadratic_value(const real* z, const real* t, real* loss, real* right, Py_ssize_t n) noexcept nogil:
    cdef real d, slope
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        error(z[i], t[i], &d, &slope)
        loss[i] = d * d * <real>0.5
        right[i] = <real>1 if (z[i] > 0) == (t[i] > <real>0.5) else <real>0


cdef clones bce_value(const real* z, const real* t, real* loss, real* right, Py_ssize_t n) noexcept nogil:
    cdef real a, e, wrong
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        a = _math.magnitude(z[i])
        e = _math.exp(-a)
        wrong = t[i] if z[i] < 0 else <real>1 - t[i]
        loss[i] = wrong * a + _math.log1p_unit(e)
        right[i] = <real>1 if (z[i] > 0) == (t[i] > <real>0.5) else <real>0


cdef clones mse_slope(const real* z, const real* t, real* dz, Py_ssize_t n, real scale) noexcept nogil:
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        dz[i] = (z[i] - t[i]) * (scale + scale)


cdef clones mse_value(const real* z, const real* t, real* loss, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    n &= WHOLE
    for i in range(n):
        loss[i] = (z[i] - t[i]) * (z[i] - t[i])


cdef inline inlined sums_of_row(
    const real* z, const real* t, real* e, real* highest, real* others, real* whole, Py_ssize_t n, int classes,
) noexcept nogil:
    """For each of n rows: its maximum, e = exp(z - maximum), the sum of e without one maximum, and the sum of t."""
    cdef real x
    cdef Py_ssize_t j
    cdef int k
    for j in range(n):
        highest[j] = z[j]
        others[j] = -1
    for k in range(1, classes):
        for j in range(n):
            highest[j] = z[k * n + j] if z[k * n + j] > highest[j] else highest[j]
    for k in range(classes):   # the ones first: -1 + 1 is exact, -1 + small is not
        for j in range(n):
            x = _math.exp(z[k * n + j] - highest[j])
            e[k * n + j] = x
            others[j] += <real>1 if x == 1 else <real>0
    for j in range(n):
        whole[j] = 0
    for k in range(classes):
        for j in range(n):
            others[j] += <real>0 if e[k * n + j] == 1 else e[k * n + j]
            whole[j] += t[k * n + j]


cdef clones cross_entropy_slope(
    const real* z, const real* t, real* dz, Py_ssize_t n, int classes, real scale,
) noexcept nogil:
    cdef real highest[ROWS * LANES]
    cdef real others[ROWS * LANES]
    cdef real whole[ROWS * LANES]
    cdef real e, target
    cdef Py_ssize_t j
    cdef int k
    n &= WHOLE
    sums_of_row(z, t, dz, highest, others, whole, n, classes)
    for j in range(n):
        highest[j] = scale / (<real>1 + others[j])
    for k in range(classes):
        for j in range(n):
            e, target = dz[k * n + j], t[k * n + j]
            dz[k * n + j] = ((whole[j] - target) * e - target * (others[j] + (<real>1 - e))) * highest[j]


cdef clones cross_entropy_value(
    const real* z, const real* t, real* e, real* loss, real* right, Py_ssize_t n, int classes,
) noexcept nogil:
    """A right answer: the first of the largest logits is that of the first of the largest targets; e is overwritten."""
    cdef real highest[ROWS * LANES]
    cdef real others[ROWS * LANES]
    cdef real whole[ROWS * LANES]
    cdef real wanted[ROWS * LANES]
    cdef real found[ROWS * LANES]
    cdef real best[ROWS * LANES]
    cdef Py_ssize_t j
    cdef int k
    n &= WHOLE
    sums_of_row(z, t, e, highest, others, whole, n, classes)
    for j in range(n):
        loss[j] = whole[j] * _math.log1p(others[j])
        wanted[j] = found[j] = best[j] = -1
    for k in range(classes):
        for j in range(n):
            loss[j] += t[k * n + j] * (highest[j] - z[k * n + j])
            wanted[j] = <real>k if t[k * n + j] > best[j] else wanted[j]
            best[j] = t[k * n + j] if t[k * n + j] > best[j] else best[j]
            found[j] = <real>k if z[k * n + j] == highest[j] and found[j] < 0 else found[j]
    for j in range(n):
        right[j] = <real>1 if wanted[j] == found[j] else <real>0


# ---- updates: w, v and g (P, L), rate (L) ----

cdef clones descend(real* w, const real* g, const real* rate, Py_ssize_t n) noexcept nogil:
    cdef real rates[LANES]
    cdef real moved[LANES]
    cdef Py_ssize_t i
    cdef int j
    for j in range(LANES):
        rates[j] = rate[j]
    for i in range(n):
        for j in range(LANES):
            moved[j] = w[i * LANES + j] - rates[j] * g[i * LANES + j]
        for j in range(LANES):
            w[i * LANES + j] = moved[j]


cdef clones decay(real* v, Py_ssize_t n, real momentum) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n * LANES):
        v[i] *= momentum


# ---- one block of nets ---------------------------------------------------------------------------------------------
# What a pass needs lies in one piece of memory: the samples x and targets t; outputs z, their gradient d, and as much
# again; the gradients g of the parameters; and for each hidden layer its outputs y, ended by a unit that is always 1,
# and its slopes, which the backward pass multiplies by the gradients of y. Units come first, then the n samples, then
# the lanes: unit i of sample r stands at (i * n + r) * LANES. Only x has its samples first, as they come.

cdef struct Net:
    Py_ssize_t layers      # linear ones
    const int64_t* sizes   # layers + 1 widths
    Py_ssize_t rows        # most samples at once
    Py_ssize_t parameters
    Activation activation
    Criterion criterion
    bint shared            # whether all members have the same data
    Py_ssize_t t, z, d, other_d, g, hidden, end   # where they begin, x being at 0


cdef Net net_of(const int64_t[::1] sizes, Py_ssize_t batch, int activation, bint shared) noexcept nogil:
    cdef Net net
    cdef Py_ssize_t i, unit
    net.layers, net.sizes, net.parameters = sizes.shape[0] - 1, &sizes[0], 0
    net.activation, net.criterion, net.shared = <Activation>activation, BCE, shared
    for i in range(net.layers):
        net.parameters += (sizes[i] + 1) * sizes[i + 1]
    net.rows = min(<Py_ssize_t>ROWS, batch)
    unit = net.rows * LANES
    net.t = unit * (sizes[0] + 1)
    net.z = net.t + unit * sizes[net.layers]
    net.d = net.z + unit * sizes[net.layers]
    net.other_d = net.d + unit * sizes[net.layers]
    net.g = net.other_d + unit * max(<Py_ssize_t>2, <Py_ssize_t>sizes[net.layers])
    net.hidden = net.g + LANES * net.parameters
    net.end = slope_of(&net, net.layers)
    return net


cdef Py_ssize_t slope_of(const Net* net, Py_ssize_t layer) noexcept nogil:
    """Where the slopes of a hidden layer are, 1 the first."""
    cdef Py_ssize_t i, place = net.hidden
    for i in range(1, layer):
        place += net.rows * LANES * (2 * net.sizes[i] + 1)
    return place


cdef Py_ssize_t output_of(const Net* net, Py_ssize_t layer) noexcept nogil:
    return slope_of(net, layer) + net.rows * LANES * net.sizes[layer] if layer > 0 else 0


cdef void* allocate(const Net* net, size_t itemsize, void** work) noexcept nogil:
    """Room for a block, zeros, to be freed; `work` is its first multiple of 64 bytes, NULL if there is none."""
    cdef void* memory = calloc(net.end * itemsize + 64, 1)
    work[0] = NULL if memory == NULL else <char*>memory + 64 - <size_t>memory % 64
    return memory


cdef void multiply(
    const real* A, const real* B, real* C, const real* rate, Steps steps,
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, Ending ending, bint shared,
) noexcept nogil:
    if shared:
        shared_product(A, B, C, rate, &steps, rows, columns, depth, ending)
    else:
        lanes_product(A, B, C, rate, &steps, rows, columns, depth, ending)


cdef void steps_of_input(
    const Net* net, Py_ssize_t layer, Py_ssize_t n, Py_ssize_t* sample, Py_ssize_t* unit,
) noexcept nogil:
    """From one sample, or unit, of a layer's input to the next."""
    if layer > 0:
        sample[0], unit[0] = LANES, n * LANES
    else:
        unit[0] = 1 if net.shared else LANES
        sample[0] = (net.sizes[0] + 1) * unit[0]


cdef void forward(const Net* net, const real* w, real* work, Py_ssize_t n) noexcept nogil:
    """From the samples in `work` to the outputs there."""
    cdef Py_ssize_t layer, i, fan_in, fan_out, sample, unit
    cdef real* z
    cdef real* y
    for layer in range(net.layers):
        fan_in, fan_out = net.sizes[layer], net.sizes[layer + 1]
        steps_of_input(net, layer, n, &sample, &unit)
        z = work + (net.z if layer == net.layers - 1 else slope_of(net, layer + 1))
        multiply(
            work + output_of(net, layer), w, z, w, Steps(sample, unit, fan_out * LANES, LANES, LANES, n * LANES),
            n, fan_out, fan_in + 1, PUT, net.shared and layer == 0)
        w += (fan_in + 1) * fan_out * LANES
        if layer < net.layers - 1:
            y = work + output_of(net, layer + 1)
            activate(z, y, fan_out * n * LANES, net.activation)
            for i in range(fan_out * n * LANES, (fan_out + 1) * n * LANES):
                y[i] = 1


cdef void backward(
    const Net* net, const real* w, real* work, Py_ssize_t n, real* moved, const real* rate,
) noexcept nogil:
    """From the gradient of the outputs in `work` to those of the parameters: `moved`, maybe w, less rate times them."""
    cdef Py_ssize_t layer, fan_in, fan_out, sample, unit, begin = net.parameters * LANES
    cdef real* dz = work + net.d
    cdef real* dx
    for layer in range(net.layers - 1, -1, -1):
        fan_in, fan_out = net.sizes[layer], net.sizes[layer + 1]
        begin -= (fan_in + 1) * fan_out * LANES
        dx = work + slope_of(net, layer)
        if layer > 0:   # before w moves
            multiply(
                dz, w + begin, dx, rate, Steps(LANES, n * LANES, LANES, fan_out * LANES, LANES, n * LANES),
                n, fan_in, fan_out, CHAIN, False)
        steps_of_input(net, layer, n, &sample, &unit)
        multiply(
            work + output_of(net, layer), dz, moved + begin, rate,
            Steps(unit, sample, LANES, n * LANES, fan_out * LANES, LANES),
            fan_in + 1, fan_out, n, DESCEND, net.shared and layer == 0)
        dz = dx


cdef void take_samples(const Net* net, const real* x, const int64_t* rows, real* work, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t r, size = (net.sizes[0] + 1) * (1 if net.shared else LANES)
    for r in range(n):
        memcpy(work + r * size, x + rows[r] * size, size * sizeof(real))


cdef void take_targets(const Net* net, const real* t, const int64_t* rows, real* work, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t r, i, j, outputs = net.sizes[net.layers]
    cdef real* place
    for r in range(n):
        for i in range(outputs):
            place = work + net.t + (i * n + r) * LANES
            if net.shared:
                for j in range(LANES):
                    place[j] = t[rows[r] * outputs + i]
            else:
                memcpy(place, t + (rows[r] * outputs + i) * LANES, LANES * sizeof(real))


cdef void slope_of_loss(const Net* net, real* work, Py_ssize_t n, double weight) noexcept nogil:
    """The gradient of the outputs; `weight` is that of one sample, and of all of its outputs together."""
    cdef Py_ssize_t outputs = net.sizes[net.layers], m = n * LANES
    cdef real* z = work + net.z
    cdef real* t = work + net.t
    if net.criterion == BCE:
        bce_slope(z, t, work + net.d, outputs * m, weight / outputs)
    elif net.criterion == MSE:
        mse_slope(z, t, work + net.d, outputs * m, weight / outputs)
    elif net.criterion == QUADRATIC:
        quadratic_slope(z, t, work + net.d, outputs * m, weight / outputs)
    else:
        cross_entropy_slope(z, t, work + net.d, m, outputs, weight)


cdef clones add_means(const real* values, double* means, Py_ssize_t n, double share) noexcept nogil:
    cdef double sums[LANES]
    cdef Py_ssize_t i
    cdef int j
    for j in range(LANES):
        sums[j] = 0
    for i in range(n // LANES):
        for j in range(LANES):
            sums[j] += values[i * LANES + j]
    for j in range(LANES):
        means[j] += sums[j] * share


cdef void judge(const Net* net, real* work, Py_ssize_t n, double* losses, double* hits) noexcept nogil:
    """Add the losses of n samples, and the share of right answers, to those of each lane; both d are overwritten."""
    cdef Py_ssize_t outputs = net.sizes[net.layers], m = n * LANES, values = outputs * m
    cdef const real* z = work + net.z
    cdef const real* t = work + net.t
    cdef real* loss = work + net.d
    cdef real* right = work + net.other_d
    if net.criterion == BCE:
        bce_value(z, t, loss, right, values)
    elif net.criterion == MSE:
        mse_value(z, t, loss, values)
    elif net.criterion == QUADRATIC:
        quadratic_value(z, t, loss, right, values)
    else:
        loss, values = right + m, m
        cross_entropy_value(z, t, work + net.d, loss, right, m, outputs)
    add_means(loss, losses, values, <double>m / values)
    if net.criterion != MSE:
        add_means(right, hits, values, <double>m / values)


cdef void train_batch(
    const Net* net, const real* x, const real* t, const int64_t* rows, const real* w, real* work, Py_ssize_t size,
    real* moved, const real* rate, bint fresh, double* losses, double* hits,
) noexcept nogil:
    """`moved`, less rate times the mean gradient of `size` samples, taken some rows at a time; and what they cost
    before it, unless `losses` is NULL. Without `fresh` they are those of the last batch, and in `work` already."""
    cdef Py_ssize_t start = 0, n
    while start < size:
        n = min(net.rows, size - start)
        if fresh:
            take_samples(net, x, rows + start, work, n)
            take_targets(net, t, rows + start, work, n)
        forward(net, w, work, n)
        if losses != NULL:
            judge(net, work, n, losses, hits)
        slope_of_loss(net, work, n, 1.0 / size)
        backward(net, w, work, n, moved, rate)
        start += n


cdef void train_epoch(
    const Net* net, const real* x, const real* t, const int64_t* rows, const real* rate, real* w, real* v, real* work,
    Py_ssize_t samples, Py_ssize_t batch, double momentum, bint fresh, double* losses, double* hits,
) noexcept nogil:
    """Without momentum w moves at once if a batch goes through the net at once, and else by g, as by a velocity."""
    cdef Py_ssize_t start = 0, size, i
    cdef real* g = v if v != NULL else work + net.g
    cdef real minus_one[LANES]
    for i in range(LANES):
        minus_one[i] = -1
    while start < samples:
        size = min(batch, samples - start)
        if v == NULL and size <= net.rows:
            train_batch(net, x, t, rows + start, w, work, size, w, rate, fresh, losses, hits)
        else:
            if v != NULL:
                decay(v, net.parameters, momentum)
            else:
                memset(g, 0, net.parameters * LANES * sizeof(real))
            train_batch(net, x, t, rows + start, w, work, size, g, minus_one, fresh, losses, hits)
            descend(w, g, rate, net.parameters)
        start += size


cdef void mean_over(double* sums, Py_ssize_t samples, double[::1] means) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(min(means.shape[0], <Py_ssize_t>LANES)):
        means[j] = sums[j] / samples


def train_nets(
    const real[:, :, ::1] x not None, const real[:, :, ::1] t not None, const int64_t[:, ::1] order not None,
    const int64_t[::1] wanted not None, const int64_t[::1] sizes not None, const int64_t[::1] criteria not None,
    const real[:, ::1] rate not None, real[:, :, ::1] w not None, real[:, :, ::1] v not None,
    double[:, :, ::1] losses not None, double[:, :, ::1] hits not None,
    Py_ssize_t batch, double momentum, int activation, bint shared,
):
    """w -= rate v, v = momentum v + mean gradient of a batch, for E epochs of all batches in their order (E, N).

    w: parameters (B, P, L); v: the same, or (B, 0, L) without momentum; rate (B, L); criteria (B,); x: samples and a 1,
    (B, N, (I + 1) L), t: targets (B, N, O L), or, shared by all, (1, N, I + 1) and (1, N, O). Means over epoch e while
    the weights moved go to losses and hits (B, R, L) at wanted[e] = r, (E,), or nowhere for -1. All blocks are
    independent. A batch of all samples, if it is small, keeps the order of its first epoch."""
    cdef Net net = net_of(sizes, batch, activation, shared)
    cdef double sums[2 * LANES]
    cdef Py_ssize_t b, e, samples = order.shape[1]
    cdef void* memory
    cdef real* work
    cdef bint watched
    with nogil:
        memory = allocate(&net, sizeof(real), <void**>&work)
        for b in range(w.shape[0] if work != NULL else 0):
            net.criterion = <Criterion>criteria[b]
            for e in range(order.shape[0]):
                watched = wanted[e] >= 0
                if watched:
                    memset(sums, 0, sizeof(sums))
                train_epoch(
                    &net, &x[0 if shared else b, 0, 0], &t[0 if shared else b, 0, 0], &order[e, 0], &rate[b, 0],
                    &w[b, 0, 0], &v[b, 0, 0] if v.shape[1] > 0 else NULL, work, samples, batch, momentum,
                    e == 0 or samples > min(batch, net.rows), sums if watched else NULL, sums + LANES)
                if watched:
                    mean_over(sums, samples, losses[b, wanted[e]])
                    mean_over(sums + LANES, samples, hits[b, wanted[e]])
        free(memory)
    if work == NULL:
        raise MemoryError(f"Population: needs {net.end} numbers for a block of nets")


def forward_nets(
    const real[:, :, ::1] x not None, const int64_t[::1] sizes not None, const real[:, :, ::1] w not None,
    real[:, :, ::1] z not None, int activation, bint shared,
):
    """z = outputs (B, O N, L) of all nets w (B, P, L) for samples x (B, N, (I + 1) L), or shared, (1, N, I + 1)."""
    cdef Net net = net_of(sizes, x.shape[1], activation, shared)
    cdef Py_ssize_t b, start, n, i, unit = 1 if shared else LANES, outputs = sizes[sizes.shape[0] - 1]
    cdef void* memory
    cdef real* work
    with nogil:
        memory = allocate(&net, sizeof(real), <void**>&work)
        for b in range(w.shape[0] if work != NULL else 0):
            start = 0
            while start < x.shape[1]:
                n = min(net.rows, x.shape[1] - start)
                memcpy(work, &x[0 if shared else b, start, 0], n * (sizes[0] + 1) * unit * sizeof(real))
                forward(&net, &w[b, 0, 0], work, n)
                for i in range(outputs):
                    memcpy(&z[b, i * x.shape[1] + start, 0], work + net.z + i * n * LANES, n * LANES * sizeof(real))
                start += n
        free(memory)
    if work == NULL:
        raise MemoryError(f"Population: needs {net.end} numbers for a block of nets")
