/* What the kernels in floats share: the exponential, and numbers of one register as one.
 *
 * A function of one lane never looks at another, so a number's bits do not depend on its neighbours.
 */
#ifndef FLOATS_H
#define FLOATS_H

#include "simd.h"

/* Reductions: lane i with i + 8, then i + 4, i + 2, i + 1, on every level. */
INLINE float f_sum(floats x) {
    floats8 y = _mm256_add_ps(f_low(x), f_high(x));
    __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_add_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
}

INLINE float f_largest(floats x) {
    floats8 y = _mm256_max_ps(f_low(x), f_high(x));
    __m128 z = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_max_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)));
}

INLINE float f_least(floats x) {
    floats8 y = _mm256_min_ps(f_low(x), f_high(x));
    __m128 z = _mm_min_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_min_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_min_ss(z, _mm_movehdup_ps(z)));
}

INLINE int32_t i_sum(ints x) {
    ints8 y = _mm256_add_epi32(i_low(x), i_high(x));
    __m128i z = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    z = _mm_add_epi32(z, _mm_shuffle_epi32(z, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(z, _mm_shuffle_epi32(z, 0xb1)));
}

INLINE int32_t i_largest(ints x) {
    ints8 y = _mm256_max_epi32(i_low(x), i_high(x));
    __m128i z = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    z = _mm_max_epi32(z, _mm_shuffle_epi32(z, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(z, _mm_shuffle_epi32(z, 0xb1)));
}

INLINE double d_sum(doubles x) {
    __m256d y = d_halves(x);
    __m128d z = _mm_add_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_add_sd(z, _mm_unpackhi_pd(z, z)));
}

/* e^x with an error of at most 2e-7 of the result; 0 below -104, a NaN stays one.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, so e^x = 2^n e^r, and e^r is its Taylor series: the first
 * term left out is below 2^-27. ln 2 is taken in two parts, the first of which n multiplies exactly
 * (Cody, Waite 1980). e^0 is exactly 1. */
INLINE floats exp16(floats x) {
    x = f_max(f_all(-104.0f), x); /* in this order, or a NaN would be lost */
    x = f_min(f_all(104.0f), x);
    floats n = f_round(f_mul(x, f_all(1.44269504f)));
    floats r = f_fnma(n, f_all(0.693359375f), x);
    r = f_fnma(n, f_all(-2.12194440e-4f), r);
    floats e = f_all(1.0f / 5040);
    e = f_fma(e, r, f_all(1.0f / 720));
    e = f_fma(e, r, f_all(1.0f / 120));
    e = f_fma(e, r, f_all(1.0f / 24));
    e = f_fma(e, r, f_all(1.0f / 6));
    e = f_fma(e, r, f_all(0.5f));
    e = f_fma(e, r, f_all(1.0f));
    e = f_fma(e, r, f_all(1.0f));
    return f_times_power(e, n);
}

#endif
