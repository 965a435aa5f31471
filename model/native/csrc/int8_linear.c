/* y = x W^T + b, with the weights in 8 bits and the activations rounded to 8 bits on the way in.
 *
 * A row of weights has one scale. A token's vector is cut into groups of 32 channels with a scale
 * each, so that a large activation takes its accuracy from 31 others and not from all. Within a
 * group sums are whole numbers and exact; over the groups they are floats, always added from the
 * first group to the last, with one rounding each. So a token's result is the same in any batch.
 *
 * How whole numbers are multiplied is a level's own (int8_dot.h); a lane is one row of weights, and 4
 * activations go to all lanes at once.
 */
#include "experts.h"
#include "int8_linear.h"
#include "squares.h"

#include <stddef.h>

enum {
    TOKENS = 4,     /* that share a pass over a panel, */
    AT_ONCE = REGISTERS == 32 ? TILES : 1, /* and of its tiles: what the registers can sum up */
    LINE = 64,      /* bytes that come from memory at once */
    LINES = GROUP / STEP * TILES, /* of weights, for a group of channels */
    AHEAD = 4096    /* bytes: how long before its use a lone pass asks for a weight, into the
                       second cache: the first has too few open requests for all of them */
};

static void round_token(const struct int8_linear_args *args, int token) {
    int groups = ceil_div(args->in_features, GROUP);
    const float *x = args->x + (size_t)token * args->in_features;
    for (int group = 0; group < groups; group++) {
        int left = args->in_features - group * GROUP;
        size_t place = (size_t)token * groups + group;
        ints low, high;
        args->code_scales[place] =
            round_group(f_load_first(x + group * GROUP, left), /* zeros behind the last channel */
                        f_load_first(x + group * GROUP + LANES, left - LANES),
                        args->codes + place * GROUP, &low, &high);
        args->starts[place] = -ZERO * i_sum(i_add(low, high));
    }
}

/* The sums of a panel's rows for some tokens, times the scales, into y. All of it is unrolled, or the sums
 * would be in memory all the way. */
INLINE void
store(const struct int8_linear_args *args, int panel, int first, const int tokens,
      floats sums[TOKENS][TILES]) {
#pragma GCC unroll 3
    for (int tile = 0; tile < TILES; tile++) {
        int row = panel * ROWS + tile * LANES, left = args->out_features - row;
        floats scale = f_load_first(args->scales + row, left);
        floats bias = args->bias ? f_load_first(args->bias + row, left) : f_zero();
#pragma GCC unroll 4
        for (int t = 0; t < tokens; t++) {
            floats y = f_mul(sums[t][tile], scale);
            if (args->bias) y = f_add(y, bias);
            f_store_first(args->y + (size_t)(first + t) * args->out_features + row, left, y);
        }
    }
}

#if BY_TWO
enum { PAIRS = TOKENS / 2 };

/* Sums of a group of channels' products, of a tile and TOKENS tokens. */
INLINE void dot_by_two(const uint8_t *weights, const int8_t *codes, const int32_t *starts, int groups,
                       ints whole[TOKENS][AT_ONCE]) {
    size_t next = (size_t)groups * GROUP;
    squares sums[PAIRS];
    for (int i = 0; i < PAIRS; i++)
        sums[i] = squares_of(starts[2 * i * groups], starts[(2 * i + 1) * groups]);
#pragma GCC unroll 4
    for (int step = 0; step < GROUP / STEP; step += 2, weights += 2 * ROWS * STEP) {
        ints near = i_load_raw(weights), far = i_load_raw(weights + ROWS * STEP);
        for (int i = 0; i < PAIRS; i++) {
            const int8_t *own = codes + 2 * i * next + step * STEP;
            sums[i] = squares_add(sums[i], near, far, own, own + next);
        }
        STEP_BY_STEP;
    }
    for (int i = 0; i < PAIRS; i++) squares_end(sums[i], &whole[2 * i][0], &whole[2 * i + 1][0]);
}
#endif

/* Sums of a group of channels' products. */
INLINE void dot(const uint8_t *weights, const int8_t *codes, const int32_t *starts, int groups,
                const int tokens, ints whole[TOKENS][AT_ONCE]) {
#if BY_TWO
    if (tokens == TOKENS) {
        dot_by_two(weights, codes, starts, groups, whole);
        return;
    }
#endif
    for (int t = 0; t < tokens; t++)
        for (int tile = 0; tile < AT_ONCE; tile++) whole[t][tile] = dot_from(starts[t * groups]);
#pragma GCC unroll 8
    for (int step = 0; step < GROUP / STEP; step++, weights += ROWS * STEP) {
        factors w[AT_ONCE];
        for (int tile = 0; tile < AT_ONCE; tile++) w[tile] = dot_load(weights + tile * LANES * STEP);
        for (int t = 0; t < tokens; t++) {
            const int8_t *four = codes + (size_t)t * groups * GROUP + step * STEP;
            for (int tile = 0; tile < AT_ONCE; tile++)
                whole[t][tile] = dot_add(whole[t][tile], w[tile], four);
        }
        STEP_BY_STEP;
    }
}

/* What a group of channels adds to the sums of some tiles. Tokens are `groups` groups apart. */
INLINE void add_group(const uint8_t *weights, const int8_t *codes, const float *code_scales,
                      const int32_t *starts, int groups, int first, const int tokens,
                      floats sums[TOKENS][TILES]) {
    ints whole[TOKENS][AT_ONCE];
    dot(weights, codes, starts, groups, tokens, whole);
    for (int t = 0; t < tokens; t++) {
        floats scale = f_all(code_scales[t * groups]);
        for (int tile = 0; tile < AT_ONCE; tile++)
            sums[t][first + tile] = f_fma(f_of(whole[t][tile]), scale, sums[t][first + tile]);
    }
}

/* One pass over a panel, for `tokens` tokens from `first`. Where this is inlined all inner loops
 * have constant bounds, so both kinds of sums stay in registers.
 *
 * The processor does not guess a panel's beginning from the end of the one before: the passes over
 * one panel ask for this thread's `next`, a share each, so that memory is as busy as the multipliers.
 * (It may be another's in the end, or behind the last: asking does no harm.) */
INLINE void
pass(const struct int8_linear_args *args, int panel, int next, int first, const int tokens) {
    int groups = ceil_div(args->in_features, GROUP);
    size_t panel_bytes = (size_t)groups * GROUP * ROWS, place = (size_t)first * groups;
    const uint8_t *weights = args->packed + panel * panel_bytes;
    const int8_t *codes = args->codes + place * GROUP;
    const float *code_scales = args->code_scales + place;
    const int32_t *starts = args->starts + place;

    int passes = ceil_div(args->num_tokens, TOKENS), lines = ceil_div(LINES, passes);
    size_t share = (size_t)lines * LINE * groups, skipped = share * (first / TOKENS);
    const uint8_t *wanted =
        passes == 1 ? weights + AHEAD : args->packed + next * panel_bytes + skipped;
    if (skipped >= panel_bytes) lines = 0;

    floats sums[TOKENS][TILES];
    for (int t = 0; t < tokens; t++)
        for (int tile = 0; tile < TILES; tile++) sums[t][tile] = f_zero();
    for (int group = 0; group < groups; group++, weights += ROWS * GROUP) {
        for (int line = 0; line < lines; line++, wanted += LINE)
            __builtin_prefetch(wanted, 0, 2);
        for (int tile = 0; tile < TILES; tile += AT_ONCE)
            add_group(weights + tile * LANES * STEP, codes + group * GROUP, code_scales + group,
                      starts + group, groups, tile, tokens, sums);
    }
    store(args, panel, first, tokens, sums);
}

static void multiply(const struct int8_linear_args *args, int panel, int next) {
    int token = 0, left;
    for (; (left = args->num_tokens - token) >= TOKENS; token += TOKENS)
        pass(args, panel, next, token, TOKENS);
    if (left == 3) pass(args, panel, next, token, 3);
    if (left == 2) pass(args, panel, next, token, 2);
    if (left == 1) pass(args, panel, next, token, 1);
}

void int8_linear(const void *data, struct team *team) {
    const struct int8_linear_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;)
        round_token(args, token);
    barrier(team);
    /* A few items for each thread: neighbouring panels for one thread, little to wait for. */
    int panels = ceil_div(args->out_features, ROWS);
    int item_panels = ceil_div(panels, 8 * team->num_threads);
    for (int first; (first = next_item(team) * item_panels) < panels;)
        for (int panel = first; panel < first + item_panels && panel < panels; panel++) {
            int is_last = panel == first + item_panels - 1; /* the others take the items between */
            multiply(args, panel, is_last ? first + team->num_threads * item_panels : panel + 1);
        }
}

void int8_linear_of(const void *layer, const struct expert_rows *rows, struct team *team) {
    struct int8_linear_args args = *(const struct int8_linear_args *)layer;
    size_t places = (size_t)rows->num_tokens * ceil_div(args.in_features, GROUP);
    args.x = rows->x, args.y = rows->y, args.num_tokens = rows->num_tokens;
    args.codes = rows->scratch;
    args.code_scales = (float *)(args.codes + places * GROUP);
    args.starts = (int32_t *)(args.code_scales + places);
    int8_linear(&args, team);
}
