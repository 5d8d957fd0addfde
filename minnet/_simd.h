/* The dispatch macros, what they come to here, and the bit casts. */
#ifndef MINNET_SIMD_H
#define MINNET_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h> /* a libc header, so that __GLIBC__ is defined where it holds */

/* minnet promises exact tails, which these flags give away. */
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(_M_FP_FAST) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "minnet must be compiled without fast-math flags; take them out of CFLAGS"
#endif

/* Compile a function once for each of three x86-64 levels; the loader picks one by the CPU at hand (an ifunc, which
   musl, macOS and Windows lack). gcc knows the level names from 12 on; clang before 18 accepts them and dispatches
   wrongly (llvm issue 55830). Elsewhere: plain code. Levels differ in last bits, since the higher ones fuse a * b + c.
   MINNET_SIMD, if the build defines it, forces one level for all: 0 (plain), 3 or 4.
   Narrow clones, and a wide function beside them, are for loops that are all root and quotient: minnet_divides_wide. */
#if defined(__x86_64__) && \
    ((defined(__clang__) && __clang_major__ >= 18) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12))
#define MINNET_KNOWS_LEVELS
#endif

#if defined(MINNET_SIMD) && MINNET_SIMD > 0
#if !defined(__x86_64__) || !defined(__GNUC__)
#error "MINNET_SIMD forces a level of x86-64, which needs that CPU, and gcc or clang"
#endif
#define MINNET_NARROW_CLONES __attribute__((target("arch=x86-64-v3")))
#if MINNET_SIMD == 3
#define MINNET_CLONES MINNET_NARROW_CLONES
#define MINNET_LEVELS "x86-64-v3"
#else
#define MINNET_WIDE __attribute__((target("arch=x86-64-v4")))
#define MINNET_HAS_WIDE 1
#define MINNET_CLONES MINNET_WIDE
#define MINNET_LEVELS "x86-64-v4"
#endif
#elif !defined(MINNET_SIMD) && defined(MINNET_KNOWS_LEVELS) && defined(__GLIBC__)
#define MINNET_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#define MINNET_NARROW_CLONES __attribute__((target_clones("default", "arch=x86-64-v3")))
#define MINNET_WIDE __attribute__((target("arch=x86-64-v4")))
#define MINNET_HAS_WIDE __builtin_cpu_supports("x86-64-v4")
#define MINNET_LEVELS "baseline x86-64-v3 x86-64-v4"
#else
#define MINNET_CLONES
#define MINNET_NARROW_CLONES
#define MINNET_LEVELS "baseline"
#endif

/* The highest level that this CPU has, by the test that the resolvers of clones make; "" where it cannot be asked. */
static inline const char* minnet_cpu_level(void)
{
#ifdef MINNET_KNOWS_LEVELS
    __builtin_cpu_init();
    return __builtin_cpu_supports("x86-64-v4") ? "x86-64-v4" : __builtin_cpu_supports("x86-64-v3") ? "x86-64-v3" : "baseline";
#else
    return "";
#endif
}

/* Whether roots and quotients should go in vectors of 512 bits: they are twice as fast on Zen 5 and, by published tables,
   as fast as in 256 on Intel's CPUs. On Zen 4, which is of one family with Zen 3, a loop of both takes a third longer. */
#ifdef MINNET_WIDE
static inline int minnet_divides_wide(void)
{
    __builtin_cpu_init();
    return MINNET_HAS_WIDE && !__builtin_cpu_is("amdfam19h");
}
#else
#define MINNET_WIDE
#define minnet_divides_wide() 0
#endif

/* How this was built, to be shown. setup.py gives the flags. */
#if defined(__clang__)
#define MINNET_COMPILER __VERSION__
#elif defined(__GNUC__)
#define MINNET_COMPILER "gcc " __VERSION__
#else
#define MINNET_COMPILER ""
#endif
#ifndef MINNET_FLAGS
#define MINNET_FLAGS ""
#endif

/* For helpers of clones: one that is not inlined would run as baseline code. gcc inlines what Cython calls inline by
   itself; clang left log_sigmoid and softplus of doubles out. */
#if defined(__GNUC__)
#define MINNET_INLINE __attribute__((always_inline))
#else
#define MINNET_INLINE
#endif

/* Arrays that begin with a line of the cache: on the stack of code for any CPU they begin anywhere. */
#if defined(__GNUC__)
#define MINNET_LINED __attribute__((aligned(64)))
#elif defined(_MSC_VER)
#define MINNET_LINED __declspec(align(64))
#else
#define MINNET_LINED
#endif
#if defined(__clang__) && defined(CYTHON_INLINE)
#undef CYTHON_INLINE
#define CYTHON_INLINE __inline__ __attribute__((always_inline, unused))
#endif

/* 2^n from t = n + 1.5 * 2^23 + 127 (float) or n + 1.5 * 2^52 + 1023 (double): the low bits of t hold n and the bias,
   and shifting them into the exponent field makes the power. n must give a normal number. */
static inline float minnet_pow2_f32(float t)
{
    union { float f; uint32_t u; } bits;
    bits.f = t;
    bits.u <<= 23;
    return bits.f;
}

static inline double minnet_pow2_f64(double t)
{
    union { double f; uint64_t u; } bits;
    bits.f = t;
    bits.u <<= 52;
    return bits.f;
}

/* k with u / 2^k in [0.75, 1.5), for normal u > 0: adding the bits between 0.75 and 1 carries into the exponent field at
   1.5; the exponent, put into the low bits of 2^23 or 2^52, becomes a number without an integer conversion. */
static inline float minnet_exponent_f32(float u)
{
    union { float f; uint32_t u; } bits;
    bits.f = u;
    bits.u = ((bits.u + 0x00400000u) >> 23) | 0x4b000000u;
    return bits.f - 8388735.0f; /* 2^23 + 127 */
}

static inline double minnet_exponent_f64(double u)
{
    union { double f; uint64_t u; } bits;
    bits.f = u;
    bits.u = ((bits.u + 0x0008000000000000u) >> 52) | 0x4330000000000000u;
    return bits.f - 4503599627371519.0; /* 2^52 + 1023 */
}

/* The leading half of the digits of x, so that products of halves are exact. */
static inline float minnet_head_f32(float x)
{
    union { float f; uint32_t u; } bits;
    bits.f = x;
    bits.u &= 0xfffff000u;
    return bits.f;
}

static inline double minnet_head_f64(double x)
{
    union { double f; uint64_t u; } bits;
    bits.f = x;
    bits.u &= 0xfffffffff8000000u;
    return bits.f;
}

/* Bounds of arguments, where the compiler cannot know them: against a known one gcc 12 compares and blends, two operations
   of which the first is taken from the products; against an unknown one it takes a maximum. Nothing writes them. */
#if defined(__GNUC__)
#define MINNET_UNKNOWN __attribute__((weak, visibility("hidden")))
#else
#define MINNET_UNKNOWN static
#endif
MINNET_UNKNOWN float minnet_low_f32 = -131.0f, minnet_high_f32 = 40.0f;
MINNET_UNKNOWN double minnet_low_f64 = -1060.0, minnet_high_f64 = 40.0;

/* 2^n x from t = n + 1.5 * 2^23 (float) or n + 1.5 * 2^52 (double), by the exponent of x alone: no product. x and 2^n x must
   be normal numbers; a NaN may turn into a number. */
static inline float minnet_scaled_f32(float x, float t)
{
    union { float f; uint32_t u; } bits, n;
    bits.f = x;
    n.f = t;
    bits.u += n.u << 23;
    return bits.f;
}

static inline double minnet_scaled_f64(double x, double t)
{
    union { double f; uint64_t u; } bits, n;
    bits.f = x;
    n.f = t;
    bits.u += n.u << 52;
    return bits.f;
}

/* x, or -x where `sign` has one: no comparison, which would be taken from the products. */
static inline float minnet_flipped_f32(float x, float sign)
{
    union { float f; uint32_t u; } bits, other;
    bits.f = x;
    other.f = sign;
    bits.u ^= other.u & 0x80000000u;
    return bits.f;
}

static inline double minnet_flipped_f64(double x, double sign)
{
    union { double f; uint64_t u; } bits, other;
    bits.f = x;
    other.f = sign;
    bits.u ^= other.u & 0x8000000000000000u;
    return bits.f;
}

/* a, or b where `sign` has one. Of two choices by one comparison gcc makes two comparisons. */
static inline float minnet_chosen_f32(float sign, float a, float b)
{
    union { float f; uint32_t u; int32_t s; } bits, first, second;
    bits.f = sign;
    first.f = a;
    second.f = b;
    first.u ^= (first.u ^ second.u) & (uint32_t)(bits.s >> 31);
    return first.f;
}

static inline double minnet_chosen_f64(double sign, double a, double b)
{
    union { double f; uint64_t u; int64_t s; } bits, first, second;
    bits.f = sign;
    first.f = a;
    second.f = b;
    first.u ^= (first.u ^ second.u) & (uint64_t)(bits.s >> 63);
    return first.f;
}

static inline uint32_t minnet_bits_f32(float x)
{
    union { float f; uint32_t u; } bits;
    bits.f = x;
    return bits.u;
}

static inline uint64_t minnet_bits_f64(double x)
{
    union { double f; uint64_t u; } bits;
    bits.f = x;
    return bits.u;
}

/* Bring a line of memory near; an address that is not ours does no harm. */
#if defined(__GNUC__)
#define minnet_prefetch(p) __builtin_prefetch(p)
#define minnet_keep(x) __asm__ volatile("" : : "r"(x))
#else
#define minnet_prefetch(p) ((void)(p))
#define minnet_keep(x) ((void)(x))
#endif

/* Whether the CPU at hand has AVX-512, so that functions marked MINNET_WIDE may be called. */
#ifdef MINNET_HAS_WIDE
#define minnet_has_wide() MINNET_HAS_WIDE
#else
#define minnet_has_wide() 0
#endif

/* Lines of the cache go to memory past the caches, where the CPU can: a line that is written in a cache is read first.
   `to` and the size are multiples of 64. Whoever is told that it is done must find it: minnet_streamed().
   Halves of lines, as CPUs without AVX-512 would have to write them, take a fifth longer than the caches do. */
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define minnet_streamed() _mm_sfence()

static inline int minnet_can_stream(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f");
}

__attribute__((target("avx512f"), unused)) static void minnet_stream(void* to, const void* lines, size_t bytes)
{
    size_t i;
    for (i = 0; i < bytes; i += 64)
        _mm512_stream_ps((float*)((char*)to + i), _mm512_loadu_ps((const float*)((const char*)lines + i)));
}
#else
#define minnet_streamed() ((void)0)
#define minnet_can_stream() 0
#define minnet_stream(to, lines, bytes) ((void)(to), (void)(lines), (void)(bytes))
#endif

/* Vectors of four, for what gcc would not make vectors of. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define MINNET_HAS_FOURS
typedef float minnet_f32x4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double minnet_f64x4 __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t minnet_i64x4 __attribute__((vector_size(32), aligned(8), may_alias));
#endif

#endif
