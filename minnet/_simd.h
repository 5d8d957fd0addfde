/* The dispatch macro and the bit casts, nothing else. */
#ifndef MINNET_SIMD_H
#define MINNET_SIMD_H

#include <stdint.h>
#include <stdlib.h> /* a libc header, so that __GLIBC__ is defined where it holds */

/* Compile a function once for each of three x86-64 levels; the loader picks one by the CPU at hand (an ifunc, which
   musl, macOS and Windows lack). gcc knows the level names from 12 on; clang before 18 accepts them and dispatches
   wrongly (llvm issue 55830). Elsewhere: plain code. Levels differ in last bits, since the higher ones fuse a * b + c. */
#if defined(__x86_64__) && defined(__GLIBC__) && \
    ((defined(__clang__) && __clang_major__ >= 18) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12))
#define MINNET_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
/* For loops that are all square root: on Zen 4 one of 512 bits takes three times as long as two of 256. */
#define MINNET_NARROW_CLONES __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define MINNET_CLONES
#define MINNET_NARROW_CLONES
#endif

/* For helpers of clones: one that is not inlined would run as baseline code. */
#if defined(__GNUC__)
#define MINNET_INLINE __attribute__((always_inline))
#else
#define MINNET_INLINE
#endif

/* 2^n from t = n + 1.5 * 2^23 (float) or n + 1.5 * 2^52 (double): the low bits of t hold n, and shifting them, plus
   the bias, into the exponent field makes the power. n must give a normal number. */
static inline float minnet_pow2_f32(float t)
{
    union { float f; uint32_t u; } bits;
    bits.f = t;
    bits.u = (bits.u + 127u) << 23;
    return bits.f;
}

static inline double minnet_pow2_f64(double t)
{
    union { double f; uint64_t u; } bits;
    bits.f = t;
    bits.u = (bits.u + 1023u) << 52;
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

#endif
