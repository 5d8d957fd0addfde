# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""Many steps of a small plain net in one call: gather, forward, backward, update. Letters and rules: _activations.pyx.

A plain net is Linear layers with sigmoid, tanh, relu or nothing behind each, under cross-entropy, binary cross-entropy or
squared error. What it computes is what the layers compute, by the same loops; only the matrix products are its own.

Parameters of a layer are a matrix (I + 1, O), W and below it b, which meets an input of 1: forward and backward of a
bias come with the product. A call copies them into rows that are padded with zeros to whole tiles, and copies them back
at its end. In a batch, a row of outputs has room for that 1 behind them. Rows of few outputs stand closer than a tile is
wide: what a tile writes beyond the end of a row, the next row writes over.
"""

from cpython.buffer cimport PyBuffer_Release
from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from minnet cimport _activations, _cross_entropy, _elementwise, _updates
from minnet._activations cimport Activation, activation_loop
from minnet._doors cimport acquire, apart, enter
from minnet._loops cimport clones
from minnet._math cimport inlined, real
from minnet._rows cimport minnet_prefetch, transpose_all
from minnet._team cimport Meeting, Team, helped, share

cdef enum:
    TALL = 6      # most rows of a tile
    WIDE = 16     # its columns; gcc must not unroll loops over them before it makes vectors of them, see setup.py
    PANEL = 136   # rows of B that stay in the first cache while tiles go down C: 128 and a bias
    MOST = 16     # layers
    LINE = 16     # floats of a line of the cache
    SHORT = 8     # numbers in whose multiples the rows of few outputs are apart
    NONE = -1     # no activation


# ---- matrix products -----------------------------------------------------------------------------------------------
# C[a, b] = sum over k of A[a, k] B[k, b], in tiles of C that stay in registers while k runs: each number loaded serves
# several products. A and B may be stored either way round; the columns of C lie side by side, whole tiles of them.
#     forward      z = [x, 1] W                          A = [x, 1]
#     inputs       dx = (dz W^T) slope                   A = dz, B = W^T
#     parameters   dW = [x, 1]^T dz, and W -= lr dW      A = [x, 1]^T
# The last one updates W while the tile of its gradient is at hand, which saves a pass over memory.

cdef struct Product:
    Py_ssize_t rows, columns, depth
    Py_ssize_t a_row, a_k, b_k, b_column, c_row, w_row, slope_row   # from one element to the next
    double lr, decay                           # of W -= lr (C + decay W)


cdef inline inlined tile(
    const real* A, const real* B, real* C, real* W, const real* slope, const Product* p, Py_ssize_t depth, bint add,
    int rows,
) noexcept nogil:
    """C = (C +) A B, times slope, and the update of W, for a tile; C, W and slope may be NULL."""
    cdef real sums[TALL * WIDE]
    cdef real x, lr = p.lr, decay = p.decay
    cdef Py_ssize_t k
    cdef int a, j
    for a in range(rows):   # the first products, not zeros: gcc would clear the whole of `sums` by a slow instruction
        x = A[a * p.a_row]
        for j in range(WIDE):
            sums[a * WIDE + j] = x * B[j]
    for k in range(1, depth):
        for a in range(rows):
            x = A[a * p.a_row + k * p.a_k]
            for j in range(WIDE):
                sums[a * WIDE + j] += x * B[k * p.b_k + j]
    if add:   # last, as a sum of short sums rounds less than a long one
        for a in range(rows):
            for j in range(WIDE):
                C[a * p.c_row + j] += sums[a * WIDE + j]
    elif C != NULL:
        for a in range(rows):
            for j in range(WIDE):
                C[a * p.c_row + j] = sums[a * WIDE + j]
    if slope != NULL:
        for a in range(rows):
            for j in range(WIDE):
                C[a * p.c_row + j] *= slope[a * p.slope_row + j]
    if W != NULL:
        for a in range(rows):   # the next tile's, which in large nets comes from afar
            minnet_prefetch(W + (rows + a) * p.w_row)
        for a in range(rows):
            for j in range(WIDE):
                x = C[a * p.c_row + j] if add else sums[a * WIDE + j]
                W[a * p.w_row + j] -= lr * (x + decay * W[a * p.w_row + j])


cdef inline inlined column(
    const real* A, const real* B, real* C, real* W, const real* slope, const Product* p, Py_ssize_t depth, bint add,
) noexcept nogil:
    """One column of tiles, as even in height as they can be."""
    cdef Py_ssize_t tiles = (p.rows + TALL - 1) // TALL
    cdef Py_ssize_t i, a = 0, rows
    for i in range(tiles):
        rows = (p.rows - a) // (tiles - i)
        if rows == 6:
            tile(A, B, C, W, slope, p, depth, add, 6)
        elif rows == 5:
            tile(A, B, C, W, slope, p, depth, add, 5)
        elif rows == 4:
            tile(A, B, C, W, slope, p, depth, add, 4)
        elif rows == 3:
            tile(A, B, C, W, slope, p, depth, add, 3)
        elif rows == 2:
            tile(A, B, C, W, slope, p, depth, add, 2)
        else:
            tile(A, B, C, W, slope, p, depth, add, 1)
        a += rows
        A += rows * p.a_row
        C = NULL if C == NULL else C + rows * p.c_row
        W = NULL if W == NULL else W + rows * p.w_row
        slope = NULL if slope == NULL else slope + rows * p.slope_row


cdef inline inlined pack(const real* B, const Product* p, Py_ssize_t depth, Py_ssize_t columns, real* packed) noexcept nogil:
    """A panel of B, its rows side by side, with zeros for columns that there are none of."""
    cdef Py_ssize_t k
    cdef int j
    if p.b_column == 1:
        for k in range(depth):
            for j in range(WIDE):
                packed[k * WIDE + j] = B[k * p.b_k + j]
        return
    if columns < WIDE:
        memset(packed, 0, depth * WIDE * sizeof(real))
    transpose_all(B, p.b_column, packed, WIDE, columns, depth, True)


cdef clones product(
    const real* A, const real* B, real* C, real* W, const real* slope, const Product* p,
) noexcept nogil:
    """C = (A B) slope, W -= lr (A B + decay W), a panel of B after the other; what is NULL is left out, C if one will do.

    All columns take a panel's part of A, which stays in the second cache, before any takes the next one's. For many rows
    a panel is copied: its rows, far apart, would take more pages of memory than a CPU finds at once. So is one whose
    columns do not lie side by side.
    """
    cdef real packed[PANEL * WIDE]
    cdef Product q = p[0]
    cdef Py_ssize_t panel = p.depth if C == NULL else <Py_ssize_t>PANEL
    cdef Py_ssize_t b, k = 0, n
    cdef const real* part
    cdef bint last, copied = p.b_column != 1 or (p.rows > 4 * TALL and (C != NULL or p.depth <= PANEL))
    if copied:
        q.b_k = WIDE
    while k < p.depth:
        n = min(panel, p.depth - k)
        last = k + n == p.depth
        b = 0
        while b < p.columns:
            part = B + k * p.b_k + b * p.b_column
            if copied:
                pack(part, p, n, min(<Py_ssize_t>WIDE, p.columns - b), packed)
            column(
                A + k * p.a_k, &packed[0] if copied else part, NULL if C == NULL else C + b,
                W + b if last and W != NULL else NULL, slope + b if last and slope != NULL else NULL, &q, n, k > 0)
            b += WIDE
        k += n


# ---- where everything is -------------------------------------------------------------------------------------------

cdef struct Layer:
    Py_ssize_t inputs, outputs, activation
    Py_ssize_t columns  # outputs, filled up to whole tiles
    Py_ssize_t pitch    # of a row of W
    Py_ssize_t step     # of a row of outputs and slopes
    Py_ssize_t dy_step  # of a row of their gradients
    Py_ssize_t flat     # where W stands in the vectors of the model, and in the padded ones
    Py_ssize_t padded
    Py_ssize_t y, slope, dy   # where in `work`: outputs, their slopes, gradients of outputs


cdef struct Plan:
    Py_ssize_t layers, batch, padded   # how many; rows of a batch; length of a padded vector
    Py_ssize_t x, x_step, z, dz, t, y  # where in `work` a batch is gathered, and outputs without padding
    Py_ssize_t rows                    # ... and two rows of classes, for the loss
    Py_ssize_t room
    Layer layer[MOST]


cdef Py_ssize_t take(Plan* plan, Py_ssize_t n) noexcept nogil:
    """Where there is room for so many numbers, at a line of the cache."""
    cdef Py_ssize_t at = plan.room
    plan.room += (n + LINE - 1) // LINE * LINE
    return at


cdef void lay_out(Plan* plan, const int64_t[:, ::1] layers, Py_ssize_t batch) noexcept nogil:
    cdef Py_ssize_t l, flat = 0
    cdef Layer* layer
    plan.layers, plan.batch, plan.padded, plan.room = layers.shape[0], batch, 0, 0
    for l in range(plan.layers):
        layer = &plan.layer[l]
        layer.inputs, layer.outputs, layer.activation = layers[l, 0], layers[l, 1], layers[l, 2]
        # Rows a power of two apart would share a few lines of the cache: LINE keeps them away from it.
        layer.columns = (layer.outputs + WIDE - 1) // WIDE * WIDE
        layer.pitch = layer.columns + (LINE if layer.columns > WIDE else 0)
        layer.dy_step = layer.columns + LINE
        layer.step = layer.dy_step if layer.columns > WIDE else (layer.outputs + SHORT) // SHORT * SHORT
        layer.flat, layer.padded = flat, plan.padded
        flat += (layer.inputs + 1) * layer.outputs
        plan.padded += (layer.inputs + 1) * layer.pitch
        layer.y = take(plan, batch * layer.step + WIDE)
        layer.slope = take(plan, batch * layer.step + WIDE)
        layer.dy = take(plan, batch * layer.dy_step)
    plan.x_step = (layers[0, 0] // WIDE + 1) * WIDE + LINE
    plan.x = take(plan, batch * plan.x_step)
    layer = &plan.layer[plan.layers - 1]
    plan.z = take(plan, batch * layer.outputs)
    plan.dz = take(plan, batch * layer.outputs)
    plan.t = take(plan, batch * layer.outputs)
    plan.y = take(plan, 2 * batch)   # labels, of 8 bytes
    plan.rows = take(plan, 2 * layer.outputs)


cdef void pad(const Plan* plan, const real* flat, real* padded) noexcept nogil:
    cdef const Layer* layer
    cdef Py_ssize_t l, i
    for l in range(plan.layers):
        layer = &plan.layer[l]
        for i in range(layer.inputs + 1):
            memcpy(padded + layer.padded + i * layer.pitch, flat + layer.flat + i * layer.outputs,
                   layer.outputs * sizeof(real))


cdef void unpad(const Plan* plan, const real* padded, real* flat) noexcept nogil:
    cdef const Layer* layer
    cdef Py_ssize_t l, i
    for l in range(plan.layers):
        layer = &plan.layer[l]
        for i in range(layer.inputs + 1):
            memcpy(flat + layer.flat + i * layer.outputs, padded + layer.padded + i * layer.pitch,
                   layer.outputs * sizeof(real))


cdef void copy_rows(
    const real* a, Py_ssize_t a_step, real* b, Py_ssize_t b_step, Py_ssize_t rows, Py_ssize_t columns,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(rows):
        memcpy(b + i * b_step, a + i * a_step, columns * sizeof(real))


# ---- a step --------------------------------------------------------------------------------------------------------

cdef enum Criterion:
    CROSS_ENTROPY
    BCE
    MSE

cdef enum Phase:
    GATHER
    MULTIPLY
    ACTIVATE
    MULTIPLY_BACK
    DESCEND
    UPDATE

cdef enum:
    SHARED = 1 << 18  # products of a phase from which sharing it is faster, some 8 us
    ELEMENT = 16      # products that take as long as a number that is moved or activated
    ROWS = 8          # of a batch that make a part
    LINES = 64        # of vectors that make one

# How Python names what it asks for.
MOST_LAYERS, NO_ACTIVATION, SHARED_PHASE = MOST, NONE, SHARED
ACTIVATIONS = {"sigmoid": _activations.SIGMOID, "tanh": _activations.TANH, "relu": _activations.RELU}
CRITERIA = {"CrossEntropyLoss": CROSS_ENTROPY, "BCEWithLogitsLoss": BCE, "MSELoss": MSE}
METHODS = {"plain": _updates.PLAIN, "momentum": _updates.MOMENTUM, "adam": _updates.ADAM}


cdef struct Step:              # all that a thread needs to do a part of it; what is void is float or double
    const Plan* plan
    const _updates.Rule* rule
    const void* X              # samples, targets unless they are labels, and which ones of them are the batch
    const void* t
    const int64_t* order
    void* work                 # what `plan` says, and the padded vectors behind it
    bint doubles
    bint gradients             # whether they are wanted for themselves
    int64_t count              # of steps, this one included
    Meeting* team
    Py_ssize_t rows, layer     # of the batch; at which we are
    Phase phase
    Py_ssize_t length, piece   # of the phase, and of its parts


cdef inline real* vector(const Step* step, real* work, int i) noexcept nogil:
    """The parameters, their gradients, and what the rule remembers: padded vectors 0, 1, 2 and 3."""
    return work + step.plan.room + i * step.plan.padded


cdef void append_ones(real* a, Py_ssize_t step, Py_ssize_t column, Py_ssize_t rows) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(rows):
        a[i * step + column] = 1


# Phases, from start to stop: rows of a batch, columns in whole tiles, or lines of vectors. A large one is cut into parts
# for several threads. Columns of W stay with a thread, in its cache, from its part of z to its part of dW.

cdef void gather(const Step* step, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Rows of a batch and their targets."""
    cdef const Plan* plan = step.plan
    cdef Py_ssize_t i, inputs = plan.layer[0].inputs, outputs = plan.layer[plan.layers - 1].outputs
    for i in range(start, stop):
        memcpy(work + plan.x + i * plan.x_step, <const real*>step.X + step.order[i] * inputs, inputs * sizeof(real))
    if step.t != NULL:
        for i in range(start, stop):
            memcpy(work + plan.t + i * outputs, <const real*>step.t + step.order[i] * outputs, outputs * sizeof(real))


cdef void multiply(const Step* step, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Columns of z = [x, 1] W."""
    cdef const Plan* plan = step.plan
    cdef const Layer* layer = &plan.layer[step.layer]
    cdef const Layer* below = &plan.layer[step.layer - 1]
    cdef Product p
    p.rows, p.columns, p.depth = step.rows, stop - start, layer.inputs + 1
    p.a_row, p.a_k, p.b_k, p.b_column = below.step if step.layer > 0 else plan.x_step, 1, layer.pitch, 1
    p.c_row = layer.step
    product(
        work + (below.y if step.layer > 0 else plan.x), vector(step, work, 0) + layer.padded + start,
        work + layer.y + start, <real*>NULL, <real*>NULL, &p)


cdef void activate(const Step* step, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Rows of y from those of z, and slopes."""
    cdef const Layer* layer = &step.plan.layer[step.layer]
    cdef real* y = work + layer.y + start * layer.step
    if layer.activation != NONE:
        activation_loop(
            <Activation>layer.activation, y, y, work + layer.slope + start * layer.step, (stop - start) * layer.step)
    append_ones(y, layer.step, layer.outputs, stop - start)


cdef void multiply_back(const Step* step, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Columns of dx = (dz W^T) slope."""
    cdef const Layer* layer = &step.plan.layer[step.layer]
    cdef const Layer* below = &step.plan.layer[step.layer - 1]
    cdef Product p
    p.rows, p.columns, p.depth = step.rows, min(stop, layer.inputs) - start, layer.outputs
    p.a_row, p.a_k, p.b_k, p.b_column = layer.dy_step, 1, 1, layer.pitch
    p.c_row, p.slope_row = below.dy_step, below.step
    product(
        work + layer.dy, vector(step, work, 0) + layer.padded + start * layer.pitch, work + below.dy + start, <real*>NULL,
        NULL if below.activation == NONE else work + below.slope + start, &p)


cdef void descend(const Step* step, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Columns of dW = [x, 1]^T dz, or of W -= lr dW, or of both."""
    cdef const Plan* plan = step.plan
    cdef const Layer* layer = &plan.layer[step.layer]
    cdef const Layer* below = &plan.layer[step.layer - 1]
    cdef Py_ssize_t at = layer.padded + start
    cdef bint fused = step.rule.method == _updates.PLAIN
    cdef Product p
    p.rows, p.columns, p.depth = layer.inputs + 1, stop - start, step.rows
    p.a_row, p.a_k, p.b_k, p.b_column = 1, below.step if step.layer > 0 else plan.x_step, layer.dy_step, 1
    p.c_row = p.w_row = layer.pitch
    p.lr, p.decay = step.rule.lr, step.rule.decay
    product(
        work + (below.y if step.layer > 0 else plan.x), work + layer.dy + start,
        vector(step, work, 1) + at if step.gradients else NULL, vector(step, work, 0) + at if fused else NULL,
        <real*>NULL, &p)


cdef void update(const Step* step, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Parameters from gradients."""
    cdef Py_ssize_t at = start * LINE
    _updates.update(
        step.rule, vector(step, work, 1) + at, vector(step, work, 0) + at, vector(step, work, 2) + at,
        vector(step, work, 3) + at, <real*>NULL, (stop - start) * LINE, step.count)


cdef void do_part(const Step* step, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    if step.phase == GATHER:
        gather(step, work, start, stop)
    elif step.phase == MULTIPLY:
        multiply(step, work, start, stop)
    elif step.phase == ACTIVATE:
        activate(step, work, start, stop)
    elif step.phase == MULTIPLY_BACK:
        multiply_back(step, work, start, stop)
    elif step.phase == DESCEND:
        descend(step, work, start, stop)
    else:
        update(step, work, start, stop)


cdef void do_piece(void* argument, Py_ssize_t part) noexcept nogil:
    cdef const Step* step = <const Step*>argument
    cdef Py_ssize_t start = part * step.piece
    cdef Py_ssize_t stop = min(start + step.piece, step.length)
    if step.doubles:
        do_part(step, <double*>step.work, start, stop)
    else:
        do_part(step, <float*>step.work, start, stop)


cdef void do_phase(
    Step* step, real* work, Phase phase, Py_ssize_t length, Py_ssize_t piece, Py_ssize_t products,
) noexcept nogil:
    """All of a phase; by the team, if there are products enough. No sum is cut, so no digit depends on who does it."""
    step.phase, step.length, step.piece = phase, length, piece
    if products < SHARED or not helped(step.team):
        do_part(step, work, 0, length)
    else:
        share(step.team, do_piece, step, (length + piece - 1) // piece)


cdef void go_forward(Step* step, real* work) noexcept nogil:
    """From the samples to the outputs of the last layer."""
    cdef const Plan* plan = step.plan
    cdef const Layer* layer
    do_phase(step, work, GATHER, step.rows, ROWS, step.rows * plan.layer[0].inputs * ELEMENT)
    for step.layer in range(plan.layers):
        layer = &plan.layer[step.layer]
        do_phase(step, work, MULTIPLY, layer.columns, WIDE, step.rows * layer.inputs * layer.columns)
        do_phase(step, work, ACTIVATE, step.rows, ROWS, step.rows * layer.step * ELEMENT)


cdef double criterion_of(
    Criterion criterion, const real* z, const real* t, const int64_t* y, real* work, real* dz, Py_ssize_t rows,
    Py_ssize_t outputs,
) noexcept nogil:
    """The mean loss and its gradient."""
    cdef _cross_entropy.Options o
    cdef _elementwise.Settings s
    cdef _elementwise.Binary plain = _elementwise.no_options()
    cdef Py_ssize_t n = rows if criterion == CROSS_ENTROPY else rows * outputs
    cdef double scale = 1.0 / n
    o.s = o.gamma = s.period = 0
    s.binary = &plain
    o.of_rows.least = o.of_rows.most = 1
    o.masked = o.far = False
    o.shares = NULL
    if criterion == CROSS_ENTROPY:
        return scale * _cross_entropy.batch(
            z, t, y, <const real*>NULL, NULL, NULL, work, <real*>NULL, dz, rows, outputs, scale, &o)
    return scale * _elementwise.elementwise(
        _elementwise.BCE_WITH_LOGITS if criterion == BCE else _elementwise.SQUARED_ERROR, z, t, <real*>NULL, <real*>NULL, NULL,
        <real*>NULL, dz, n, scale, &s, NULL)


cdef double lose(const Plan* plan, real* work, Criterion criterion, bint labels, Py_ssize_t rows) noexcept nogil:
    """The mean loss of the outputs; its gradient goes to `dy` of the last layer."""
    cdef const Layer* last = &plan.layer[plan.layers - 1]
    cdef real* z = work + plan.z
    cdef real* dy = work + last.dy
    cdef const real* slope = work + last.slope
    cdef double loss
    cdef Py_ssize_t i, k
    copy_rows(work + last.y, last.step, z, last.outputs, rows, last.outputs)
    loss = criterion_of(
        criterion, z, <real*>NULL if labels else work + plan.t, <int64_t*>(work + plan.y) if labels else NULL,
        work + plan.rows, work + plan.dz, rows, last.outputs)
    copy_rows(work + plan.dz, last.outputs, dy, last.dy_step, rows, last.outputs)
    if last.activation != NONE:
        for i in range(rows):
            for k in range(last.outputs):
                dy[i * last.dy_step + k] *= slope[i * last.step + k]
    return loss


cdef void go_backward(Step* step, real* work) noexcept nogil:
    """Gradients of the parameters, if they are wanted, and the update of the parameters."""
    cdef const Plan* plan = step.plan
    cdef const Layer* layer
    cdef Py_ssize_t products
    for step.layer in range(plan.layers - 1, -1, -1):
        layer = &plan.layer[step.layer]
        products = step.rows * layer.inputs * layer.columns
        if step.layer > 0:
            do_phase(step, work, MULTIPLY_BACK, plan.layer[step.layer - 1].columns, WIDE, products)
        do_phase(step, work, DESCEND, layer.columns, WIDE, products)
    if step.rule.method != _updates.PLAIN:
        do_phase(step, work, UPDATE, plan.padded // LINE, LINES, plan.padded * ELEMENT)


# ---- many steps ----------------------------------------------------------------------------------------------------

def room(const int64_t[:, ::1] layers not None, Py_ssize_t batch):
    """How many numbers `work` = vectors, batch and layers takes for batches (N, I) of so many rows."""
    cdef Plan plan
    lay_out(&plan, layers, batch)
    return plan.room + 4 * plan.padded + LINE


cdef bint gather_labels(
    const Plan* plan, const int64_t[::1] y, const int64_t* order, Py_ssize_t rows, real* work,
) noexcept nogil:
    """The labels of a batch, if there are any; whether they are in range."""
    cdef Py_ssize_t classes = plan.layer[plan.layers - 1].outputs
    cdef int64_t* labels = <int64_t*>(work + plan.y)
    cdef Py_ssize_t i
    cdef bint right = True
    for i in range(rows if y.shape[0] > 0 else 0):
        labels[i] = y[order[i]]
        right = right and 0 <= labels[i] < classes
    return right


def train(
    const int64_t[:, ::1] layers not None, const real[:, ::1] X not None, const int64_t[::1] y not None,
    const real[:, ::1] t not None, const int64_t[::1] order not None, real[::1] params not None, real[::1] grads not None,
    real[::1] first not None, real[::1] second not None, real[:, ::1] outputs not None, double[::1] losses not None,
    real[::1] work not None, Py_ssize_t batch, Py_ssize_t epoch, Criterion criterion, _updates.Rule rule, int64_t steps,
    bint strict, Team team not None,
):
    """A step for each batch of rows in `order` (S,), a new batch every `epoch` rows; returns the number of steps.

    The loss of a batch is a mean = sum / N, in `losses`. `layers` (L, 3): inputs, outputs, activation; X (M, I), y (M,)
    labels or t (M, O), params, grads and what the rule remembers, first and second, (P,), outputs (S, O). A label out
    of range, and if `strict` a loss that is not finite, ends it before its step. grads are those of the last step.
    """
    cdef Plan plan
    cdef Step step
    cdef real* base = <real*>(<char*>&work[0] + 63 - (<size_t>&work[0] + 63) % 64)
    cdef real* w
    cdef real* g
    cdef real* m
    cdef real* v
    cdef Py_ssize_t start = 0, stop, done = 0, total = order.shape[0]
    cdef double loss
    with nogil:
        lay_out(&plan, layers, batch)
        step.plan, step.team, step.doubles, step.work, step.rule = &plan, &team.meeting, real is double, base, &rule
        step.X, step.t = &X[0, 0], &t[0, 0] if t.shape[0] > 0 else NULL
        w, g, m, v = vector(&step, base, 0), vector(&step, base, 1), vector(&step, base, 2), vector(&step, base, 3)
        memset(base, 0, (plan.room + (2 + (first.shape[0] > 0) + (second.shape[0] > 0)) * plan.padded) * sizeof(real))
        pad(&plan, &params[0], w)
        if first.shape[0] > 0:
            pad(&plan, &first[0], m)
        if second.shape[0] > 0:
            pad(&plan, &second[0], v)
        append_ones(base + plan.x, plan.x_step, X.shape[1], batch)
        while start < total:
            stop = min(start + batch, (start // epoch + 1) * epoch, total)
            step.rows, step.order = stop - start, &order[start]
            if not gather_labels(&plan, y, step.order, step.rows, base):
                break
            go_forward(&step, base)
            loss = lose(&plan, base, criterion, y.shape[0] > 0, step.rows)
            if strict and not isfinite(loss):
                break
            losses[done] = loss
            done += 1
            if outputs.shape[0] > 0:
                copy_rows(
                    base + plan.z, outputs.shape[1], &outputs[start, 0], outputs.shape[1], step.rows, outputs.shape[1])
            step.count = steps + done
            step.gradients = stop == total or step.rows > PANEL or rule.method != _updates.PLAIN
            go_backward(&step, base)
            start = stop
        unpad(&plan, w, &params[0])
        if start == total:
            unpad(&plan, g, &grads[0])
        if first.shape[0] > 0:
            unpad(&plan, m, &first[0])
        if second.shape[0] > 0:
            unpad(&plan, v, &second[0])
    return done


# ---- the door to answers: see _doors.pxd ---------------------------------------------------------------------------
# A row at a time, from the parameters as they are. Rows of W are read WIDE numbers at a time, beyond their end where
# more of the vector follows: what is too much is computed, and left.

cdef enum:
    BROAD = 1024             # most outputs of a layer
    MANY = 1 << 20           # parameters of a net, beyond which numpy's products are no slower


cdef clones answer(
    const real* x, const real* W, real* y, Py_ssize_t inputs, Py_ssize_t outputs, Py_ssize_t left,
) noexcept nogil:
    """y = x W + b for one row; from W on there are `left` numbers."""
    cdef real sums[WIDE]
    cdef Py_ssize_t start = 0, k, safe, width
    cdef int j
    while start < outputs:
        width = min(<Py_ssize_t>WIDE, outputs - start)
        safe = max(min(inputs, (left - start - WIDE) // outputs + 1), <Py_ssize_t>0) if left >= start + WIDE else 0
        for j in range(WIDE):
            sums[j] = 0
        for k in range(safe):
            for j in range(WIDE):
                sums[j] += x[k] * W[k * outputs + start + j]
        for k in range(safe, inputs):
            for j in range(width):
                sums[j] += x[k] * W[k * outputs + start + j]
        for j in range(width):
            y[start + j] = sums[j] + W[inputs * outputs + start + j]
        start += WIDE


cdef void answer_rows(
    const int64_t* layers, Py_ssize_t count, const real* params, Py_ssize_t size, const real* x, real* y, Py_ssize_t rows,
) noexcept nogil:
    cdef real room[2 * BROAD]
    cdef const real* a
    cdef real* b
    cdef Py_ssize_t i, l, flat, inputs, outputs
    for i in range(rows):
        a, flat = x + i * layers[0], 0
        for l in range(count):
            inputs, outputs = layers[3 * l], layers[3 * l + 1]
            b = y + i * outputs if l == count - 1 else &room[l % 2 * BROAD]
            answer(a, params + flat, b, inputs, outputs, size - flat)
            if layers[3 * l + 2] != NONE:
                activation_loop(<Activation>layers[3 * l + 2], b, b, <real*>NULL, outputs)
            a, flat = b, flat + (inputs + 1) * outputs


cdef bint are_layers_of(const Py_buffer* layers, const Py_buffer* params, const Py_buffer* x, const Py_buffer* y) noexcept:
    """Whether layers (L, 3), as in `train`, lead from the columns of x (N, I) to those of y (N, O), by all of params."""
    cdef const int64_t* layer = <const int64_t*>layers.buf
    cdef Py_ssize_t l, columns, size = 0
    if not (layers.ndim == x.ndim == y.ndim == 2 and params.ndim == 1 and layers.shape[0] > 0 and layers.shape[1] == 3):
        return False
    if layers.itemsize != 8 or layers.format[0] not in (b"l", b"q") or not apart(x, y) or not apart(params, y):
        return False
    if not params.format[0] == x.format[0] == y.format[0] or x.shape[0] != y.shape[0]:
        return False
    columns = x.shape[1]
    for l in range(layers.shape[0]):
        if layer[3 * l] != columns or not 1 <= layer[3 * l + 1] <= BROAD or columns < 1:
            return False
        if layer[3 * l + 2] not in (NONE, _activations.SIGMOID, _activations.TANH, _activations.RELU):
            return False
        columns = layer[3 * l + 1]
        size += (layer[3 * l] + 1) * columns
    return columns == y.shape[1] and size == params.shape[0]


cdef bint give_answers(const Py_buffer* layers, const Py_buffer* params, const Py_buffer* x, const Py_buffer* y) noexcept:
    if not are_layers_of(layers, params, x, y):
        return False
    if x.format[0] == b"f":
        answer_rows(<int64_t*>layers.buf, layers.shape[0], <float*>params.buf, params.shape[0], <float*>x.buf,
                    <float*>y.buf, x.shape[0])
    elif x.format[0] == b"d":
        answer_rows(<int64_t*>layers.buf, layers.shape[0], <double*>params.buf, params.shape[0], <double*>x.buf,
                    <double*>y.buf, x.shape[0])
    else:
        return False
    return True


def answer_door(layers not None, params not None, x not None, y not None):
    """y = outputs of a plain net for x (N, I), if all are small and plain; `layers` as in train. Whether it was done."""
    cdef Py_buffer a, b, c, d
    cdef bint done = False
    if not enter(layers, &a, False):
        return False
    if acquire(params, &b, False, MANY):
        if enter(x, &c, False):
            if enter(y, &d, True):
                done = give_answers(&a, &b, &c, &d)
                PyBuffer_Release(&d)
            PyBuffer_Release(&c)
        PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return done
