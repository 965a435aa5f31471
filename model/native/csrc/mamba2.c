/* The selective state space of Mamba-2 (Dao, Gu 2024, "Transformers are SSMs"), token by token.
 *
 *     S <- e^(dt A) S + B (dt x)^T;  y = S^T C + D x;  dt = softplus(step + shift)
 *
 * B and C are shared by neighbouring heads, a group. A thread has some heads and takes all tokens of
 * them, span by span: those of a sequence come in order. What a token gets is computed in one order,
 * whoever else is in the step, so its bits are those of the recurrence. State and sums are in fp32;
 * columns of the state are independent.
 *
 * Behind it stand a gate and the norm of each group, in either order, or the gate alone: an operation
 * of its own, as a group's heads may be several threads'.
 */
#include "floats.h"
#include "pool.h"
#include "span.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { CHAINS = 4, COLUMNS = CHAINS * WIDTH };

struct mamba2_args {
    const float *seen;  /* [T, num_heads * head_size and num_groups * state_size twice]: x, B, C */
    const float *steps; /* rows of `stride`: [T, num_heads] */
    const float *shift; /* [num_heads] */
    const float *decay; /* [num_heads], below 0 */
    const float *skip;  /* [num_heads] */
    float *cache;       /* [num_states, num_heads, state_size, head_size] */
    float *output;      /* [T, num_heads * head_size] */
    const struct span *spans;
    int num_spans, num_heads, num_groups, head_size, state_size, stride;
};

/* `count` columns of the state, written to by b and read by c. */
static void columns_of(float *state, int rows, int stride, int count, float kept, const float *b,
                       const float *c, const floats *written, floats *read) {
    for (int k = 0; k < CHAINS; k++) read[k] = f_zero();
    floats factor = f_all(kept);
    for (int i = 0; i < rows; i++, state += stride) {
        floats in = f_all(b[i]), out = f_all(c[i]);
        for (int k = 0; k < CHAINS && k * WIDTH < count; k++) {
            floats s = f_mul(f_load_first(state + k * WIDTH, count - k * WIDTH), factor);
            s = f_fma(in, written[k], s);
            f_store_first(state + k * WIDTH, count - k * WIDTH, s);
            read[k] = f_fma(out, s, read[k]);
        }
    }
}

static void token_of(const struct mamba2_args *args, int head, int t, float *state) {
    const int rows = args->state_size, size = args->head_size, heads = args->num_heads;
    const size_t width = (size_t)heads * size, groups = (size_t)args->num_groups * rows;
    const float *own = args->seen + t * (width + 2 * groups), *x = own + (size_t)head * size;
    const float *b = own + width + (size_t)(head / (heads / args->num_groups)) * rows;
    float step = args->steps[(size_t)t * args->stride + head] + args->shift[head];
    float dt = step > 20.0f ? step : log1pf(expf(step));
    float kept = expf(dt * args->decay[head]);
    floats factor = f_all(dt), skip = f_all(args->skip[head]);
    float *output = args->output + t * width + (size_t)head * size;
    for (int j = 0; j < size; j += COLUMNS) {
        int count = size - j < COLUMNS ? size - j : COLUMNS;
        floats written[CHAINS], read[CHAINS];
        for (int k = 0; k < CHAINS; k++)
            written[k] = k * WIDTH < count
                             ? f_mul(f_load_first(x + j + k * WIDTH, count - k * WIDTH), factor)
                             : f_zero();
        columns_of(state + j, rows, size, count, kept, b, b + groups, written, read);
        for (int k = 0; k < CHAINS && k * WIDTH < count; k++) {
            floats y = f_fma(f_load_first(x + j + k * WIDTH, count - k * WIDTH), skip, read[k]);
            f_store_first(output + j + k * WIDTH, count - k * WIDTH, y);
        }
    }
}

void selective_scan(const void *data, struct team *team) {
    const struct mamba2_args *args = data;
    const size_t area = (size_t)args->state_size * args->head_size;
    for (int head; (head = next_item(team)) < args->num_heads;)
        for (int s = 0; s < args->num_spans; s++) {
            const struct span span = args->spans[s];
            float *state = begin_state(args->cache, span, head, args->num_heads, area);
            for (int t = span.first; t < span.first + span.count; t++) token_of(args, head, t, state);
        }
}

struct gated_norm_args {
    float *x;          /* [T, num_groups * size], in place */
    const float *z;    /* rows of `stride`: as many */
    const float *gain; /* [num_groups * size]; NULL: no norm */
    float eps;
    int num_tokens, num_groups, size, stride, gates_first;
};

static void gated_group(const struct gated_norm_args *args, float *x, const float *z,
                        const float *gain) {
    const int size = args->size, is_gated = !gain || args->gates_first;
    floats sum = f_zero();
    for (int j = 0; j < size; j += WIDTH) {
        floats v = f_load_first(x + j, size - j);
        if (is_gated) v = f_mul(v, silu16(f_load_first(z + j, size - j)));
        f_store_first(x + j, size - j, v);
        sum = f_fma(v, v, sum);
    }
    if (!gain) return;
    floats scale = f_all(1.0f / sqrtf(f_sum(sum) / (float)size + args->eps));
    for (int j = 0; j < size; j += WIDTH) {
        floats v = f_mul(f_load_first(x + j, size - j), scale);
        v = f_mul(f_load_first(gain + j, size - j), v);
        if (!is_gated) v = f_mul(v, silu16(f_load_first(z + j, size - j)));
        f_store_first(x + j, size - j, v);
    }
}

void gated_norm(const void *data, struct team *team) {
    const struct gated_norm_args *args = data;
    const size_t width = (size_t)args->num_groups * args->size;
    for (int item; (item = next_item(team)) < args->num_tokens * args->num_groups;) {
        size_t t = item / args->num_groups, own = (size_t)(item % args->num_groups) * args->size;
        gated_group(args, args->x + t * width + own, args->z + t * args->stride + own,
                    args->gain ? args->gain + own : NULL);
    }
}
