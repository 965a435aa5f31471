/* y = x W^T + b in floats: each element is one sum, channel after channel, with one rounding each.
 *
 * So a token's result is the same in any batch: tiles, blocks and threads decide only who adds and
 * when, and a sum that is put aside between two blocks of channels is put aside whole. Weights lie in
 * panels of ROWS rows, [panel][channel][ROWS], padded with zeros: they are read in order, once for
 * each TOKENS tokens.
 */
#include "experts.h"
#include "floats.h"
#include "pool.h"

#include <stddef.h>

enum {
    TILES = 3, /* registers of rows in a panel */
    ROWS = TILES * WIDTH,
    BLOCK = 1024, /* channels: as many of a panel's stay in the second cache for the next tokens */
    TOKENS = REGISTERS == 32 ? 8 : 6, /* that share a pass over a panel, */
    FEW = 2 /* or rather fewer */
};

/* With as many tiles as the registers can sum up; the other tiles of the block come afterwards. */
INLINE int tiles_at_once(int tokens) { return REGISTERS == 32 || tokens <= FEW ? TILES : 1; }

struct float_linear_args {
    const float *x;      /* [num_tokens, in_features] */
    float *y;            /* [num_tokens, out_features] */
    const float *packed; /* panels, 64-byte aligned */
    const float *bias;   /* [out_features], or NULL */
    int num_tokens, in_features, out_features;
};

/* Some channels of a panel, for `tokens` tokens from `first`: y goes on from where it is, or from the
 * start. Inlined, all inner loops have constant bounds, so the sums stay in registers. */
INLINE void pass_tiles(const struct float_linear_args *args, int panel, int first_tile, int channel,
                       int stop, int first, const int tokens, const int tiles) {
    size_t in = args->in_features, out = args->out_features;
    int row = panel * ROWS + first_tile * WIDTH, count = args->out_features - row;
    const float *weights = args->packed + (panel * in + channel) * ROWS + first_tile * WIDTH;
    const float *x = args->x + first * in;
    float *y = args->y + first * out + row;
    floats sums[TOKENS][TILES];
    for (int t = 0; t < tokens; t++)
        for (int tile = 0; tile < tiles; tile++)
            sums[t][tile] = f_load_first(y + t * out + tile * WIDTH,
                                         channel ? count - tile * WIDTH : 0);
    for (int c = channel; c < stop; c++, weights += ROWS) {
        floats w[TILES];
        for (int tile = 0; tile < tiles; tile++) w[tile] = f_load(weights + tile * WIDTH);
        for (int t = 0; t < tokens; t++) {
            floats a = f_all(x[t * in + c]);
            for (int tile = 0; tile < tiles; tile++)
                sums[t][tile] = f_fma(w[tile], a, sums[t][tile]);
        }
    }
    int is_last = stop == args->in_features && args->bias;
    for (int tile = 0; tile < tiles; tile++, count -= WIDTH) {
        if (count <= 0) return;
        floats bias = f_zero();
        if (is_last) bias = f_load_first(args->bias + row + tile * WIDTH, count);
        for (int t = 0; t < tokens; t++) {
            floats v = is_last ? f_add(sums[t][tile], bias) : sums[t][tile];
            f_store_first(y + t * out + tile * WIDTH, count, v);
        }
    }
}

INLINE void pass(const struct float_linear_args *args, int panel, int channel, int stop, int first,
                 const int tokens) {
    const int tiles = tiles_at_once(tokens);
    for (int tile = 0; tile < TILES && panel * ROWS + tile * WIDTH < args->out_features; tile += tiles)
        pass_tiles(args, panel, tile, channel, stop, first, tokens, tiles);
}

static void multiply(const struct float_linear_args *args, int panel, int channel, int stop) {
    int token = 0, left;
    for (; (left = args->num_tokens - token) >= TOKENS; token += TOKENS)
        pass(args, panel, channel, stop, token, TOKENS);
    if (left & 4) pass(args, panel, channel, stop, token, 4);
    token += left & 4;
    if (left & 2) pass(args, panel, channel, stop, token, 2);
    token += left & 2;
    if (left & 1) pass(args, panel, channel, stop, token, 1);
}

void float_linear(const void *data, struct team *team) {
    const struct float_linear_args *args = data;
    int panels = (args->out_features + ROWS - 1) / ROWS;
    for (int panel; (panel = next_item(team)) < panels;)
        for (int channel = 0; channel < args->in_features; channel += BLOCK) {
            int stop = channel + BLOCK < args->in_features ? channel + BLOCK : args->in_features;
            multiply(args, panel, channel, stop);
        }
}

void float_linear_of(const void *layer, const struct expert_rows *rows, struct team *team) {
    struct float_linear_args args = *(const struct float_linear_args *)layer;
    args.x = rows->x, args.y = rows->y, args.num_tokens = rows->num_tokens;
    float_linear(&args, team);
}
