# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Many small nets at once, one net a SIMD lane: millions of single neurons. M members; rules: _activations.pyx."""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from minnet cimport _math
from minnet._math cimport inlined, real
from minnet._loops cimport clones


cdef inline real exp_quick(real x) noexcept nogil:
    """exp(x) for x <= 0, at most 2 ulp off, subnormal results included: _math.exp without its compensations.

    The error of one update is far below that of adding it up; results that are kept are computed by _math.
    """
    cdef real LOWEST = -131.0 if real is float else -1060.0   # from there on both factors still give 0, without a test
    cdef real LOG2E = 1.4426950408889634
    cdef real LN2_HIGH = 0.693359375 if real is float else 0.693147180369123816490
    cdef real LN2_LOW = -2.12194440054690583e-4 if real is float else 1.90821492927058770002e-10
    cdef real shifted = _math.rounder(x) + (<real>64 if real is float else <real>512)
    cdef real t, n, r, q
    x = LOWEST if LOWEST > x else x
    t = x * LOG2E + shifted
    n = t - shifted
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    if real is float:
        q = <real>0.0013814613
        q = q * r + <real>0.00836871
        q = q * r + <real>0.04166839
        q = q * r + <real>0.16666521
        q = q * r + <real>0.49999994
    else:
        q = 2.5000072292151244e-08
        q = q * r + 2.7630233914958636e-07
        q = q * r + 2.7557586266408486e-06
        q = q * r + 2.4801493136197254e-05
        q = q * r + 0.00019841269506779664
        q = q * r + 0.001388888894359769
        q = q * r + 0.008333333333494333
        q = q * r + 0.041666666666530267
        q = q * r + 0.16666666666666413
        q = q * r + 0.5000000000000011
    q = q * r + <real>1
    q = q * r + <real>1
    return q * _math.pow2(t) * _math.unshift(x)


# ---- single neurons ------------------------------------------------------------------------------------------------
# A neuron with one sample, z = w x + b, a = sigmoid(z), moves along a line: an update takes lr x dz from w, lr dz from b
# and so lr (x^2 + 1) dz from z. Its whole state is one number, `total`, the sum of dz so far:
#     z = start - pull total,   w = w0 - lr x total,   b = b0 - lr total,   pull = lr (x^2 + 1)
# Updates far too small to change w or b in their dtype, as those of a saturated neuron are, still add up in `total`.
#
# BLOCK neurons go side by side through all epochs, while their state stays in the first cache. An epoch is two loops,
# because the chain of operations of one neuron is long: one loop over both would wait for results most of the time.

cdef enum:
    BLOCK = 256
    NEVER = 1 << 30   # epochs; more than a float counts

cdef enum Field:   # rows of a block, BLOCK numbers each
    WEIGHT
    BIAS
    INPUT
    TARGET
    RATE
    SIGN
    START
    PULL
    TOTAL
    UNTIL
    HALVED
    LEVEL
    PREVIOUS
    RUN
    LONGEST
    OUTPUT
    NEW_WEIGHT
    NEW_BIAS
    FIELDS


# What is asked of a certain target (see below) is asked of u, the distance that is left. The cost has halved
#     quadratic: where s = sigmoid(u) = s0 / sqrt(2) = v, that is at u = log(v / (1 - v))
#     cross-entropy: where softplus(u) is half of what it was, that is 1 - s = sqrt(1 - s0), s = s0 / (1 + sqrt(1 - s0))
# -log(1 - v) is log1p(v / (1 - v)); logarithms of s0 and 1 - s0 are those of sigmoids, exact in both tails.

cdef clones begin(real* block, bint quadratic, bint certain) noexcept nogil:
    """From WEIGHT ... RATE: sign, start and pull, and the level of u at which the cost has halved."""
    cdef real LOG_ROOT2 = 0.34657359027997264
    cdef real ROOT_HALF = 0.7071067811865476
    cdef real* w = block + WEIGHT * BLOCK
    cdef real* b = block + BIAS * BLOCK
    cdef real* x = block + INPUT * BLOCK
    cdef real* y = block + TARGET * BLOCK
    cdef real* u = block + START * BLOCK
    cdef real* level = block + LEVEL * BLOCK
    cdef real v
    cdef Py_ssize_t i
    for i in range(BLOCK):
        block[SIGN * BLOCK + i] = <real>1 - y[i] - y[i] if certain else <real>1
        u[i] = block[SIGN * BLOCK + i] * (w[i] * x[i] + b[i])
        block[PULL * BLOCK + i] = block[RATE * BLOCK + i] * (x[i] * x[i] + <real>1)
    if quadratic:
        for i in range(BLOCK):
            v = _math.sigmoid(u[i]) * ROOT_HALF
            level[i] = _math.log_sigmoid(u[i]) - LOG_ROOT2 + _math.log1p(v / (<real>1 - v))
    else:
        for i in range(BLOCK):
            v = _math.root(_math.sigmoid(-u[i]))
            level[i] = _math.log_sigmoid(u[i]) - _math.log1p_unit(v) - <real>0.5 * _math.log_sigmoid(-u[i])


# Targets 0 and 1: by symmetry, u = z for y = 0 and u = -z for y = 1 fall forever, with error |a - y| = s = sigmoid(u):
#     cross-entropy: |dz| = s       quadratic: |dz| = s s (1 - s) = s e / (1 + e)^2, e = exp(-|u|)
# As u falls, error and cost fall too, so that epochs are counted until a level is reached.

cdef inline inlined fall(real* block, Py_ssize_t epochs, real threshold, bint quadratic) noexcept nogil:
    cdef real* start = block + START * BLOCK
    cdef real* pull = block + PULL * BLOCK
    cdef real* total = block + TOTAL * BLOCK
    cdef real* until = block + UNTIL * BLOCK
    cdef real* halved = block + HALVED * BLOCK
    cdef real* level = block + LEVEL * BLOCK
    cdef real u[BLOCK]
    cdef real e[BLOCK]
    cdef real o, s
    cdef Py_ssize_t i, epoch
    for epoch in range(epochs):
        for i in range(BLOCK):
            u[i] = start[i] - pull[i] * total[i]
            e[i] = exp_quick(-_math.magnitude(u[i]))
            until[i] += <real>1 if u[i] >= threshold else <real>0
            halved[i] += <real>1 if u[i] > level[i] else <real>0
        for i in range(BLOCK):
            o = <real>1 / (<real>1 + e[i])
            s = (e[i] if u[i] < 0 else <real>1) * o
            total[i] += s * (e[i] * o * o) if quadratic else s


cdef clones fall_to_certain(real* block, Py_ssize_t epochs, real threshold, bint quadratic) noexcept nogil:
    if quadratic:
        fall(block, epochs, threshold, True)
    else:
        fall(block, epochs, threshold, False)


# Any target, and the longest plateau: the sign of dz may change, so that epochs are noted, not counted.
#     d = |a - y| = (wrong - (1 - wrong) e) / (1 + e), wrong = y for z < 0, else 1 - y: as in _elementwise.pyx
#     quadratic: dz = d e / (1 + e)^2; `height` is |d|, whose square halves when it falls to |d| / sqrt(2)
#     cross-entropy: dz = d; `height` is the cost

cdef inline inlined move(
    real* block, Py_ssize_t epochs, real now, real threshold, real half, real keep, bint quadratic,
) noexcept nogil:
    cdef real* total = block + TOTAL * BLOCK
    cdef real* until = block + UNTIL * BLOCK
    cdef real* halved = block + HALVED * BLOCK
    cdef real* level = block + LEVEL * BLOCK
    cdef real* previous = block + PREVIOUS * BLOCK
    cdef real* run = block + RUN * BLOCK
    cdef real* longest = block + LONGEST * BLOCK
    cdef real LATER = NEVER
    cdef real z[BLOCK]
    cdef real e[BLOCK]
    cdef real o, d, height, wrong, when
    cdef Py_ssize_t i, epoch
    for epoch in range(epochs):
        for i in range(BLOCK):
            z[i] = block[START * BLOCK + i] - block[PULL * BLOCK + i] * total[i]
            e[i] = exp_quick(-_math.magnitude(z[i]))
        for i in range(BLOCK):
            o = <real>1 / (<real>1 + e[i])
            wrong = block[TARGET * BLOCK + i] if z[i] < 0 else <real>1 - block[TARGET * BLOCK + i]
            d = (wrong - (<real>1 - wrong) * e[i]) * o
            if quadratic:
                height = _math.magnitude(d)
            else:
                height = wrong * _math.magnitude(z[i]) + _math.log1p_unit(e[i])
            when = now if _math.magnitude(d) < threshold else LATER
            until[i] = when if when < until[i] else until[i]
            level[i] = height * half if now == 0 else level[i]
            when = now if height <= level[i] else LATER
            halved[i] = when if when < halved[i] else halved[i]
            run[i] = run[i] + <real>1 if height > keep * previous[i] else <real>0
            longest[i] = run[i] if run[i] > longest[i] else longest[i]
            previous[i] = height
            d = -d if z[i] < 0 else d
            total[i] += d * (e[i] * o * o) if quadratic else d
        now += 1


cdef clones move_to_any(
    real* block, Py_ssize_t epochs, real now, real threshold, real half, real keep, bint quadratic,
) noexcept nogil:
    if quadratic:
        move(block, epochs, now, threshold, half, keep, True)
    else:
        move(block, epochs, now, threshold, half, keep, False)


cdef clones finish(real* block) noexcept nogil:
    """Weight, bias and output from `total`."""
    cdef real change
    cdef Py_ssize_t i
    for i in range(BLOCK):
        block[OUTPUT * BLOCK + i] = _math.sigmoid(
            block[SIGN * BLOCK + i] * (block[START * BLOCK + i] - block[PULL * BLOCK + i] * block[TOTAL * BLOCK + i]))
    for i in range(BLOCK):
        change = block[SIGN * BLOCK + i] * block[RATE * BLOCK + i] * block[TOTAL * BLOCK + i]
        block[NEW_WEIGHT * BLOCK + i] = block[WEIGHT * BLOCK + i] - block[INPUT * BLOCK + i] * change
        block[NEW_BIAS * BLOCK + i] = block[BIAS * BLOCK + i] - change


cdef struct Course:   # what is done with all neurons alike
    Py_ssize_t epochs
    double threshold   # of |a - y|, or of u
    double half        # the share of its start that `height` has when the cost has halved
    double keep        # the share that it must keep to stand on a plateau
    bint quadratic
    bint certain


cdef void advance(real* block, const Course* course, Py_ssize_t epoch, Py_ssize_t epochs) noexcept nogil:
    if course.certain:
        fall_to_certain(block, epochs, course.threshold, course.quadratic)
    else:
        move_to_any(block, epochs, epoch, course.threshold, course.half, course.keep, course.quadratic)


cdef void look(real* block, const Course* course) noexcept nogil:
    """Count or note the state after the last update: one epoch more, whose update is taken back."""
    cdef real total[BLOCK]
    memcpy(total, block + TOTAL * BLOCK, BLOCK * sizeof(real))
    advance(block, course, course.epochs, 1)
    memcpy(block + TOTAL * BLOCK, total, BLOCK * sizeof(real))


cdef void load(real* block, Field field, const real* a, Py_ssize_t n) noexcept nogil:
    """A row of the block; lanes without a neuron hold 0."""
    memset(block + field * BLOCK, 0, BLOCK * sizeof(real))
    memcpy(block + field * BLOCK, a, n * sizeof(real))


cdef void fill(real* block, Field field, real value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(BLOCK):
        block[field * BLOCK + i] = value


cdef void store(const real* block, Field field, real* a, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        a[i * step] = block[field * BLOCK + i]


cdef void store_epochs(const real* block, Field field, real* a, Py_ssize_t n, Py_ssize_t epochs) noexcept nogil:
    """Epochs that were counted or noted; NaN for more than there were."""
    cdef Py_ssize_t i
    for i in range(n):
        a[i] = block[field * BLOCK + i] if block[field * BLOCK + i] <= epochs else NAN


cdef void begin_block(real* block, const Course* course) noexcept nogil:
    cdef real nothing = 0 if course.certain else NEVER
    fill(block, TOTAL, 0)
    fill(block, UNTIL, nothing)
    fill(block, HALVED, nothing)
    fill(block, PREVIOUS, INFINITY)
    fill(block, RUN, 0)
    fill(block, LONGEST, 0)
    begin(block, course.quadratic, course.certain)


def train_neurons(
    const real[::1] w not None, const real[::1] b not None, const real[::1] x not None, const real[::1] y not None,
    const real[::1] rate not None, const int64_t[::1] record not None,
    real[::1] w_end not None, real[::1] b_end not None, real[::1] a_end not None, real[::1] until not None,
    real[::1] halved not None, real[::1] longest not None, real[:, :, ::1] path not None,
    Py_ssize_t epochs, double threshold, double half, double keep, bint quadratic, bint certain,
):
    """w -= rate x dz, b -= rate dz, dz = a - y or (a - y) a (1 - a), a = sigmoid(w x + b), so often; all (M,).

    until: epochs until |a - y| < threshold, or u < threshold; halved: until the cost has halved; longest: of the runs
    of epochs with height > keep times the last; path (M, R, 3): w, b and a after record (R,) epochs, ascending."""
    cdef real block[FIELDS * BLOCK]
    cdef Course course = Course(epochs, threshold, half, keep, quadratic, certain)
    cdef Py_ssize_t i = 0, r, n, epoch
    with nogil:
        while i < w.shape[0]:
            n = min(<Py_ssize_t>BLOCK, w.shape[0] - i)
            load(block, WEIGHT, &w[i], n)
            load(block, BIAS, &b[i], n)
            load(block, INPUT, &x[i], n)
            load(block, TARGET, &y[i], n)
            load(block, RATE, &rate[i], n)
            begin_block(block, &course)
            epoch = 0
            for r in range(record.shape[0]):
                advance(block, &course, epoch, record[r] - epoch)
                epoch = record[r]
                finish(block)
                store(block, NEW_WEIGHT, &path[i, r, 0], n, 3 * record.shape[0])
                store(block, NEW_BIAS, &path[i, r, 1], n, 3 * record.shape[0])
                store(block, OUTPUT, &path[i, r, 2], n, 3 * record.shape[0])
            advance(block, &course, epoch, epochs - epoch)
            look(block, &course)
            finish(block)
            store(block, NEW_WEIGHT, &w_end[i], n, 1)
            store(block, NEW_BIAS, &b_end[i], n, 1)
            store(block, OUTPUT, &a_end[i], n, 1)
            store_epochs(block, UNTIL, &until[i], n, epochs)
            store_epochs(block, HALVED, &halved[i], n, epochs)
            store(block, LONGEST, &longest[i], n, 1)
            i += n
