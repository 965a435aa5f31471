/* A panel of stored weights, multiplied by tokens whose channels were rounded: see stored_linear.c. */
#ifndef STORED_PANEL_H
#define STORED_PANEL_H

#include "stored_numbers.h"

enum { AHEAD = 4096 }; /* bytes: how long before its use a lone pass asks for numbers */

/* Of a tile's 16 rows; `super` is what a byte's is multiplied by. */
INLINE floats scales_at(const struct layout l, const uint8_t *scales, int index, int tile,
                        floats super) {
    size_t place = (size_t)index * ROWS + tile * WIDTH;
    if (l.has_super) return f_mul(super, f_load_bytes((const int8_t *)scales + place));
    const uint16_t *own = (const uint16_t *)scales + place;
    return l.table == FOUR_BIT_FLOATS ? f_load_bf16(own) : f_load_half(own, WIDTH);
}

/* What 16 channels add to the terms, or, with a scale of their own, to the sums. */
INLINE void add_half(const struct layout l, const struct place *p, const int half, const int tokens,
                     const floats super[TILES], floats terms[TOKENS][TILES],
                     floats sums[TOKENS][TILES]) {
    ints whole[TOKENS][TILES];
    dot(l, p, half, tokens, whole);
    for (int tile = 0; tile < at_once(tokens); tile++) {
        floats scale = f_zero();
        if (l.scales == 2) scale = scales_at(l, p->scales, half, tile, super[tile]);
        for (int t = 0; t < tokens; t++) {
            floats worth = f_all(p->rounded[t * p->groups].scales[half]), sum = f_of(whole[t][tile]);
            if (l.scales == 2)
                sums[t][tile] = f_fma(f_mul(sum, scale), worth, sums[t][tile]);
            else
                terms[t][tile] = half ? f_fma(sum, worth, terms[t][tile]) : f_mul(sum, worth);
        }
    }
}

INLINE void add_minimum(const struct layout l, const struct place *p, const int index,
                        const int tokens, const floats super[TILES],
                        floats sums[TOKENS][TILES]) {
    for (int tile = 0; tile < at_once(tokens); tile++) {
        floats minimum = scales_at(l, p->scales, l.scales + index, tile, super[tile]);
        for (int t = 0; t < tokens; t++) {
            const struct rounded_group *r = p->rounded + t * p->groups;
            float worth = l.scales == 2 ? (float)(r->sums[index] * r->shares[index]) : r->worth;
            sums[t][tile] = f_fma(minimum, f_all(worth), sums[t][tile]);
        }
    }
}

/* What a group of channels adds to the sums of some tiles. */
INLINE void add_group(const struct layout l, const struct place *p, const int tokens,
                      const floats super[TILES], const floats super_minimum[TILES],
                      floats sums[TOKENS][TILES]) {
    floats terms[TOKENS][TILES];
    if (is_paired(l)) {
        ints whole[TOKENS][TILES];
        dot_paired(l, p, tokens, whole);
        for (int t = 0; t < tokens; t++)
            for (int tile = 0; tile < at_once(tokens); tile++) terms[t][tile] = f_of(whole[t][tile]);
    } else {
        add_half(l, p, 0, tokens, super, terms, sums);
        add_half(l, p, 1, tokens, super, terms, sums);
    }
    for (int tile = 0; tile < at_once(tokens) && l.scales == 1; tile++) {
        floats scale = scales_at(l, p->scales, 0, tile, super[tile]);
        for (int t = 0; t < tokens; t++)
            sums[t][tile] = f_fma(terms[t][tile], scale, sums[t][tile]);
    }
    if (l.has_minimum) add_minimum(l, p, 0, tokens, super_minimum, sums);
    if (l.has_minimum && l.scales == 2) add_minimum(l, p, 1, tokens, super_minimum, sums);
}

/* The sums of some rows, from one of the segment's on, for some tokens into y. All of it is unrolled, or
 * the sums would be in memory all the way. */
INLINE void store(const struct stored_linear_args *args, const struct segment *segment, int below,
                  int first, const int tokens, floats sums[TOKENS][TILES]) {
    size_t groups = args->in_features / GROUP;
#pragma GCC unroll 3
    for (int tile = 0; tile < at_once(tokens); tile++) {
        int left = segment->num_rows - below - tile * WIDTH;
        int row = segment->first_row + below + tile * WIDTH;
        floats bias = args->bias ? f_load_first(args->bias + row, left) : f_zero();
#pragma GCC unroll 8
        for (int t = 0; t < tokens; t++) {
            floats y = f_mul(sums[t][tile], f_all(args->rounded[(first + t) * groups].unit));
            if (args->bias) y = f_add(y, bias);
            f_store_first(args->y + (size_t)(first + t) * args->out_features + row, left, y);
        }
    }
}

/* Some tiles of a panel, for `tokens` tokens from `first`; meanwhile `lines` are asked for with each
 * group. Where this is inlined all inner loops have constant bounds, so sums stay in registers. */
INLINE void pass_tiles(const struct stored_linear_args *args, const struct segment *segment,
                       int panel, int from, int first, const int tokens, const uint8_t *wanted,
                       int lines, const struct layout l) {
    int groups = args->in_features / GROUP;
    const uint8_t *supers = segment->packed + panel * segment->panel_bytes;
    const uint8_t *scales = supers + scales_start(l, groups);
    struct place place = {supers + numbers_start(l, groups) + from * WIDTH * STEP,
                          scales + from * WIDTH * (l.has_super ? 1 : 2),
                          args->rounded + (size_t)first * groups, groups};
    floats sums[TOKENS][TILES], super[TILES], super_minimum[TILES];
    for (int t = 0; t < tokens; t++)
        for (int tile = 0; tile < at_once(tokens); tile++) sums[t][tile] = f_zero();
    for (int group = 0; group < groups;) {
        int stop = l.has_super ? group + SUPER : groups;
        if (l.has_super)
            for (int tile = 0; tile < at_once(tokens); tile++) {
                const uint16_t *halves = (const uint16_t *)supers + (from + tile) * WIDTH;
                super[tile] = f_load_half(halves, WIDTH);
                if (l.has_minimum) super_minimum[tile] = f_load_half(halves + ROWS, WIDTH);
            }
        for (; group < stop; group++) {
            for (int line = 0; line < lines; line++, wanted += LINE)
                __builtin_prefetch(wanted, 0, 2);
            add_group(l, &place, tokens, super, super_minimum, sums);
            place.numbers += group_numbers(l), place.scales += group_scales(l), place.rounded++;
        }
        supers += super_scales(l);
    }
    store(args, segment, panel * ROWS + from * WIDTH, first, tokens, sums);
}

/* One pass over a panel. What is asked for ahead: see int8_linear.c; a lone pass has the next panel's
 * scales when it comes there. */
INLINE void pass(const struct stored_linear_args *args, const struct segment *segment, int panel,
                 int next, int first, const int tokens, const struct layout l) {
    int groups = args->in_features / GROUP, passes = ceil_div(args->num_tokens, TOKENS);
    int lines = ceil_div(ceil_div((int)(segment->panel_bytes / groups), LINE), passes);
    size_t skipped = (size_t)lines * LINE * groups * (first / TOKENS);
    const uint8_t *begin = segment->packed + panel * segment->panel_bytes;
    const uint8_t *wanted = passes == 1
                                ? begin + numbers_start(l, groups) + AHEAD
                                : segment->packed + next * segment->panel_bytes + skipped;
    if (skipped >= (size_t)segment->panel_bytes) lines = 0;
    for (int tile = 0; tile < TILES; tile += at_once(tokens))
        pass_tiles(args, segment, panel, tile, first, tokens, wanted, tile ? 0 : lines, l);
}

INLINE void multiply(const struct stored_linear_args *args, const struct segment *segment, int panel,
                     int next, const enum format format) {
    const struct layout l = layout_of(format);
    int token = 0, left;
    for (; (left = args->num_tokens - token) >= TOKENS; token += TOKENS)
        pass(args, segment, panel, next, token, TOKENS, l);
    if (left & 2) pass(args, segment, panel, next, token, 2, l);
    token += left & 2;
    if (left & 1) pass(args, segment, panel, next, token, 1, l);
}

#define OF_FORMAT(format)                                                                          \
    static __attribute__((noinline)) void multiply_##format(                                       \
        const struct stored_linear_args *args, const struct segment *segment, int panel, int next) { \
        multiply(args, segment, panel, next, format);                                              \
    }
OF_FORMAT(Q4_0)
OF_FORMAT(Q4_1)
OF_FORMAT(Q5_0)
OF_FORMAT(Q5_1)
OF_FORMAT(Q8_0)
OF_FORMAT(Q4_K)
OF_FORMAT(Q5_K)
OF_FORMAT(Q6_K)
OF_FORMAT(Q2_K)
OF_FORMAT(Q3_K)
OF_FORMAT(IQ4_NL)
OF_FORMAT(IQ4_XS)
OF_FORMAT(MXFP4)

static void (*const MULTIPLY[])(const struct stored_linear_args *, const struct segment *, int, int) = {
    multiply_Q4_0, multiply_Q4_1, multiply_Q5_0, multiply_Q5_1, multiply_Q8_0,   multiply_Q4_K,
    multiply_Q5_K, multiply_Q6_K, multiply_Q2_K, multiply_Q3_K, multiply_IQ4_NL, multiply_IQ4_XS,
    multiply_MXFP4};

static int panels_of(const struct segment *segment) { return ceil_div(segment->num_rows, ROWS); }

/* Of all segments: the one that has a layer's panel `*panel`, which is then its own. */
static const struct segment *segment_of(const struct stored_linear_args *args, int *panel) {
    const struct segment *segment = args->segments;
    for (; *panel >= panels_of(segment); segment++) *panel -= panels_of(segment);
    return segment;
}

#endif
