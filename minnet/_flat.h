/* Rows of few numbers, one after the other, taken as they stand in memory: their sums, and themselves times factors of rows. */
#ifndef MINNET_FLAT_H
#define MINNET_FLAT_H

#include "_simd.h"

#ifdef MINNET_HAS_FOURS
/* b = the sums of four rows of four. They are added by twos and the twos by twos, at the places where a vector gets twos by one
   instruction each. */
static inline MINNET_INLINE void minnet_add_fours(minnet_f64x4 r0, minnet_f64x4 r1, minnet_f64x4 r2, minnet_f64x4 r3, double* b)
{
    minnet_f64x4 twos01 = __builtin_shufflevector(r0, r1, 0, 4, 2, 6) + __builtin_shufflevector(r0, r1, 1, 5, 3, 7);
    minnet_f64x4 twos23 = __builtin_shufflevector(r2, r3, 0, 4, 2, 6) + __builtin_shufflevector(r2, r3, 1, 5, 3, 7);
    *(minnet_f64x4*)b = __builtin_shufflevector(twos01, twos23, 0, 1, 4, 5) + __builtin_shufflevector(twos01, twos23, 2, 3, 6, 7);
}

/* b = the sums of the first `count` numbers of each row of a; all four are read. */
static inline MINNET_INLINE void minnet_fours(const double* a, ptrdiff_t a_step, int64_t count, double* b)
{
    minnet_i64x4 kept = (minnet_i64x4){0, 1, 2, 3} < (minnet_i64x4){count, count, count, count};
    minnet_add_fours(
        (minnet_f64x4)(*(const minnet_i64x4*)a & kept), (minnet_f64x4)(*(const minnet_i64x4*)(a + a_step) & kept),
        (minnet_f64x4)(*(const minnet_i64x4*)(a + 2 * a_step) & kept),
        (minnet_f64x4)(*(const minnet_i64x4*)(a + 3 * a_step) & kept), b);
}

/* b = the sums of w (base - a) for each row of a, four or eight numbers, which has a base. */
static inline MINNET_INLINE minnet_f64x4 minnet_far(const double* a, double base, const double* w)
{
    return (base - *(const minnet_f64x4*)a) * *(const minnet_f64x4*)w;
}

static inline MINNET_INLINE void minnet_far_fours(
    const double* a, ptrdiff_t a_step, const double* base, const double* w, double* b)
{
    minnet_add_fours(
        minnet_far(a, base[0], w), minnet_far(a + a_step, base[1], w), minnet_far(a + 2 * a_step, base[2], w),
        minnet_far(a + 3 * a_step, base[3], w), b);
}

static inline MINNET_INLINE void minnet_far_eights(
    const double* a, ptrdiff_t a_step, const double* base, const double* w, double* b)
{
    const double* c = a + 4;
    const double* v = w + 4;
    minnet_add_fours(
        minnet_far(a, base[0], w) + minnet_far(c, base[0], v),
        minnet_far(a + a_step, base[1], w) + minnet_far(c + a_step, base[1], v),
        minnet_far(a + 2 * a_step, base[2], w) + minnet_far(c + 2 * a_step, base[2], v),
        minnet_far(a + 3 * a_step, base[3], w) + minnet_far(c + 3 * a_step, base[3], v), b);
}

/* Four floats as doubles. Written like this it is one conversion from memory to gcc 12, which exchanges halves for
   __builtin_convertvector, and gathers numbers that are loaded one by one. */
static inline MINNET_INLINE minnet_f64x4 minnet_wide_four(const float* a)
{
    minnet_f32x4 four = *(const minnet_f32x4*)a;
    return (minnet_f64x4){four[0], four[1], four[2], four[3]};
}

/* b = the sums of w a, in double, for four rows of n >= 4 numbers. The last four overlap those before; their weights stand
   behind the others. */
static inline MINNET_INLINE void minnet_moments(const float* a, ptrdiff_t n, const double* w, double* b)
{
    const float* last = a + n - 4;
    minnet_f64x4 by = *(const minnet_f64x4*)(w + n);
    minnet_f64x4 r0 = minnet_wide_four(last) * by, r1 = minnet_wide_four(last + n) * by;
    minnet_f64x4 r2 = minnet_wide_four(last + 2 * n) * by, r3 = minnet_wide_four(last + 3 * n) * by;
    for (; a < last; a += 4, w += 4) {
        by = *(const minnet_f64x4*)w;
        r0 += minnet_wide_four(a) * by;
        r1 += minnet_wide_four(a + n) * by;
        r2 += minnet_wide_four(a + 2 * n) * by;
        r3 += minnet_wide_four(a + 3 * n) * by;
    }
    minnet_add_fours(r0, r1, r2, r3, b);
}

/* Of four rows, the exponentials of their labels, in whose place 0 comes; and their logits, which smoothing asks for. One by one
   they would take as many stores, which are all that counts here. */
#define MINNET_TAKE(name, real, vector)                                                                          \
    static inline MINNET_INLINE void name(                                                                       \
        const real* z, const int64_t* y, real* e, double* e_y, real* z_y, ptrdiff_t n, int smoothed)             \
    {                                                                                                            \
        ptrdiff_t i0 = y[0], i1 = y[1] + n, i2 = y[2] + 2 * n, i3 = y[3] + 3 * n;                                \
        vector four = {e[i0], e[i1], e[i2], e[i3]};                                                              \
        *(minnet_f64x4*)e_y = (minnet_f64x4){four[0], four[1], four[2], four[3]};                                \
        e[i0] = e[i1] = e[i2] = e[i3] = 0;                                                                       \
        if (smoothed)                                                                                            \
            *(vector*)z_y = (vector){z[i0], z[i1], z[i2], z[i3]};                                                \
    }

/* b = factor a, or factor a - rest w, for n numbers, by fours, of which the last overlap those before. */
#define MINNET_SCALE(name, real, vector)                                                    \
    static inline MINNET_INLINE void name(const real* a, real factor, real* b, ptrdiff_t n) \
    {                                                                                       \
        ptrdiff_t k;                                                                        \
        for (k = 0; k < n - 4; k += 4)                                                      \
            *(vector*)(b + k) = *(const vector*)(a + k) * factor;                           \
        *(vector*)(b + n - 4) = *(const vector*)(a + n - 4) * factor;                       \
    }
#define MINNET_LESS(name, real, vector)                                                            \
    static inline MINNET_INLINE void name(                                                         \
        const real* a, real factor, const real* w, real rest, real* b, ptrdiff_t n)                \
    {                                                                                              \
        ptrdiff_t k;                                                                               \
        for (k = 0; k < n - 4; k += 4)                                                             \
            *(vector*)(b + k) = *(const vector*)(a + k) * factor - *(const vector*)(w + k) * rest; \
        k = n - 4;                                                                                 \
        *(vector*)(b + k) = *(const vector*)(a + k) * factor - *(const vector*)(w + k) * rest;     \
    }
#else
static inline MINNET_INLINE void minnet_fours(const double* a, ptrdiff_t a_step, int64_t count, double* b)
{
    int row;
    for (row = 0; row < 4; row++, a += a_step)
        b[row] = (a[0] + (count > 1 ? a[1] : 0)) + ((count > 2 ? a[2] : 0) + (count > 3 ? a[3] : 0));
}

static inline MINNET_INLINE void minnet_far_fours(
    const double* a, ptrdiff_t a_step, const double* base, const double* w, double* b)
{
    int row;
    for (row = 0; row < 4; row++, a += a_step)
        b[row] = ((base[row] - a[0]) * w[0] + (base[row] - a[1]) * w[1]) +
            ((base[row] - a[2]) * w[2] + (base[row] - a[3]) * w[3]);
}

static inline MINNET_INLINE void minnet_far_eights(
    const double* a, ptrdiff_t a_step, const double* base, const double* w, double* b)
{
    double more[4];
    int row;
    minnet_far_fours(a, a_step, base, w, b);
    minnet_far_fours(a + 4, a_step, base, w + 4, more);
    for (row = 0; row < 4; row++)
        b[row] += more[row];
}

static inline MINNET_INLINE void minnet_moments(const float* a, ptrdiff_t n, const double* w, double* b)
{
    ptrdiff_t k;
    int row;
    for (row = 0; row < 4; row++, a += n) {
        b[row] = 0;
        for (k = 0; k < n; k++)
            b[row] += w[k] * a[k];
    }
}

#define MINNET_TAKE(name, real, vector)                                                              \
    static inline MINNET_INLINE void name(                                                           \
        const real* z, const int64_t* y, real* e, double* e_y, real* z_y, ptrdiff_t n, int smoothed) \
    {                                                                                                \
        int row;                                                                                     \
        for (row = 0; row < 4; row++, e += n, z += n) {                                              \
            e_y[row] = e[y[row]], e[y[row]] = 0;                                                     \
            if (smoothed)                                                                            \
                z_y[row] = z[y[row]];                                                                \
        }                                                                                            \
    }

#define MINNET_SCALE(name, real, vector)                                                    \
    static inline MINNET_INLINE void name(const real* a, real factor, real* b, ptrdiff_t n) \
    {                                                                                       \
        ptrdiff_t k;                                                                        \
        for (k = 0; k < n; k++)                                                             \
            b[k] = a[k] * factor;                                                           \
    }
#define MINNET_LESS(name, real, vector)                                             \
    static inline MINNET_INLINE void name(                                          \
        const real* a, real factor, const real* w, real rest, real* b, ptrdiff_t n) \
    {                                                                               \
        ptrdiff_t k;                                                                \
        for (k = 0; k < n; k++)                                                     \
            b[k] = a[k] * factor - w[k] * rest;                                     \
    }
#endif
MINNET_TAKE(minnet_take_f32, float, minnet_f32x4)
MINNET_TAKE(minnet_take_f64, double, minnet_f64x4)
MINNET_SCALE(minnet_scale_f32, float, minnet_f32x4)
MINNET_SCALE(minnet_scale_f64, double, minnet_f64x4)
MINNET_LESS(minnet_less_f32, float, minnet_f32x4)
MINNET_LESS(minnet_less_f64, double, minnet_f64x4)

/* All rows of a tile of 32 at once, in whole vectors where the CPU has AVX-512: `row_of` tells the row of each number, whose
   factor comes from registers by one instruction, 32 floats or 16 doubles. Never inlined: clones of lower levels call them. */
#ifdef MINNET_HAS_WIDE
MINNET_WIDE static inline __m512i minnet_rows_f64(const int32_t* row_of)
{
    return _mm512_cvtepi32_epi64(_mm256_loadu_si256((const __m256i*)row_of));
}

/* b = factor a. */
MINNET_WIDE __attribute__((noinline, unused)) static void minnet_scale_tile_f32(
    const float* a, const float* factor, const int32_t* row_of, float* b, ptrdiff_t n)
{
    __m512 low = _mm512_loadu_ps(factor), high = _mm512_loadu_ps(factor + 16);
    ptrdiff_t i;
    for (i = 0; i < 32 * n; i += 16) {
        __m512 by = _mm512_permutex2var_ps(low, _mm512_loadu_si512(row_of + i), high);
        _mm512_storeu_ps(b + i, _mm512_mul_ps(_mm512_loadu_ps(a + i), by));
    }
}

MINNET_WIDE __attribute__((noinline, unused)) static void minnet_scale_tile_f64(
    const double* a, const double* factor, const int32_t* row_of, double* b, ptrdiff_t n)
{
    __m512d low, high;
    ptrdiff_t half, i;
    for (half = 0; half < 32 * n; half += 16 * n, factor += 16) {
        low = _mm512_loadu_pd(factor), high = _mm512_loadu_pd(factor + 8);
        for (i = half; i < half + 16 * n; i += 8) {
            __m512d by = _mm512_permutex2var_pd(low, minnet_rows_f64(row_of + i), high);
            _mm512_storeu_pd(b + i, _mm512_mul_pd(_mm512_loadu_pd(a + i), by));
        }
    }
}

/* b = factor a - rest w, where w has as many numbers as a. */
MINNET_WIDE __attribute__((noinline, unused)) static void minnet_less_tile_f32(
    const float* a, const float* factor, const float* w, const float* rest, const int32_t* row_of, float* b, ptrdiff_t n)
{
    __m512 low = _mm512_loadu_ps(factor), high = _mm512_loadu_ps(factor + 16);
    __m512 low_rest = _mm512_loadu_ps(rest), high_rest = _mm512_loadu_ps(rest + 16);
    ptrdiff_t i;
    for (i = 0; i < 32 * n; i += 16) {
        __m512i rows = _mm512_loadu_si512(row_of + i);
        __m512 less = _mm512_mul_ps(_mm512_loadu_ps(w + i), _mm512_permutex2var_ps(low_rest, rows, high_rest));
        _mm512_storeu_ps(b + i, _mm512_fmsub_ps(_mm512_loadu_ps(a + i), _mm512_permutex2var_ps(low, rows, high), less));
    }
}

MINNET_WIDE __attribute__((noinline, unused)) static void minnet_less_tile_f64(
    const double* a, const double* factor, const double* w, const double* rest, const int32_t* row_of, double* b, ptrdiff_t n)
{
    __m512d low, high, low_rest, high_rest;
    ptrdiff_t half, i;
    for (half = 0; half < 32 * n; half += 16 * n, factor += 16, rest += 16) {
        low = _mm512_loadu_pd(factor), high = _mm512_loadu_pd(factor + 8);
        low_rest = _mm512_loadu_pd(rest), high_rest = _mm512_loadu_pd(rest + 8);
        for (i = half; i < half + 16 * n; i += 8) {
            __m512i rows = minnet_rows_f64(row_of + i);
            __m512d less = _mm512_mul_pd(_mm512_loadu_pd(w + i), _mm512_permutex2var_pd(low_rest, rows, high_rest));
            _mm512_storeu_pd(b + i, _mm512_fmsub_pd(_mm512_loadu_pd(a + i), _mm512_permutex2var_pd(low, rows, high), less));
        }
    }
}

/* The first numbers of a vector of eight doubles. */
MINNET_WIDE static inline __mmask8 minnet_first(ptrdiff_t count)
{
    return count >= 8 ? 0xff : count > 0 ? (__mmask8)((1 << count) - 1) : 0;
}

/* found = w[labels], for n labels of up to 16 classes, or 0 for those ignored. */
MINNET_WIDE __attribute__((noinline, unused)) static void minnet_look_up_wide(
    const double* w, ptrdiff_t classes, const int64_t* labels, int64_t ignored, double* found, ptrdiff_t n)
{
    __m512d low = _mm512_maskz_loadu_pd(minnet_first(classes), w);
    __m512d high = _mm512_maskz_loadu_pd(minnet_first(classes - 8), w + 8);
    ptrdiff_t i;
    for (i = 0; i < n; i += 8) {
        __mmask8 some = minnet_first(n - i);
        __m512i at = _mm512_maskz_loadu_epi64(some, labels + i);
        __mmask8 counted = _mm512_cmpneq_epi64_mask(at, _mm512_set1_epi64(ignored));
        _mm512_mask_storeu_pd(found + i, some, _mm512_maskz_permutex2var_pd(counted, low, at, high));
    }
}
#else
#define minnet_scale_tile_f32(a, factor, row_of, b, n) ((void)0)
#define minnet_scale_tile_f64(a, factor, row_of, b, n) ((void)0)
#define minnet_less_tile_f32(a, factor, w, rest, row_of, b, n) ((void)0)
#define minnet_less_tile_f64(a, factor, w, rest, row_of, b, n) ((void)0)
#define minnet_look_up_wide(w, classes, labels, ignored, found, n) ((void)0)
#endif

#endif
