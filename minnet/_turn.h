/* Rows of few numbers, turned over to a tile: number k of row j goes to tile[k * step + j], and back. */
#ifndef MINNET_TURN_H
#define MINNET_TURN_H

#include "_simd.h"

/* Blocks of 4 by 4, whose rows are a_step and b_step elements apart. Elements one by one would cost four times as many loads
   and stores, which is most of the time of softmax over few classes. */
#ifdef MINNET_HAS_FOURS
/* b = a transposed. */
#define MINNET_TRANSPOSE(name, real, vector)                                                          \
    static inline MINNET_INLINE void name(const real* a, ptrdiff_t a_step, real* b, ptrdiff_t b_step) \
    {                                                                                                 \
        vector r0 = *(const vector*)a, r1 = *(const vector*)(a + a_step);                             \
        vector r2 = *(const vector*)(a + 2 * a_step), r3 = *(const vector*)(a + 3 * a_step);          \
        vector low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);                                   \
        vector low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);                                   \
        vector high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);                                  \
        vector high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);                                  \
        *(vector*)b = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);                              \
        *(vector*)(b + b_step) = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);                   \
        *(vector*)(b + 2 * b_step) = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);             \
        *(vector*)(b + 3 * b_step) = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);             \
    }

/* Blocks of two doubles by four, which tiles are dealt to and collected from: two halves that are loaded, or stored, are a
   vector of four by one instruction, so that such a block takes half of the exchanges of one of 4 by 4. In a prototype
   without AVX, where gcc has to make vectors of four of halves, a tile is collected in a tenth of the time. */
typedef double minnet_f64x2 __attribute__((vector_size(16), aligned(8), may_alias));

/* b = a transposed, four rows of two. */
static inline MINNET_INLINE void minnet_deal_f64(const double* a, ptrdiff_t a_step, double* b, ptrdiff_t b_step)
{
    minnet_f64x2 r0 = *(const minnet_f64x2*)a, r1 = *(const minnet_f64x2*)(a + a_step);
    minnet_f64x2 r2 = *(const minnet_f64x2*)(a + 2 * a_step), r3 = *(const minnet_f64x2*)(a + 3 * a_step);
    minnet_f64x4 even = __builtin_shufflevector(r0, r2, 0, 1, 2, 3), odd = __builtin_shufflevector(r1, r3, 0, 1, 2, 3);
    *(minnet_f64x4*)b = __builtin_shufflevector(even, odd, 0, 4, 2, 6);
    *(minnet_f64x4*)(b + b_step) = __builtin_shufflevector(even, odd, 1, 5, 3, 7);
}

/* The same for two rows of four. */
static inline MINNET_INLINE void minnet_collect_f64(const double* a, ptrdiff_t a_step, double* b, ptrdiff_t b_step)
{
    minnet_f64x4 r0 = *(const minnet_f64x4*)a, r1 = *(const minnet_f64x4*)(a + a_step);
    minnet_f64x4 even = __builtin_shufflevector(r0, r1, 0, 4, 2, 6), odd = __builtin_shufflevector(r0, r1, 1, 5, 3, 7);
    *(minnet_f64x2*)b = __builtin_shufflevector(even, even, 0, 1);
    *(minnet_f64x2*)(b + b_step) = __builtin_shufflevector(odd, odd, 0, 1);
    *(minnet_f64x2*)(b + 2 * b_step) = __builtin_shufflevector(even, even, 2, 3);
    *(minnet_f64x2*)(b + 3 * b_step) = __builtin_shufflevector(odd, odd, 2, 3);
}
#else
#define MINNET_TRANSPOSE(name, real, vector)                                                          \
    static inline MINNET_INLINE void name(const real* a, ptrdiff_t a_step, real* b, ptrdiff_t b_step) \
    {                                                                                                 \
        int j, k;                                                                                     \
        for (j = 0; j < 4; j++)                                                                       \
            for (k = 0; k < 4; k++)                                                                   \
                b[k * b_step + j] = a[j * a_step + k];                                                \
    }
static inline MINNET_INLINE void minnet_deal_f64(const double* a, ptrdiff_t a_step, double* b, ptrdiff_t b_step)
{
    int j;
    for (j = 0; j < 4; j++) {
        b[j] = a[j * a_step];
        b[b_step + j] = a[j * a_step + 1];
    }
}

static inline MINNET_INLINE void minnet_collect_f64(const double* a, ptrdiff_t a_step, double* b, ptrdiff_t b_step)
{
    int j;
    for (j = 0; j < 4; j++) {
        b[j * b_step] = a[j];
        b[j * b_step + 1] = a[a_step + j];
    }
}
#endif
MINNET_TRANSPOSE(minnet_transpose_f32, float, minnet_f32x4)
MINNET_TRANSPOSE(minnet_transpose_f64, double, minnet_f64x4)

/* Whole tiles, in whole vectors where the CPU has AVX-512: 16 rows of four floats at a time, or 8 of four doubles. They take
   half of the exchanges, and no load that follows waits for several stores. The rows, a multiple of 16, are the step of the
   tile, too; n >= 4, and the last four of a row may overlap those before. Never inlined: clones of lower levels call them. */
#ifdef MINNET_HAS_WIDE
/* A vector whose parts, four of four floats or two of four doubles, are a step apart in memory. */
MINNET_WIDE static inline __m512 minnet_parts_f32(const float* a, ptrdiff_t step)
{
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(a));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(a + step), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(a + 2 * step), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(a + 3 * step), 3);
}

MINNET_WIDE static inline __m512d minnet_parts_f64(const double* a, ptrdiff_t step)
{
    return _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_loadu_pd(a)), _mm256_loadu_pd(a + step), 1);
}

MINNET_WIDE static inline void minnet_put_parts_f32(__m512 v, float* b, ptrdiff_t step)
{
    _mm_storeu_ps(b, _mm512_castps512_ps128(v));
    _mm_storeu_ps(b + step, _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(b + 2 * step, _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(b + 3 * step, _mm512_extractf32x4_ps(v, 3));
}

MINNET_WIDE static inline void minnet_put_parts_f64(__m512d v, double* b, ptrdiff_t step)
{
    _mm256_storeu_pd(b, _mm512_castpd512_pd256(v));
    _mm256_storeu_pd(b + step, _mm512_extractf64x4_pd(v, 1));
}

/* Parts of four vectors transposed, part by part. */
MINNET_WIDE static inline void minnet_exchange(__m512* v)
{
    __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(v[0], v[1])), low23 = _mm512_castps_pd(_mm512_unpacklo_ps(v[2], v[3]));
    __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(v[0], v[1])), high23 = _mm512_castps_pd(_mm512_unpackhi_ps(v[2], v[3]));
    v[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    v[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    v[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    v[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
}

MINNET_WIDE static inline void minnet_block_in_f32(const float* z, ptrdiff_t n, float* t, ptrdiff_t step)
{
    __m512 v[4];
    int k;
    for (k = 0; k < 4; k++)
        v[k] = minnet_parts_f32(z + k * n, 4 * n);
    minnet_exchange(v);
    for (k = 0; k < 4; k++)
        _mm512_storeu_ps(t + k * step, v[k]);
}

MINNET_WIDE static inline void minnet_block_out_f32(float* y, ptrdiff_t n, const float* t, ptrdiff_t step)
{
    __m512 v[4];
    int k;
    for (k = 0; k < 4; k++)
        v[k] = _mm512_loadu_ps(t + k * step);
    minnet_exchange(v);
    for (k = 0; k < 4; k++)
        minnet_put_parts_f32(v[k], y + k * n, 4 * n);
}

MINNET_WIDE static inline void minnet_block_in_f64(const double* z, ptrdiff_t n, double* t, ptrdiff_t step)
{
    __m512d r02 = minnet_parts_f64(z, 2 * n), r13 = minnet_parts_f64(z + n, 2 * n);
    __m512d r46 = minnet_parts_f64(z + 4 * n, 2 * n), r57 = minnet_parts_f64(z + 5 * n, 2 * n);
    __m512d even03 = _mm512_unpacklo_pd(r02, r13), odd03 = _mm512_unpackhi_pd(r02, r13); /* of the classes */
    __m512d even47 = _mm512_unpacklo_pd(r46, r57), odd47 = _mm512_unpackhi_pd(r46, r57);
    _mm512_storeu_pd(t, _mm512_shuffle_f64x2(even03, even47, 0x88)); /* 128 bits 0 and 2 of each */
    _mm512_storeu_pd(t + step, _mm512_shuffle_f64x2(odd03, odd47, 0x88));
    _mm512_storeu_pd(t + 2 * step, _mm512_shuffle_f64x2(even03, even47, 0xdd)); /* 1 and 3 */
    _mm512_storeu_pd(t + 3 * step, _mm512_shuffle_f64x2(odd03, odd47, 0xdd));
}

MINNET_WIDE static inline void minnet_block_out_f64(double* y, ptrdiff_t n, const double* t, ptrdiff_t step)
{
    /* Rows 0 and 2 or 1 and 3, then 4 and 6 or 5 and 7. */
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512d c0 = _mm512_loadu_pd(t), c1 = _mm512_loadu_pd(t + step);
    __m512d c2 = _mm512_loadu_pd(t + 2 * step), c3 = _mm512_loadu_pd(t + 3 * step);
    __m512d even01 = _mm512_unpacklo_pd(c0, c1), odd01 = _mm512_unpackhi_pd(c0, c1); /* of the rows */
    __m512d even23 = _mm512_unpacklo_pd(c2, c3), odd23 = _mm512_unpackhi_pd(c2, c3);
    minnet_put_parts_f64(_mm512_permutex2var_pd(even01, first, even23), y, 2 * n);
    minnet_put_parts_f64(_mm512_permutex2var_pd(odd01, first, odd23), y + n, 2 * n);
    minnet_put_parts_f64(_mm512_permutex2var_pd(even01, second, even23), y + 4 * n, 2 * n);
    minnet_put_parts_f64(_mm512_permutex2var_pd(odd01, second, odd23), y + 5 * n, 2 * n);
}

#define MINNET_TURN(name, rows_type, tile_type, block, height)      \
    MINNET_WIDE __attribute__((noinline, unused)) static void name( \
        rows_type* z, tile_type* t, ptrdiff_t rows, ptrdiff_t n)    \
    {                                                               \
        ptrdiff_t i, k, at;                                         \
        for (i = 0; i < rows; i += height)                          \
            for (k = 0; k < n; k += 4) {                            \
                at = k < n - 4 ? k : n - 4;                         \
                block(z + i * n + at, n, t + at * rows + i, rows);  \
            }                                                       \
    }
#else
#define MINNET_TURN(name, rows_type, tile_type, block, height)                       \
    static inline void name(rows_type* z, tile_type* t, ptrdiff_t rows, ptrdiff_t n) \
    {                                                                                \
        (void)z, (void)t, (void)rows, (void)n;                                       \
    }
#endif
MINNET_TURN(minnet_turn_in_f32, const float, float, minnet_block_in_f32, 16)
MINNET_TURN(minnet_turn_in_f64, const double, double, minnet_block_in_f64, 8)
MINNET_TURN(minnet_turn_out_f32, float, const float, minnet_block_out_f32, 16)
MINNET_TURN(minnet_turn_out_f64, double, const double, minnet_block_out_f64, 8)

#endif
