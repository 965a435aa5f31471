/* A causal convolution over a ragged step, each channel by itself, whose last inputs are kept.
 *
 *     y[t] = b + sum_k w[k] x[t - K + 1 + k], k = 0 .. K - 1
 *
 * Taps are added in order, token by token, so a token's bits depend on nothing but the K inputs up to
 * its own. A thread has some channels and takes all tokens of them, span by span: those of a sequence
 * come in order. Around it may be two gates (y = after * conv(before * x), LFM2), or SiLU behind it.
 */
#include "floats.h"
#include "pool.h"
#include "span.h"

#include <stddef.h>
#include <stdint.h>

enum { MAX_KERNEL = 8, CHANNELS = 64 }; /* as in state_spec.py; channels of one item of work */

struct causal_conv_args {
    const float *x, *before, *after; /* rows of `stride`; the gates may be NULL */
    const float *weight, *bias;      /* [kernel, channels], [channels] or NULL */
    float *cache;                    /* [num_states, kernel - 1, channels], oldest first */
    float *output;                   /* [T, channels] */
    const struct span *spans;
    int num_spans, channels, kernel, stride, has_silu;
};

static inline __attribute__((always_inline)) void
channels_of(const struct causal_conv_args *args, int c, const int kernel) {
    const int count = args->channels - c, size = args->channels;
    floats taps[MAX_KERNEL], past[MAX_KERNEL];
    for (int k = 0; k < kernel; k++) taps[k] = f_load_first(args->weight + (size_t)k * size + c, count);
    floats bias = args->bias ? f_load_first(args->bias + c, count) : f_zero();
    for (int s = 0; s < args->num_spans; s++) {
        const struct span span = args->spans[s];
        size_t row = (size_t)(kernel - 1) * size;
        for (int k = 0; k < kernel - 1; k++)
            past[k] = span.source < 0
                          ? f_zero()
                          : f_load_first(args->cache + span.source * row + (size_t)k * size + c, count);
        for (int t = span.first; t < span.first + span.count; t++) {
            size_t at = (size_t)t * args->stride + c;
            floats x = f_load_first(args->x + at, count);
            if (args->before) x = f_mul(f_load_first(args->before + at, count), x);
            past[kernel - 1] = x;
            floats y = bias;
            for (int k = 0; k < kernel; k++) y = f_fma(past[k], taps[k], y);
            for (int k = 0; k < kernel - 1; k++) past[k] = past[k + 1];
            if (args->has_silu) y = silu16(y);
            if (args->after) y = f_mul(f_load_first(args->after + at, count), y);
            f_store_first(args->output + (size_t)t * size + c, count, y);
        }
        for (int k = 0; k < kernel - 1; k++)
            f_store_first(args->cache + span.target * row + (size_t)k * size + c, count, past[k]);
    }
}

void causal_conv(const void *data, struct team *team) {
    const struct causal_conv_args *args = data;
    for (int first; (first = next_item(team) * CHANNELS) < args->channels;)
        for (int c = first; c < first + CHANNELS && c < args->channels; c += WIDTH) {
            if (args->kernel == 3) channels_of(args, c, 3); /* a constant keeps `past` in registers */
            else if (args->kernel == 4) channels_of(args, c, 4);
            else channels_of(args, c, args->kernel);
        }
}
