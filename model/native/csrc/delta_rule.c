/* The gated delta rule (Yang, Kautz, Hatamizadeh 2024), token by token: a state that forgets, is asked
 * by a key what it says, and is corrected by how far that is from the value.
 *
 *     S <- e^g S;  S <- S + k (beta (v - S^T k))^T;  o = S^T q
 *     g = decay softplus(a + shift), beta = sigmoid(b); q and k of length 1, q / sqrt(its size)
 *
 * and then each head's norm, times its gate: o / sqrt(mean(o^2) + eps) * gain * silu(z).
 *
 * A thread has some heads and takes all tokens of them, span by span: those of a sequence come in
 * order. What a token gets is computed in one order, whoever else is in the step, so its bits are
 * those of the recurrence. State and sums are in fp32; columns of the state are independent.
 */
#include "floats.h"
#include "pool.h"
#include "span.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { CHAINS = 4, COLUMNS = CHAINS * WIDTH, MAX_SIZE = 512 }; /* as in state_spec.py */

struct delta_rule_args {
    const float *qkv;          /* [T, num_key_heads * key_size twice, num_value_heads * value_size] */
    const float *z;            /* rows of `z_stride`: [T, num_value_heads * value_size] */
    const float *gates;        /* [T, 2 * num_value_heads]: b of all heads, then a */
    const float *decay;        /* [num_value_heads], below 0 */
    const float *shift;        /* [num_value_heads] */
    const float *gain;         /* [value_size] */
    float *cache;              /* [num_states, num_value_heads, key_size, value_size] */
    float *output;             /* [T, num_value_heads * value_size] */
    const struct span *spans;
    float eps;
    int num_spans, num_key_heads, num_value_heads, key_size, value_size, z_stride, is_tiled;
};

static float length_of(const float *x, int size, float eps) {
    floats sum = f_zero();
    for (int i = 0; i < size; i += WIDTH) {
        floats v = f_load_first(x + i, size - i);
        sum = f_fma(v, v, sum);
    }
    return sqrtf(f_sum(sum) + eps);
}

static void scaled(const float *x, int size, float scale, float *y) {
    for (int i = 0; i < size; i++) y[i] = x[i] * scale;
}

/* S^T k of the decayed state, which is written back; of `count` columns. */
static void asked(float *state, int rows, int stride, int count, float decay, const float *key,
                  floats *says) {
    for (int c = 0; c < CHAINS; c++) says[c] = f_zero();
    floats factor = f_all(decay);
    for (int i = 0; i < rows; i++, state += stride) {
        floats k = f_all(key[i]);
        for (int c = 0; c < CHAINS && c * WIDTH < count; c++) {
            floats s = f_mul(f_load_first(state + c * WIDTH, count - c * WIDTH), factor);
            f_store_first(state + c * WIDTH, count - c * WIDTH, s);
            says[c] = f_fma(k, s, says[c]);
        }
    }
}

/* The state corrected, and S^T q of it. */
static void corrected(float *state, int rows, int stride, int count, const float *key,
                      const float *query, const floats *delta, floats *says) {
    for (int c = 0; c < CHAINS; c++) says[c] = f_zero();
    for (int i = 0; i < rows; i++, state += stride) {
        floats k = f_all(key[i]), q = f_all(query[i]);
        for (int c = 0; c < CHAINS && c * WIDTH < count; c++) {
            floats s = f_load_first(state + c * WIDTH, count - c * WIDTH);
            s = f_fma(k, delta[c], s);
            f_store_first(state + c * WIDTH, count - c * WIDTH, s);
            says[c] = f_fma(q, s, says[c]);
        }
    }
}

static void token_of(const struct delta_rule_args *args, int head, int t, float *state) {
    const int rows = args->key_size, size = args->value_size, heads = args->num_value_heads;
    const int key_heads = args->num_key_heads;
    const int key_head = args->is_tiled ? head % key_heads : head / (heads / key_heads);
    const size_t keys = (size_t)key_heads * rows, width = 2 * keys + (size_t)heads * size;
    const float *own = args->qkv + t * width;
    const float *value = own + 2 * keys + (size_t)head * size;
    float query[MAX_SIZE], key[MAX_SIZE];
    const float *q = own + (size_t)key_head * rows, *k = q + keys;
    scaled(q, rows, 1.0f / (length_of(q, rows, 1e-6f) * sqrtf((float)rows)), query);
    scaled(k, rows, 1.0f / length_of(k, rows, 1e-6f), key);
    const float *gates = args->gates + (size_t)t * 2 * heads;
    float a = gates[heads + head] + args->shift[head];
    float softplus = a > 20.0f ? a : log1pf(expf(a));
    float decay = expf(args->decay[head] * softplus);
    floats beta = f_all(1.0f / (1.0f + expf(-gates[head])));
    float *output = args->output + ((size_t)t * heads + head) * size;
    for (int j = 0; j < size; j += COLUMNS) {
        int count = size - j < COLUMNS ? size - j : COLUMNS;
        floats says[CHAINS], delta[CHAINS];
        asked(state + j, rows, size, count, decay, key, says);
        for (int c = 0; c < CHAINS; c++) {
            floats v = f_load_first(value + j + c * WIDTH, count - c * WIDTH);
            delta[c] = f_mul(f_sub(v, says[c]), beta);
        }
        corrected(state + j, rows, size, count, key, query, delta, says);
        for (int c = 0; c < CHAINS && c * WIDTH < count; c++)
            f_store_first(output + j + c * WIDTH, count - c * WIDTH, says[c]);
    }
    const float *z = args->z + (size_t)t * args->z_stride + (size_t)head * size;
    floats sum = f_zero();
    for (int j = 0; j < size; j += WIDTH) {
        floats o = f_load_first(output + j, size - j);
        sum = f_fma(o, o, sum);
    }
    floats scale = f_all(1.0f / sqrtf(f_sum(sum) / (float)size + args->eps));
    for (int j = 0; j < size; j += WIDTH) {
        floats y = f_mul(f_load_first(output + j, size - j), scale);
        y = f_mul(f_load_first(args->gain + j, size - j), y);
        y = f_mul(y, silu16(f_load_first(z + j, size - j)));
        f_store_first(output + j, size - j, y);
    }
}

void delta_rule(const void *data, struct team *team) {
    const struct delta_rule_args *args = data;
    const size_t area = (size_t)args->key_size * args->value_size;
    for (int head; (head = next_item(team)) < args->num_value_heads;)
        for (int s = 0; s < args->num_spans; s++) {
            const struct span span = args->spans[s];
            float *state = begin_state(args->cache, span, head, args->num_value_heads, area);
            for (int t = span.first; t < span.first + span.count; t++) token_of(args, head, t, state);
        }
}

/* x sigmoid(gate), element by element. */
struct sigmoid_mul_args {
    const float *x, *gate;
    float *output;
    int64_t size;
};

void sigmoid_mul(const void *data, struct team *team) {
    enum { AT_ONCE = 1 << 12 };
    const struct sigmoid_mul_args *args = data;
    for (int64_t first; (first = (int64_t)next_item(team) * AT_ONCE) < args->size;)
        for (int64_t i = first; i < first + AT_ONCE && i < args->size; i += WIDTH) {
            int count = args->size - i < WIDTH ? (int)(args->size - i) : WIDTH;
            floats gate = f_add(exp16(negative(f_load_first(args->gate + i, count))), f_all(1.0f));
            f_store_first(args->output + i, count, f_div(f_load_first(args->x + i, count), gate));
        }
}
