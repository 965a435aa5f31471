/* What a block of ggml's files holds, group of 32 by group: the fields that several types share. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "simd.h"

#include <stdint.h>
#include <string.h>

/* As in `model/declare/stored.py`; the first eight are what dequantize.c knows. */
enum format {
    Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, Q2_K, Q3_K, IQ4_NL, IQ4_XS, MXFP4
};

INLINE uint16_t half_bits(const uint8_t *bytes) {
    uint16_t bits;
    memcpy(&bits, bytes, sizeof bits);
    return bits;
}

INLINE uint32_t word(const uint8_t *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* 16 bytes, their lower halves first; bit i of `fifth` belongs to number i, if there is one. Twice: of
 * words compilers make floats faster, and of bytes packed bits. */
#define SPLIT_16(name, type)                                                                       \
    INLINE void name(const uint8_t *packed, uint32_t fifth, const int has_fifth, type *q) {        \
        for (int i = 0; i < 16; i++)                                                               \
            q[i] = packed[i] & 15;                                                                 \
        for (int i = 0; i < 16; i++)                                                               \
            q[i + 16] = packed[i] >> 4;                                                            \
        for (int i = 0; has_fifth && i < 32; i++)                                                  \
            q[i] |= (type)((fifth >> i & 1) << 4);                                                 \
    }
SPLIT_16(split_16, int32_t)
SPLIT_16(split_16_bytes, uint8_t)

/* Q4_K and Q5_K: the scale and the minimum of a group of 8, six bits each in 12 bytes. */
INLINE void six_bits(const uint8_t *packed, int group, int *scale, int *minimum) {
    if (group < 4) {
        *scale = packed[group] & 63;
        *minimum = packed[group + 4] & 63;
    } else {
        int later = packed[group + 4];
        *scale = (later & 15) | (packed[group - 4] >> 2 & 48);
        *minimum = later >> 4 | (packed[group] >> 2 & 48);
    }
}

/* The same: two groups share 32 bytes; bit g of `fifth` is for group g. */
INLINE void k_numbers(const uint8_t *b, int group, const int has_fifth, uint8_t *q) {
    const uint8_t *fifth = b + 16, *nibbles = (has_fifth ? b + 48 : b + 16) + group / 2 * 32;
    int shift = group % 2 * 4;
    for (int i = 0; i < 32; i++) {
        q[i] = nibbles[i] >> shift & 15;
        if (has_fifth) q[i] |= (uint8_t)((fifth[i] >> group & 1) << 4);
    }
}

/* Two halves of 128; in each, 64 bytes of low bits and 32 of high ones. */
INLINE void q6_k_numbers(const uint8_t *b, int group, uint8_t *q) {
    const uint8_t *low = b + group / 4 * 64 + group % 2 * 32, *high = b + 128 + group / 4 * 32;
    int low_shift = group % 4 / 2 * 4, high_shift = group % 4 * 2;
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4);
}

#endif
