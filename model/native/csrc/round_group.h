/* Activations to whole numbers: what the kernels that multiply integers share. */
#ifndef ROUND_GROUP_H
#define ROUND_GROUP_H

#include "floats.h"

#include <stdint.h>
#include <string.h>

enum { GROUP = 32 };    /* channels of a token: those of a block of weights */
#define LARGEST 127.0f  /* of the whole numbers, on either side of zero */
#define SMALLEST 1e-30f /* a maximum counts as this at least: zeros stay zeros */

static inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

/* Compared as integers, in which order a NaN is above all numbers. */
INLINE ints magnitudes(floats x) { return i_and(i_bits(x), i_all(0x7fffffff)); }

INLINE float float_of(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

INLINE float largest_of(ints magnitudes) {
    return float_of(i_largest(i_max(magnitudes, i_bits(f_all(SMALLEST)))));
}

/* 16 channels to whole numbers, in bytes too. What a NaN gives is below all of them. */
INLINE ints round_lanes(floats x, floats units, int8_t *codes) {
    ints whole = i_max(i_of(f_mul(x, units)), i_all(-(int)LARGEST));
    i_store_bytes(codes, whole);
    return whole;
}

/* 32 channels to bytes by the largest of them; -> what one is worth, and the whole numbers. A NaN or an
 * infinity makes that one, and so all that is multiplied by it. */
INLINE float round_group(floats x_low, floats x_high, int8_t *codes, ints *low, ints *high) {
    float largest = largest_of(i_max(magnitudes(x_low), magnitudes(x_high)));
    floats units = f_all(LARGEST / largest);
    *low = round_lanes(x_low, units, codes);
    *high = round_lanes(x_high, units, codes + WIDTH);
    return largest / LARGEST;
}

#endif
