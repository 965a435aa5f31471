/* What multi-head latent attention has beside linear layers: a matrix for each head, and a norm of
 * all but a vector's first channels. In both the first channels may be let through as they are.
 *
 * An element of a head's product is one sum, from the first channel to the last, with one rounding
 * each: whoever shares a pass over the weights, a token's bits are its own. Weights lie in panels,
 * [head][panel][channel][PANEL], padded with zeros.
 */
#include "norm_head.h"
#include "pool.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    LINES = REGISTERS == 32 ? 4 : 1, /* registers of outputs that are summed up at once, */
    TOKENS = 6,                      /* of so many tokens: 6 * 4 sums in 32 registers */
    PANEL_LINES = 4,
    PANEL = PANEL_LINES * WIDTH
};

struct head_linear_args {
    const float *x;       /* [T, num_heads, num_passed + in_features] */
    float *y;             /* [T, num_heads, num_passed + out_features] */
    const float *weights; /* panels */
    int64_t x_token, x_head, y_token, y_head; /* numbers from one to the next */
    int num_tokens, num_heads, in_features, out_features, num_passed;
};

struct latent_norm_args {
    const float *x;     /* [T, num_passed + size] */
    const float *gains; /* [size] */
    float *y;           /* the same, of rows that lie `y_token` numbers apart */
    int64_t y_token;
    float eps;
    int num_tokens, size, num_passed;
};

/* LINES registers of outputs for `tokens` tokens; `count` outputs are left. */
INLINE void multiply(const struct head_linear_args *args, const float *x, const float *weights,
                     float *y, int count, const int tokens) {
    floats sums[TOKENS][LINES];
    for (int t = 0; t < tokens; t++)
        for (int line = 0; line < LINES; line++) sums[t][line] = f_zero();
    for (int c = 0; c < args->in_features; c++, weights += PANEL) {
        floats w[LINES];
        for (int line = 0; line < LINES; line++) w[line] = f_load(weights + line * WIDTH);
        for (int t = 0; t < tokens; t++) {
            floats a = f_all(x[t * args->x_token + c]);
            for (int line = 0; line < LINES; line++)
                sums[t][line] = f_fma(w[line], a, sums[t][line]);
        }
    }
    for (int line = 0; line < LINES && count > 0; line++, count -= WIDTH)
        for (int t = 0; t < tokens; t++)
            f_store_first(y + t * args->y_token + line * WIDTH, count, sums[t][line]);
}

static void multiply_panel(const struct head_linear_args *args, int head, int panel) {
    size_t panels = (args->out_features + PANEL - 1) / PANEL;
    const float *weights = args->weights + (head * panels + panel) * args->in_features * PANEL;
    const float *x = args->x + head * args->x_head + args->num_passed;
    float *y = args->y + head * args->y_head + args->num_passed + panel * PANEL;
    for (int token = 0; token < args->num_tokens;) {
        int left = args->num_tokens - token, tokens = left >= TOKENS ? TOKENS : left >= 2 ? 2 : 1;
        for (int line = 0; line < PANEL_LINES; line += LINES) {
            int first = line * WIDTH, count = args->out_features - panel * PANEL - first;
            if (count <= 0) break;
            if (tokens == TOKENS)
                multiply(args, x, weights + first, y + first, count, TOKENS);
            else if (tokens == 2)
                multiply(args, x, weights + first, y + first, count, 2);
            else
                multiply(args, x, weights + first, y + first, count, 1);
        }
        token += tokens, x += tokens * args->x_token, y += tokens * args->y_token;
    }
}

static void pass_head(const struct head_linear_args *args, int head) {
    for (int64_t token = 0; token < args->num_tokens; token++)
        memcpy(args->y + token * args->y_token + head * args->y_head,
               args->x + token * args->x_token + head * args->x_head,
               sizeof(float) * args->num_passed);
}

void head_linear(const void *data, struct team *team) {
    const struct head_linear_args *args = data;
    int panels = (args->out_features + PANEL - 1) / PANEL;
    for (int item; (item = next_item(team)) < args->num_heads * panels;) {
        if (item % panels == 0) pass_head(args, item / panels);
        multiply_panel(args, item / panels, item % panels);
    }
}

void latent_norm(const void *data, struct team *team) {
    const struct latent_norm_args *args = data;
    int num_passed = args->num_passed;
    for (int token; (token = next_item(team)) < args->num_tokens;) {
        const float *x = args->x + (int64_t)token * (num_passed + args->size);
        float *y = args->y + token * args->y_token;
        memcpy(y, x, sizeof(float) * num_passed);
        norm_head(x + num_passed, args->gains, args->eps, y + num_passed, args->size);
    }
}
