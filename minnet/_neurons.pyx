# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Single neurons by the million, one a SIMD lane. Letters and rules: _activations.pyx."""

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
