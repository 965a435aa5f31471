/* y = x W^T + b in floats: each element is one sum, channel after channel, with one rounding each.
 *
 * So a token's result is the same in any batch: tiles, blocks and threads decide only who adds and
 * when, and a sum that is put aside between two blocks of channels is put aside whole. Weights lie in
 * panels of ROWS rows, [panel][channel][ROWS], padded with zeros: they are read in order, once for
 * each TOKENS tokens.
 */
#include "floats.h"
#include "pool.h"

#include <stddef.h>

enum {
    TILES = 3,  /* registers of rows in a panel */
    ROWS = TILES * WIDTH,
    TOKENS = 8, /* that share a pass over a panel: with TILES, what the registers can sum up */
    BLOCK = 1024 /* channels: as many of a panel's stay in the second cache for the next tokens */
};

struct float_linear_args {
    const float *x;      /* [num_tokens, in_features] */
    float *y;            /* [num_tokens, out_features] */
    const float *packed; /* panels, 64-byte aligned */
    const float *bias;   /* [out_features], or NULL */
    int num_tokens, in_features, out_features;
};

static inline __mmask16 rows_of(const struct float_linear_args *args, int row) {
    return first_lanes(args->out_features - row);
}

/* Some channels of a panel, for `tokens` tokens from `first`: y goes on from where it is, or from the
 * start. Inlined, all inner loops have constant bounds, so the sums stay in registers. */
static inline __attribute__((always_inline)) void
pass(const struct float_linear_args *args, int panel, int channel, int stop, int first,
     const int tokens) {
    size_t in = args->in_features, out = args->out_features;
    const float *weights = args->packed + (panel * in + channel) * ROWS;
    const float *x = args->x + first * in;
    float *y = args->y + first * out;
    __m512 sums[TOKENS][TILES];
    for (int t = 0; t < tokens; t++)
        for (int tile = 0; tile < TILES; tile++) {
            int row = panel * ROWS + tile * WIDTH;
            __mmask16 mask = channel ? rows_of(args, row) : 0;
            sums[t][tile] = _mm512_maskz_loadu_ps(mask, y + t * out + row);
        }
    for (int c = channel; c < stop; c++, weights += ROWS) {
        __m512 w[TILES];
        for (int tile = 0; tile < TILES; tile++) w[tile] = _mm512_load_ps(weights + tile * WIDTH);
        for (int t = 0; t < tokens; t++) {
            __m512 a = _mm512_set1_ps(x[t * in + c]);
            for (int tile = 0; tile < TILES; tile++)
                sums[t][tile] = _mm512_fmadd_ps(w[tile], a, sums[t][tile]);
        }
    }
    int is_last = stop == args->in_features && args->bias;
    for (int tile = 0; tile < TILES; tile++) {
        int row = panel * ROWS + tile * WIDTH;
        __mmask16 mask = rows_of(args, row);
        if (!mask) return;
        __m512 bias = _mm512_maskz_loadu_ps(is_last ? mask : 0, args->bias + row);
        for (int t = 0; t < tokens; t++) {
            __m512 v = is_last ? _mm512_add_ps(sums[t][tile], bias) : sums[t][tile];
            _mm512_mask_storeu_ps(y + t * out + row, mask, v);
        }
    }
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
