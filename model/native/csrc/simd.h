/* What kernels need of an instruction set: 16 floats at a time, on every level with the same bits.
 *
 * A level is a set of instructions that a library is compiled for (`model/native/levels.py`), and
 * a header that has all of the functions below in its own way. Each of them is exact, or rounds once;
 * reductions are one tree: lane i with i + 8, then i + 4, i + 2, i + 1. So whatever is written in
 * terms of these has the same bits on each level.
 *
 *     floats, ints    16 of 32 bits          f_..., i_...
 *     doubles         8 of 64 bits           d_...
 *     lanes           a yes or no for each of the 16
 *
 * `count` says how many of the 16 are meant, of as many as there are: 0 or less means none, 16 or
 * more means all. Memory behind them is neither read nor written; what is loaded there is 0.
 */
#ifndef SIMD_H
#define SIMD_H

#define INLINE static inline __attribute__((always_inline))

enum { WIDTH = 16 };

#if defined(LEVEL_I8MM) /* and all that NEON has */
#define LEVEL_NEON
#endif

#if defined(LEVEL_NEON)
#include "simd_neon.h"
#elif defined(LEVEL_AVX512)
#include "simd_avx512.h"
#include "simd_x86.h"
#else
#include "simd_avx2.h"
#include "simd_x86.h"
#endif

#endif
