/* Activations to whole numbers: what the kernels that multiply integers share. */
#ifndef ROUND_GROUP_H
#define ROUND_GROUP_H

#include "floats.h"

#include <stdint.h>
#include <string.h>

enum { GROUP = 32 };    /* channels of a token that share a scale */
#define LARGEST 127.0f  /* of the whole numbers, on either side of zero */
#define SMALLEST 1e-30f /* a maximum counts as this at least: zeros stay zeros */

static inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

/* 32 channels to 32 bytes, and what one of them is worth; -> the whole numbers in `low` and `high`.
 * A NaN or an infinity makes the scale one, and so all that is multiplied by it. Compared as integers,
 * in which order a NaN is above all numbers. */
INLINE float round_group(floats x_low, floats x_high, int8_t *codes, ints *low, ints *high) {
    const ints magnitude = i_all(0x7fffffff), least = i_all(-(int)LARGEST);
    ints a = i_and(i_bits(x_low), magnitude), b = i_and(i_bits(x_high), magnitude);
    int32_t bits = i_largest(i_max(i_max(a, b), i_bits(f_all(SMALLEST))));
    float largest;
    memcpy(&largest, &bits, sizeof bits);
    floats units = f_all(LARGEST / largest);
    *low = i_max(i_of(f_mul(x_low, units)), least); /* what a NaN gives is below */
    *high = i_max(i_of(f_mul(x_high, units)), least);
    i_store_bytes(codes, *low);
    i_store_bytes(codes + WIDTH, *high);
    return largest / LARGEST;
}

#endif
