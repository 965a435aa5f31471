/* Products of two rows of weights and two tokens at a time, where an instruction of ARM makes such squares
 * of 8 channels: twice the products of `dot_add`. Whole numbers, so no bit differs.
 *
 * A row's 8 channels have to lie side by side: two registers of 4 channels of 4 rows are put together
 * once for all tokens that share a pass.
 */
#ifndef SQUARES_H
#define SQUARES_H

#include "int8_dot.h"

#if defined(LEVEL_NEON) /* gcc would rather begin with all steps at once, and spill what it has loaded */
#define STEP_BY_STEP __asm__ volatile("" ::: "memory")
#else
#define STEP_BY_STEP
#endif

#if defined(LEVEL_I8MM)

#define BY_TWO 1

/* Of 16 rows, two by two: [row][token], and the next row's; then the next four. */
typedef struct { int32x4_t two[8]; } squares;

INLINE int32x4_t alternating(int32_t first, int32_t second) {
    return vreinterpretq_s32_u64(vdupq_n_u64((uint32_t)first | (uint64_t)(uint32_t)second << 32));
}

/* What each token's sums start with. */
INLINE squares squares_of(int32_t first, int32_t second) {
    int32x4_t each = alternating(first, second);
    return (squares){{each, each, each, each, each, each, each, each}};
}

/* `near` and `far` are 4 channels of the rows and the next 4, unsigned; `codes` and `others` two tokens' 8
 * for them. */
INLINE squares squares_add(squares sums, ints near, ints far, const int8_t *codes, const int8_t *others) {
    const int32x4_t x[4] = {near.a, near.b, near.c, near.d}, y[4] = {far.a, far.b, far.c, far.d};
    int8x16_t both = vcombine_s8(vld1_s8(codes), vld1_s8(others));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        uint8x16_t low = vreinterpretq_u8_s32(vzip1q_s32(x[i], y[i]));
        uint8x16_t high = vreinterpretq_u8_s32(vzip2q_s32(x[i], y[i]));
        sums.two[2 * i] = vusmmlaq_s32(sums.two[2 * i], low, both);
        sums.two[2 * i + 1] = vusmmlaq_s32(sums.two[2 * i + 1], high, both);
    }
    return sums;
}

/* What is there, and more times each token's share. */
INLINE squares squares_shared(squares all, squares more, int16_t first, int16_t second) {
    int32x4_t shares = alternating(first, second);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) all.two[i] = vmlaq_s32(all.two[i], more.two[i], shares);
    return all;
}

/* The sums token by token. */
INLINE void squares_end(squares sums, ints *first, ints *second) {
    const int32x4_t *s = sums.two;
    *first = (ints){vuzp1q_s32(s[0], s[1]), vuzp1q_s32(s[2], s[3]), vuzp1q_s32(s[4], s[5]),
                    vuzp1q_s32(s[6], s[7])};
    *second = (ints){vuzp2q_s32(s[0], s[1]), vuzp2q_s32(s[2], s[3]), vuzp2q_s32(s[4], s[5]),
                     vuzp2q_s32(s[6], s[7])};
}

#else

#define BY_TWO 0

#endif

#endif
