/* What lies between the qkv projection and attention, token by token: norm each head (where a
 * model does) and turn queries and keys by the token's position, or the other way round; multiply
 * queries by a number of their position; norm values, where a model does; put keys and values into
 * their slots.
 *
 * A turn is two products and their difference, each rounded, as in model/parts/rope.py: the bits of a
 * token are its own. Keys and values are rounded once more where the cache is in fp16, or in bytes
 * with a scale for each vector: the twin of that is `model/state/kv_int8.py`.
 */
#include "norm_head.h"
#include "pool.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LARGEST 127.0f  /* of the bytes, on either side of zero */
#define SMALLEST 1e-30f /* a maximum counts as this at least: zeros stay zeros */

struct rope_kv_args {
    const float *qkv;       /* [T, heads of queries, keys and, if they are not the keys, values,
                               head_dim] */
    const float *cos, *sin; /* [T, half] */
    const int64_t *slots;   /* [T] */
    const float *query_gains, *key_gains; /* [head_dim], or NULL: no norm */
    const float *query_scale;    /* [T]: queries are multiplied by it, or NULL */
    float *query;           /* [T, num_heads, head_dim] */
    void *keys, *values;    /* [slots, num_kv_heads, head_dim], fp32, fp16 or bytes; no values: NULL */
    float *key_scales, *value_scales; /* [slots, num_kv_heads] beside bytes, or NULL */
    float query_eps, key_eps;
    int num_tokens, num_heads, num_kv_heads, head_dim, half, number_bytes, norm_is_last;
    int values_are_keys; /* as they are projected */
    int norms_values;    /* without gains */
    float value_eps;
};

/* The first of 16 floats to `at` + index in fp16 or fp32. */
static inline void put(void *at, int index, int is_half, int count, floats v) {
    if (is_half)
        f_store_half((uint16_t *)at + index, count, v);
    else
        f_store_first((float *)at + index, count, v);
}

/* Channels (i, half + i) are the hands of a clock; those behind the pairs stay as they are. */
static void turn(const struct rope_kv_args *args, int token, const float *x, void *at, int is_half) {
    int half = args->half;
    const float *cos = args->cos + (size_t)token * half, *sin = args->sin + (size_t)token * half;
    for (int i = 0; i < half; i += WIDTH) {
        int count = half - i;
        floats c = f_load_first(cos + i, count), s = f_load_first(sin + i, count);
        floats a = f_load_first(x + i, count);
        floats b = f_load_first(x + half + i, count);
        put(at, i, is_half, count, f_sub(f_mul(a, c), f_mul(b, s)));
        put(at, half + i, is_half, count, f_add(f_mul(b, c), f_mul(a, s)));
    }
    for (int i = 2 * half; i < args->head_dim; i += WIDTH) {
        int count = args->head_dim - i;
        put(at, i, is_half, count, f_load_first(x + i, count));
    }
}

static void copy(const float *x, int size, void *at, int is_half) {
    for (int i = 0; i < size; i += WIDTH) {
        int count = size - i;
        put(at, i, is_half, count, f_load_first(x + i, count));
    }
}

static void multiply(float *x, float scale, int size) {
    for (int i = 0; i < size; i++) x[i] *= scale;
}

/* Norm and turn one head of queries or keys, in the model's order. */
static void place_head(const struct rope_kv_args *args, int token, const float *x,
                       const float *gains, float eps, void *at, int is_half) {
    int size = args->head_dim;
    float turned[size], normed[size];
    if (!gains) {
        turn(args, token, x, at, is_half);
    } else if (args->norm_is_last) {
        turn(args, token, x, turned, 0);
        norm_head(turned, gains, eps, normed, size);
        copy(normed, size, at, is_half);
    } else {
        norm_head(x, gains, eps, normed, size);
        turn(args, token, normed, at, is_half);
    }
}

/* A vector to bytes; -> what one of them is worth. A NaN or an infinity makes that one, and so the
 * whole vector. Compared as integers, in which order a NaN is above all numbers. */
static float round_vector(const float *x, int size, int8_t *bytes) {
    ints most = i_bits(f_all(SMALLEST)), least = i_all(-(int)LARGEST);
    for (int i = 0; i < size; i += WIDTH)
        most = i_max(most, i_and(i_bits(f_load_first(x + i, size - i)), i_all(0x7fffffff)));
    int32_t bits = i_largest(most);
    float largest;
    memcpy(&largest, &bits, sizeof bits);
    floats units = f_all(LARGEST / largest);
    for (int i = 0; i < size; i += WIDTH) {
        int count = size - i;
        int8_t copy[WIDTH];
        ints whole = i_of(f_mul(f_load_first(x + i, count), units));
        i_store_bytes(copy, i_max(whole, least)); /* what a NaN gives is below */
        memcpy(bytes + i, copy, (size_t)(count < WIDTH ? count : WIDTH));
    }
    return largest / LARGEST;
}

static void place_token(const struct rope_kv_args *args, int token) {
    int size = args->head_dim, num_heads = args->num_heads, num_kv_heads = args->num_kv_heads;
    int num_all = num_heads + (args->values_are_keys ? 1 : 2) * num_kv_heads;
    const float *x = args->qkv + (size_t)token * num_all * size;
    size_t head_bytes = (size_t)size * args->number_bytes;
    size_t vector = (size_t)args->slots[token] * num_kv_heads, slot = vector * head_bytes;
    char *keys = (char *)args->keys + slot, *values = args->values ? (char *)args->values + slot : NULL;
    int is_half = args->number_bytes == 2;
    float *query = args->query + (size_t)token * num_heads * size;
    for (int head = 0; head < num_heads; head++, x += size) {
        float *at = query + (size_t)head * size;
        place_head(args, token, x, args->query_gains, args->query_eps, at, 0);
        if (args->query_scale) multiply(at, args->query_scale[token], size);
    }
    for (int head = 0; head < num_kv_heads; head++, x += size) {
        float wide[size];
        void *at = args->key_scales ? wide : (void *)(keys + head * head_bytes);
        place_head(args, token, x, args->key_gains, args->key_eps, at, is_half);
        if (args->key_scales)
            args->key_scales[vector + head] =
                round_vector(wide, size, (int8_t *)keys + head * head_bytes);
    }
    if (!args->values) return; /* they are a part of the keys */
    if (args->values_are_keys) x -= (size_t)num_kv_heads * size;
    for (int head = 0; head < num_kv_heads; head++, x += size) {
        float normed[size];
        const float *value = args->norms_values ? normed : x;
        if (args->norms_values) norm_head(x, NULL, args->value_eps, normed, size);
        if (args->value_scales)
            args->value_scales[vector + head] =
                round_vector(value, size, (int8_t *)values + head * head_bytes);
        else
            copy(value, size, values + head * head_bytes, is_half);
    }
}

void rope_kv(const void *data, struct team *team) {
    const struct rope_kv_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;)
        place_token(args, token);
}
