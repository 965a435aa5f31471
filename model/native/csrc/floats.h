/* What the kernels in floats share: the exponential, and what is made of it.
 *
 * A function of one lane never looks at another, so a number's bits do not depend on its neighbours.
 */
#ifndef FLOATS_H
#define FLOATS_H

#include "simd.h"

/* e^x with an error of at most 2e-7 of the result; 0 below -104, a NaN stays one.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, so e^x = 2^n e^r, and e^r is its Taylor series: the first
 * term left out is below 2^-27. ln 2 is taken in two parts, the first of which n multiplies exactly
 * (Cody, Waite 1980). e^0 is exactly 1. */
INLINE floats exp16_within(floats x) { /* -104 to 104, or a NaN */
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

/* For x up to 0: the same bits for one operation less. */
INLINE floats exp16_falling(floats x) {
    return exp16_within(f_max(f_all(-104.0f), x)); /* in this order, or a NaN would be lost */
}

INLINE floats exp16(floats x) {
    return exp16_within(f_min(f_all(104.0f), f_max(f_all(-104.0f), x)));
}

INLINE floats negative(floats x) { return f_sub(f_zero(), x); }

/* x sigmoid(x) */
INLINE floats silu16(floats x) { return f_div(x, f_add(exp16(negative(x)), f_all(1.0f))); }

#endif
