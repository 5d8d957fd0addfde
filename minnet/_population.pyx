# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Many small nets at once, one net a SIMD lane: single neurons by the million, and nets by the thousand.

Letters and rules: _activations.pyx; M members, B blocks of them, L lanes of a block."""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from minnet cimport _math
from minnet._math cimport inlined, real
from minnet._loops cimport clones


# ---- single neurons ------------------------------------------------------------------------------------------------
# A neuron with one sample, z = w x + b, a = sigmoid(z), moves along a line: an update takes lr x dz from w, lr dz from
# b and so lr (x^2 + 1) dz from z. Its whole state is one number, `total`, the sum of dz so far:
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


# Losses are cross-entropy, `power` 0, and powers of the error, |a - y|^power / power; d = a - y, slope = a (1 - a):
#     dz = d, or |d|^(power - 1) slope with the sign of d

cdef inline inlined push(real d, real slope, int power, real* dz) noexcept nogil:
    if power == 0:
        dz[0] = d
    elif power == 1:
        dz[0] = slope if d > 0 else -slope if d < 0 else <real>0
    elif power == 2:
        dz[0] = d * slope
    else:
        dz[0] = d * d * d * slope


# What is asked of a certain target (see below) is asked of u, the distance that is left. The cost has halved
#     powers: where s = sigmoid(u) = s0 2^(-1 / power) = v, that is at u = log(v / (1 - v))
#     cross-entropy: where softplus(u) is half of what it was, that is 1 - s = sqrt(1 - s0), s = s0 / (1 + sqrt(1 - s0))
# -log(1 - v) is log1p(v / (1 - v)); logarithms of s0 and 1 - s0 are those of sigmoids, exact in both tails.

cdef clones begin(real* block, int power, bint certain, real half) noexcept nogil:
    """From WEIGHT ... RATE: sign, start and pull, and the level of u at which the cost has halved."""
    cdef real LOG2 = 0.6931471805599453
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
    if power > 0:
        for i in range(BLOCK):
            v = _math.sigmoid(u[i]) * half
            level[i] = _math.log_sigmoid(u[i]) - LOG2 / power + _math.log1p(v / (<real>1 - v))
    else:
        for i in range(BLOCK):
            v = _math.root(_math.sigmoid(-u[i]))
            level[i] = _math.log_sigmoid(u[i]) - _math.log1p_unit(v) - <real>0.5 * _math.log_sigmoid(-u[i])


# Targets 0 and 1: by symmetry, u = z for y = 0 and u = -z for y = 1 fall forever, with error |a - y| = s = sigmoid(u):
# and slope s (1 - s) = e / (1 + e)^2, e = exp(-|u|).
# As u falls, error and cost fall too, so that epochs are counted until a level is reached.

cdef inline inlined fall(real* block, Py_ssize_t epochs, real threshold, int power) noexcept nogil:
    cdef real* start = block + START * BLOCK
    cdef real* pull = block + PULL * BLOCK
    cdef real* total = block + TOTAL * BLOCK
    cdef real* until = block + UNTIL * BLOCK
    cdef real* halved = block + HALVED * BLOCK
    cdef real* level = block + LEVEL * BLOCK
    cdef real u[BLOCK]
    cdef real e[BLOCK]
    cdef real o, s, dz
    cdef Py_ssize_t i, epoch
    for epoch in range(epochs):
        for i in range(BLOCK):
            u[i] = start[i] - pull[i] * total[i]
            e[i] = _math.exp(-_math.magnitude(u[i]))
            until[i] += <real>1 if u[i] >= threshold else <real>0
            halved[i] += <real>1 if u[i] > level[i] else <real>0
        for i in range(BLOCK):
            o = <real>1 / (<real>1 + e[i])
            s = e[i] * o
            push(s if u[i] < 0 else o, s * o, power, &dz)
            total[i] += dz


cdef clones fall_to_certain(real* block, Py_ssize_t epochs, real threshold, int power) noexcept nogil:
    if power == 0:
        fall(block, epochs, threshold, 0)
    elif power == 1:
        fall(block, epochs, threshold, 1)
    elif power == 2:
        fall(block, epochs, threshold, 2)
    else:
        fall(block, epochs, threshold, 4)


# Any target, and the longest plateau: the sign of dz may change, so that epochs are noted, not counted.
#     d = a - y = (wrong - (1 - wrong) e) / (1 + e) with the sign of z, wrong = y for z < 0, else 1 - y
#     powers: `height` is |d|, and the cost halves when that falls to 2^(-1 / power) of what it was
#     cross-entropy: `height` is the cost

cdef inline inlined note(
    real* block, Py_ssize_t i, real now, real d, real height, real threshold, real half, real keep,
) noexcept nogil:
    """What is asked of neuron i after `now` updates."""
    cdef real LATER = NEVER
    cdef real* until = block + UNTIL * BLOCK + i
    cdef real* halved = block + HALVED * BLOCK + i
    cdef real* level = block + LEVEL * BLOCK + i
    cdef real* previous = block + PREVIOUS * BLOCK + i
    cdef real* run = block + RUN * BLOCK + i
    cdef real* longest = block + LONGEST * BLOCK + i
    cdef real when = now if d < threshold else LATER
    until[0] = when if when < until[0] else until[0]
    level[0] = height * half if now == 0 else level[0]
    when = now if height <= level[0] else LATER
    halved[0] = when if when < halved[0] else halved[0]
    run[0] = run[0] + <real>1 if height > keep * previous[0] else <real>0
    longest[0] = run[0] if run[0] > longest[0] else longest[0]
    previous[0] = height


cdef inline inlined move(
    real* block, Py_ssize_t epochs, real now, real threshold, real half, real keep, int power,
) noexcept nogil:
    cdef real* total = block + TOTAL * BLOCK
    cdef real z[BLOCK]
    cdef real e[BLOCK]
    cdef real o, d, height, wrong, dz
    cdef Py_ssize_t i, epoch
    for epoch in range(epochs):
        for i in range(BLOCK):
            z[i] = block[START * BLOCK + i] - block[PULL * BLOCK + i] * total[i]
            e[i] = _math.exp(-_math.magnitude(z[i]))
        for i in range(BLOCK):
            o = <real>1 / (<real>1 + e[i])
            wrong = block[TARGET * BLOCK + i] if z[i] < 0 else <real>1 - block[TARGET * BLOCK + i]
            d = (wrong - (<real>1 - wrong) * e[i]) * o
            if power == 0:
                height = wrong * _math.magnitude(z[i]) + _math.log1p_unit(e[i])
            else:
                height = _math.magnitude(d)
            note(block, i, now, _math.magnitude(d), height, threshold, half, keep)
            push(-d if z[i] < 0 else d, e[i] * o * o, power, &dz)
            total[i] += dz
        now += 1


cdef clones move_to_any(
    real* block, Py_ssize_t epochs, real now, real threshold, real half, real keep, int power,
) noexcept nogil:
    if power == 0:
        move(block, epochs, now, threshold, half, keep, 0)
    elif power == 1:
        move(block, epochs, now, threshold, half, keep, 1)
    elif power == 2:
        move(block, epochs, now, threshold, half, keep, 2)
    else:
        move(block, epochs, now, threshold, half, keep, 4)


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
    int power          # of the error in the loss, or 0 for cross-entropy
    bint certain


cdef void advance(real* block, const Course* course, Py_ssize_t epoch, Py_ssize_t epochs) noexcept nogil:
    if course.certain:
        fall_to_certain(block, epochs, course.threshold, course.power)
    else:
        move_to_any(block, epochs, epoch, course.threshold, course.half, course.keep, course.power)


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


cdef void begin_notes(real* block, real nothing) noexcept nogil:
    fill(block, UNTIL, nothing)
    fill(block, HALVED, nothing)
    fill(block, PREVIOUS, INFINITY)
    fill(block, RUN, 0)
    fill(block, LONGEST, 0)


cdef void begin_block(real* block, const Course* course) noexcept nogil:
    cdef real nothing = 0 if course.certain else NEVER
    fill(block, TOTAL, 0)
    begin_notes(block, nothing)
    begin(block, course.power, course.certain, course.half)


def train_neurons(
    const real[::1] w not None, const real[::1] b not None, const real[::1] x not None, const real[::1] y not None,
    const real[::1] rate not None, const int64_t[::1] record not None,
    real[::1] w_end not None, real[::1] b_end not None, real[::1] a_end not None, real[::1] until not None,
    real[::1] halved not None, real[::1] longest not None, real[:, :, ::1] path not None,
    Py_ssize_t epochs, double threshold, double half, double keep, int power, bint certain,
):
    """w -= rate x dz, b -= rate dz, dz = d loss / d z, a = sigmoid(w x + b), so often; all (M,).

    until: epochs until |a - y| < threshold, or u < threshold; halved: until the cost has halved; longest: of the runs
    of epochs with height > keep times the last; path (M, R, 3): w, b and a after record (R,) epochs, ascending."""
    cdef real room[FIELDS * BLOCK + 16]
    cdef real* block = <real*>(<char*>room + 63 - (<size_t>&room[0] + 63) % 64)   # vectors within lines of the cache
    cdef Course course = Course(epochs, threshold, half, keep, power, certain)
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


# ---- neurons with several inputs and samples -----------------------------------------------------------------------
# The cost is the mean over N samples, and the last of D inputs is 1, so that the bias is the last weight. Again the
# steps are summed apart from w, in `moved`, so that none is too small: z = start - sum of x_k moved_k, w = w0 - moved.
#
# Of the errors |d| the largest among the samples counts. For a power p `height` is the p-th root of their mean power,
# taken from shares of the largest, as the powers alone could underflow; of one sample it is |d|, as above.

cdef struct Lesson:
    Py_ssize_t samples, inputs
    bint shared_x, shared_y   # one number for all neurons
    Py_ssize_t moved, pull, start, error, w, x, y, end   # where they begin, after the FIELDS of a block


cdef Lesson lesson_of(Py_ssize_t samples, Py_ssize_t inputs, bint shared_x, bint shared_y) noexcept nogil:
    cdef Lesson lesson
    lesson.samples, lesson.inputs, lesson.shared_x, lesson.shared_y = samples, inputs, shared_x, shared_y
    lesson.moved = FIELDS * BLOCK
    lesson.pull = lesson.moved + inputs * BLOCK
    lesson.w = lesson.pull + inputs * BLOCK
    lesson.start = lesson.w + inputs * BLOCK
    lesson.error = lesson.start + samples * BLOCK
    lesson.y = lesson.error + samples * BLOCK
    lesson.x = lesson.y + samples * BLOCK
    lesson.end = lesson.x + samples * inputs * (1 if shared_x else BLOCK)
    return lesson


cdef inline inlined add_product(real* sums, const real* a, const real* x, bint shared, real sign) noexcept nogil:
    cdef Py_ssize_t i
    if shared:
        for i in range(BLOCK):
            sums[i] += a[i] * (sign * x[0])
    else:
        for i in range(BLOCK):
            sums[i] += a[i] * (sign * x[i])


cdef inline inlined logits(const real* block, const Lesson* lesson, Py_ssize_t sample, real* z) noexcept nogil:
    cdef Py_ssize_t k, step = 1 if lesson.shared_x else BLOCK
    memcpy(z, block + lesson.start + sample * BLOCK, BLOCK * sizeof(real))
    for k in range(lesson.inputs):
        add_product(
            z, block + lesson.moved + k * BLOCK, block + lesson.x + (sample * lesson.inputs + k) * step,
            lesson.shared_x, -1)


cdef clones start_logits(real* block, const Lesson* lesson) noexcept nogil:
    cdef Py_ssize_t n, k, step = 1 if lesson.shared_x else BLOCK
    for n in range(lesson.samples):
        memset(block + lesson.start + n * BLOCK, 0, BLOCK * sizeof(real))
        for k in range(lesson.inputs):
            add_product(
                block + lesson.start + n * BLOCK, block + lesson.w + k * BLOCK,
                block + lesson.x + (n * lesson.inputs + k) * step, lesson.shared_x, 1)


cdef inline inlined judge_sample(
    const real* z, const real* y, bint shared, int power, real* error, real* height, real* worst, real* dz,
) noexcept nogil:
    """dz of one sample; its error, or its cost for power 0, and the largest error."""
    cdef real e[BLOCK]
    cdef real targets[BLOCK]
    cdef real o, wrong, d, size
    cdef Py_ssize_t i
    for i in range(BLOCK):
        e[i] = _math.exp(-_math.magnitude(z[i]))
        targets[i] = y[0 if shared else i]
    for i in range(BLOCK):
        o = <real>1 / (<real>1 + e[i])
        wrong = targets[i] if z[i] < 0 else <real>1 - targets[i]
        d = (wrong - (<real>1 - wrong) * e[i]) * o
        size = _math.magnitude(d)
        worst[i] = size if size > worst[i] else worst[i]
        if power == 0:
            height[i] += wrong * _math.magnitude(z[i]) + _math.log1p_unit(e[i])
        else:
            error[i] = size
        push(-d if z[i] < 0 else d, e[i] * o * o, power, &d)
        dz[i] = d


cdef inline inlined judge_any(
    const real* z, const real* y, bint shared, int power, real* error, real* height, real* worst, real* dz,
) noexcept nogil:
    if power == 0:
        judge_sample(z, y, shared, 0, error, height, worst, dz)
    elif power == 1:
        judge_sample(z, y, shared, 1, error, height, worst, dz)
    elif power == 2:
        judge_sample(z, y, shared, 2, error, height, worst, dz)
    else:
        judge_sample(z, y, shared, 4, error, height, worst, dz)


cdef inline inlined add_shares(const real* error, const real* worst, int power, real* height) noexcept nogil:
    cdef real LEAST = 1.1754943508222875e-38 if real is float else 2.2250738585072014e-308
    cdef real share
    cdef Py_ssize_t i
    for i in range(BLOCK):
        share = error[i] / (worst[i] if worst[i] > LEAST else LEAST)
        height[i] += share if power == 1 else share * share if power == 2 else share * share * share * share


cdef inline inlined note_samples(
    real* block, const real* worst, const real* sums, Py_ssize_t samples, int power,
    real now, real threshold, real half, real keep,
) noexcept nogil:
    cdef real LEAST = 1.1754943508222875e-38 if real is float else 2.2250738585072014e-308
    cdef real mean
    cdef Py_ssize_t i
    for i in range(BLOCK):
        mean = sums[i] / samples
        if power > 0:
            mean = mean if power == 1 else _math.root(mean) if power == 2 else _math.root(_math.root(mean))
            mean = mean * (worst[i] if worst[i] > LEAST else LEAST)
        note(block, i, now, worst[i], mean, threshold, half, keep)


cdef inline inlined gather(real* block, const Lesson* lesson, Py_ssize_t sample, const real* dz) noexcept nogil:
    """Add dz x of a sample to `pull`."""
    cdef Py_ssize_t k, step = 1 if lesson.shared_x else BLOCK
    for k in range(lesson.inputs):
        add_product(
            block + lesson.pull + k * BLOCK, dz, block + lesson.x + (sample * lesson.inputs + k) * step,
            lesson.shared_x, 1)


cdef inline inlined move_weights(real* block, const Lesson* lesson) noexcept nogil:
    cdef Py_ssize_t k, i
    for k in range(lesson.inputs):
        for i in range(BLOCK):
            block[lesson.moved + k * BLOCK + i] += block[RATE * BLOCK + i] * block[lesson.pull + k * BLOCK + i]
    memset(block + lesson.pull, 0, lesson.inputs * BLOCK * sizeof(real))


cdef clones learn(real* block, const Lesson* lesson, const Course* course, Py_ssize_t epoch) noexcept nogil:
    """Note how all samples do, and take one step."""
    cdef real z[BLOCK]
    cdef real dz[BLOCK]
    cdef real height[BLOCK]
    cdef real worst[BLOCK]
    cdef Py_ssize_t n
    memset(height, 0, sizeof(height))
    memset(worst, 0, sizeof(worst))
    for n in range(lesson.samples):
        logits(block, lesson, n, z)
        judge_any(
            z, block + lesson.y + n * (1 if lesson.shared_y else BLOCK), lesson.shared_y, course.power,
            block + lesson.error + n * BLOCK, height, worst, dz)
        gather(block, lesson, n, dz)
    if course.power > 0:
        for n in range(lesson.samples):
            add_shares(block + lesson.error + n * BLOCK, worst, course.power, height)
    note_samples(block, worst, height, lesson.samples, course.power, epoch, course.threshold, course.half, course.keep)
    move_weights(block, lesson)


cdef clones show(const real* block, const Lesson* lesson, real* place, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """Weights (D, n) and outputs (N, n) to a place whose rows are `step` numbers apart."""
    cdef real z[BLOCK]
    cdef Py_ssize_t k, i
    for k in range(lesson.inputs):
        for i in range(n):
            place[k * step + i] = block[lesson.w + k * BLOCK + i] - block[lesson.moved + k * BLOCK + i]
    for k in range(lesson.samples):
        logits(block, lesson, k, z)
        for i in range(BLOCK):
            z[i] = _math.sigmoid(z[i])
        memcpy(place + (lesson.inputs + k) * step, z, n * sizeof(real))


cdef void load_rows(
    real* block, const real* a, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t step, bint shared,
) noexcept nogil:
    """`rows` rows of n numbers, of one number each if they are shared."""
    cdef Py_ssize_t k
    if shared:
        memcpy(block, a, rows * sizeof(real))
    else:
        for k in range(rows):
            load(block + k * BLOCK, WEIGHT, a + k * step, n)


def train_perceptrons(
    const real[:, ::1] w not None, const real[:, :, ::1] x not None, const real[:, ::1] y not None,
    const real[::1] rate not None, const int64_t[::1] record not None, real[:, :, ::1] path not None,
    real[::1] until not None, real[::1] halved not None, real[::1] longest not None,
    Py_ssize_t first, Py_ssize_t last, Py_ssize_t epochs, double threshold, double half, double keep, int power,
):
    """As train_neurons, w -= rate times the sum over N samples of dz x, for neurons first to last of M.

    w (D, M); x (N, D, M), or (N, D, 1) shared by all, y (N, M) or (N, 1); rate (M,), of the sum; until, halved,
    longest (M,); path (R + 1, D + N, M): weights and outputs after record (R,) epochs, and at the end."""
    cdef Lesson lesson = lesson_of(x.shape[0], w.shape[0], x.shape[2] == 1, y.shape[1] == 1)
    cdef Course course = Course(epochs, threshold, half, keep, power, False)
    cdef Py_ssize_t members = w.shape[1], i = first, n, epoch, r
    cdef void* memory
    cdef real* block
    with nogil:
        memory = calloc(lesson.end * sizeof(real) + 64, 1)
        block = <real*>(<char*>memory + 64 - <size_t>memory % 64)
        while memory != NULL and i < last:
            n = min(<Py_ssize_t>BLOCK, last - i)
            load_rows(block + lesson.w, &w[0, i], lesson.inputs, n, members, False)
            load_rows(block + lesson.x, &x[0, 0, 0 if lesson.shared_x else i],
                      lesson.samples * lesson.inputs, n, members, lesson.shared_x)
            load_rows(block + lesson.y, &y[0, 0 if lesson.shared_y else i], lesson.samples, n, members, lesson.shared_y)
            load(block, RATE, &rate[i], n)
            begin_notes(block, NEVER)
            memset(block + lesson.moved, 0, 2 * lesson.inputs * BLOCK * sizeof(real))
            start_logits(block, &lesson)
            r = 0
            for epoch in range(epochs + 1):
                while r < record.shape[0] and record[r] == epoch:
                    show(block, &lesson, &path[r, 0, i], n, members)
                    r += 1
                if epoch == epochs:
                    show(block, &lesson, &path[r, 0, i], n, members)
                learn(block, &lesson, &course, epoch)   # the step after the last look is seen by none
            store_epochs(block, UNTIL, &until[i], n, epochs)
            store_epochs(block, HALVED, &halved[i], n, epochs)
            store(block, LONGEST, &longest[i], n, 1)
            i += n
        free(memory)
    if memory == NULL:
        raise MemoryError(f"run_perceptrons: needs {lesson.end} numbers for a block of neurons")


# ---- nets ----------------------------------------------------------------------------------------------------------
# LANES members of a block go side by side: number j of all of them stands at [j * LANES, (j + 1) * LANES) of every
# array. Parameters lie as in an MLP: W (I, O) and b (O), that is a matrix (I + 1, O) whose last row meets an input of
# 1. So each step is one product C[a, b] = sum over k of A[a, k] B[k, b], lane by lane:
#     outputs      z[row, o] = sum over i of x[row, i] W[i, o]
#     gradients    dW[i, o] = sum over rows of x[row, i] dz[row, o],      dx[row, i] = sum over o of dz[row, o] W[i, o]
# A product goes in tiles of C that stay in registers while k runs: each number loaded serves several products. Where
# the members share their data, x is one number for all lanes.

cdef enum:
    LANES = 16  # floats of the widest vector
    TALL = 4    # rows and columns of a tile
    WIDE = 2
    ROWS = 32   # most samples that go through a net at once
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


# y = f(z), and the slope f'(z) in place of z, in two loops over a piece of z for the reason given at the neurons:
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
