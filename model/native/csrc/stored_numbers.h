/* Stored numbers as a register holds them, and sums of their products with codes of tokens: what is exact
 * of stored_linear.c. */
#ifndef STORED_NUMBERS_H
#define STORED_NUMBERS_H

#include "squares.h"
#include "stored_dot.h"
#include "stored_linear.h"

enum {
    TOKENS = 4, /* that share a pass over a panel, */
    FEW = 2     /* or rather fewer */
};

/* And of its tiles: as many as the registers can sum up; the others come afterwards. */
INLINE int at_once(int tokens) { return REGISTERS == 32 || tokens <= FEW ? TILES : 1; }

/* What numbers stand for, 128 added: IQ4_NL's and IQ4_XS's, and twice MXFP4's. */
static const int8_t VALUES[][16] = {
    [QUARTILES] = {1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15},
    [FOUR_BIT_FLOATS] = {-128, -127, -126, -125, -124, -122, -120, -116,
                         -128, 127, 126, 125, 124, 122, 120, 116},
};

/* A group of a panel from one of its tiles on, and of the first of some tokens. */
struct place {
    const uint8_t *numbers, *scales;
    const struct rounded_group *rounded;
    int groups; /* between one token and the next */
};

/* The numbers of 4 channels of 16 rows. Word `step % bits`, from bit `step / bits * bits` on, has them. */
INLINE ints numbers_at(const struct layout l, const uint8_t *numbers, int step) {
    ints q = i_load_raw(numbers + step % l.low * STEP * ROWS);
    if (l.low < 8) {
        if (step >= l.low) q = i_down(q, step / l.low * l.low);
        q = i_and(q, i_all(0x01010101 * ((1 << l.low) - 1)));
    }
    if (l.table) return i_look_up(VALUES[l.table], q);
    if (!l.high) return q;
    ints above = i_load_raw(numbers + (l.low + step % l.high) * STEP * ROWS);
    int from = step / l.high * l.high, up = l.low - from;
    above = up > 0 ? i_up(above, up) : i_down(above, -up);
    return i_or(q, i_and(above, i_all(0x01010101 * (((1 << l.high) - 1) << l.low))));
}

/* Whether sums of 16 channels fit 16 bits: then both of a group's are added up as whole numbers. */
INLINE int is_paired(const struct layout l) { return l.scales == 1 && l.low == 4 && !l.table; }

#if BY_TWO

enum { PAIRS = TOKENS / 2 };

/* What `dot` and `dot_paired` say of TOKENS tokens, by squares. Steps are two at a time. */
INLINE void add_squares(const struct layout l, const struct place *p, const int half, squares sums[PAIRS]) {
    const int first = half * STEPS / 2;
#pragma GCC unroll 2
    for (int step = first; step < first + STEPS / 2; step += 2) {
        ints near = numbers_at(l, p->numbers, step), far = numbers_at(l, p->numbers, step + 1);
        for (int i = 0; i < PAIRS; i++) {
            const struct rounded_group *one = p->rounded + 2 * i * p->groups, *other = one + p->groups;
            sums[i] = squares_add(sums[i], near, far, one->codes + step * STEP, other->codes + step * STEP);
        }
        STEP_BY_STEP;
    }
}

INLINE void dot_by_two(const struct layout l, const struct place *p, const int half,
                       ints whole[TOKENS][TILES]) {
    squares sums[PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        const struct rounded_group *one = p->rounded + 2 * i * p->groups, *other = one + p->groups;
        sums[i] = squares_of(-l.less * one->sums[half], -l.less * other->sums[half]);
    }
    add_squares(l, p, half, sums);
    for (int i = 0; i < PAIRS; i++) squares_end(sums[i], &whole[2 * i][0], &whole[2 * i + 1][0]);
}

INLINE void dot_paired_by_two(const struct layout l, const struct place *p, ints whole[TOKENS][TILES]) {
    squares all[PAIRS];
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        squares sums[PAIRS];
        for (int i = 0; i < PAIRS; i++) sums[i] = squares_of(0, 0);
        add_squares(l, p, half, sums);
        for (int i = 0; i < PAIRS; i++) {
            const struct rounded_group *one = p->rounded + 2 * i * p->groups, *other = one + p->groups;
            if (!half) all[i] = squares_of(-l.less * one->whole, -l.less * other->whole);
            all[i] = squares_shared(all[i], sums[i], one->shares[half], other->shares[half]);
        }
    }
    for (int i = 0; i < PAIRS; i++) squares_end(all[i], &whole[2 * i][0], &whole[2 * i + 1][0]);
}

#endif

/* Sums of the products of 16 channels. */
INLINE void dot(const struct layout l, const struct place *p, const int half, const int tokens,
                ints whole[TOKENS][TILES]) {
#if BY_TWO
    if (tokens == TOKENS) {
        dot_by_two(l, p, half, whole);
        return;
    }
#endif
    const int steps = STEPS / 2, is_wide = l.low == 8 || l.table;
    const int fits = is_wide ? steps : most_added(l.low + l.high), most = fits < steps ? fits : steps;
    for (int t = 0; t < tokens; t++) {
        int32_t start = -l.less * p->rounded[t * p->groups].sums[half];
        for (int tile = 0; tile < at_once(tokens); tile++)
            whole[t][tile] = is_wide ? dot_from(start) : i_all(start);
    }
#pragma GCC unroll 4
    for (int first = half * steps; first < (half + 1) * steps; first += most) {
        partial part[TOKENS][TILES];
        for (int t = 0; t < tokens; t++)
            for (int tile = 0; tile < at_once(tokens); tile++) part[t][tile] = partial_of(whole[t][tile]);
#pragma GCC unroll 4
        for (int step = first; step < first + most; step++) {
            ints q[TILES];
            for (int tile = 0; tile < at_once(tokens); tile++)
                q[tile] = numbers_at(l, p->numbers + tile * WIDTH * STEP, step);
            for (int t = 0; t < tokens; t++) {
                const int8_t *four = p->rounded[t * p->groups].codes + step * STEP;
                for (int tile = 0; tile < at_once(tokens); tile++) {
                    if (is_wide)
                        whole[t][tile] = dot_add(whole[t][tile], dot_of(q[tile]), four);
                    else
                        part[t][tile] = partial_add(part[t][tile], q[tile], four);
                }
            }
            STEP_BY_STEP;
        }
        for (int t = 0; t < tokens && !is_wide; t++)
            for (int tile = 0; tile < at_once(tokens); tile++)
                whole[t][tile] = partial_end(whole[t][tile], part[t][tile]);
    }
}

/* Sums of the products of a group, in units of the token. Of few tokens both halves are added up apart:
 * instructions have less to wait for. */
INLINE void dot_paired(const struct layout l, const struct place *p, const int tokens,
                       ints whole[TOKENS][TILES]) {
#if BY_TWO
    if (tokens == TOKENS) {
        dot_paired_by_two(l, p, whole);
        return;
    }
#endif
    const int less = IS_LESS && l.high ? 16 : 0, steps = STEPS / 2;
    const int is_apart = REGISTERS == 32 && tokens <= FEW;
    paired sums[TOKENS][TILES];
    for (int t = 0; t < tokens; t++) {
        const int32_t *codes = p->rounded[t * p->groups].sums;
        for (int tile = 0; tile < at_once(tokens); tile++)
            sums[t][tile] = paired_of(less * codes[0], less * codes[1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < STEPS; i++) {
        const int half = is_apart ? i % 2 : i < steps, place = is_apart ? i / 2 : i % steps;
        const int step = half * steps + place;
        ints q[TILES];
        for (int tile = 0; tile < at_once(tokens); tile++)
            q[tile] = numbers_at(l, p->numbers + tile * WIDTH * STEP, step);
        for (int t = 0; t < tokens; t++) {
            const struct rounded_group *r = p->rounded + t * p->groups;
            for (int tile = 0; tile < at_once(tokens); tile++) {
                sums[t][tile] = paired_add(sums[t][tile], half, q[tile], r->codes + step * STEP);
                if (!is_apart && i == steps - 1)
                    sums[t][tile] = paired_turn(sums[t][tile], r->shares, less * r->sums[0]);
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        const struct rounded_group *r = p->rounded + t * p->groups;
        int32_t start = (less - l.less) * r->whole;
        for (int tile = 0; tile < at_once(tokens); tile++)
            whole[t][tile] = paired_end(sums[t][tile], is_apart, r->shares, start);
    }
}

#endif
