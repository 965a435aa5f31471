/* What the kernels in floats share: 16 numbers at a time, each rounded alike wherever it stands.
 *
 * A function of one lane never looks at another, so a number's bits do not depend on its neighbours.
 */
#ifndef FLOATS_H
#define FLOATS_H

#include <immintrin.h>

enum { WIDTH = 16 }; /* floats in a register */

/* The first `count` lanes, of as many as there are. */
static inline __mmask16 first_lanes(int count) {
    return (__mmask16)(count >= WIDTH ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

/* e^x with an error of at most 2e-7 of the result; 0 below -104, a NaN stays one.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, so e^x = 2^n e^r, and e^r is its Taylor series: the first
 * term left out is below 2^-27. ln 2 is taken in two parts, the first of which n multiplies exactly
 * (Cody, Waite 1980). e^0 is exactly 1. */
static inline __m512 exp16(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x); /* in this order, or a NaN would be lost */
    x = _mm512_min_ps(_mm512_set1_ps(104.0f), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 e = _mm512_set1_ps(1.0f / 5040);
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f / 720));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f / 120));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f / 24));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f / 6));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(0.5f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(e, n);
}

#endif
