/* The dispatch macro and the bit casts, nothing else. */
#ifndef MINNET_SIMD_H
#define MINNET_SIMD_H

#include <stdint.h>
#include <stdlib.h> /* a libc header, so that __GLIBC__ is defined where it holds */

/* Compile a function once for each of three x86-64 levels; the loader picks one by the CPU at hand (an ifunc, which
   musl, macOS and Windows lack). gcc knows the level names from 12 on; clang before 18 accepts them and dispatches
   wrongly (llvm issue 55830). Elsewhere: plain code, the same numbers. */
#if defined(__x86_64__) && defined(__GLIBC__) && \
    ((defined(__clang__) && __clang_major__ >= 18) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12))
#define MINNET_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define MINNET_CLONES
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

#endif
