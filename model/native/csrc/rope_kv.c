/* What lies between the qkv projection and attention, token by token: norm each head (where a
 * model does), turn queries and keys by the token's position, put keys and values into their slots.
 *
 * A turn is two products and their difference, each rounded, as in model/parts/rope.py: the bits of a
 * token are its own. Keys and values are rounded once more where the cache is in fp16.
 */
#include "floats.h"
#include "pool.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

struct rope_kv_args {
    const float *qkv;       /* [T, num_heads + 2 * num_kv_heads, head_dim] */
    const float *cos, *sin; /* [T, half] */
    const int64_t *slots;   /* [T] */
    const float *query_gains, *key_gains; /* [head_dim], or NULL: no norm */
    float *query;           /* [T, num_heads, head_dim] */
    void *keys, *values;    /* [slots, num_kv_heads, head_dim], fp16 or fp32 */
    float query_eps, key_eps;
    int num_tokens, num_heads, num_kv_heads, head_dim, half, is_half;
};

/* The root of the mean square, inverted. */
static __m512 inverse_length(const float *x, int size, float eps) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < size; i += WIDTH) {
        __m512 v = _mm512_maskz_loadu_ps(first_lanes(size - i), x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    return _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(sum) / (float)size + eps));
}

static void norm_head(const float *x, const float *gains, float eps, float *normed, int size) {
    __m512 scale = inverse_length(x, size, eps);
    for (int i = 0; i < size; i += WIDTH) {
        __mmask16 mask = first_lanes(size - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), scale);
        v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, gains + i));
        _mm512_mask_storeu_ps(normed + i, mask, v);
    }
}

/* 16 floats, of which those of the mask, to `at` + index in fp16 or fp32. */
static inline void put(void *at, int index, int is_half, __mmask16 mask, __m512 v) {
    if (is_half)
        _mm256_mask_storeu_epi16((uint16_t *)at + index, mask, _mm512_cvtps_ph(v, 0));
    else
        _mm512_mask_storeu_ps((float *)at + index, mask, v);
}

/* Channels (i, half + i) are the hands of a clock; those behind the pairs stay as they are. */
static void turn(const struct rope_kv_args *args, int token, const float *x, void *at, int is_half) {
    int half = args->half;
    const float *cos = args->cos + (size_t)token * half, *sin = args->sin + (size_t)token * half;
    for (int i = 0; i < half; i += WIDTH) {
        __mmask16 mask = first_lanes(half - i);
        __m512 c = _mm512_maskz_loadu_ps(mask, cos + i), s = _mm512_maskz_loadu_ps(mask, sin + i);
        __m512 a = _mm512_maskz_loadu_ps(mask, x + i);
        __m512 b = _mm512_maskz_loadu_ps(mask, x + half + i);
        put(at, i, is_half, mask, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
        put(at, half + i, is_half, mask, _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)));
    }
    for (int i = 2 * half; i < args->head_dim; i += WIDTH) {
        __mmask16 mask = first_lanes(args->head_dim - i);
        put(at, i, is_half, mask, _mm512_maskz_loadu_ps(mask, x + i));
    }
}

static void copy(const struct rope_kv_args *args, const float *x, void *at) {
    for (int i = 0; i < args->head_dim; i += WIDTH) {
        __mmask16 mask = first_lanes(args->head_dim - i);
        put(at, i, args->is_half, mask, _mm512_maskz_loadu_ps(mask, x + i));
    }
}

static void place_token(const struct rope_kv_args *args, int token) {
    int size = args->head_dim, num_turned = args->num_heads + args->num_kv_heads;
    const float *x = args->qkv + (size_t)token * (num_turned + args->num_kv_heads) * size;
    size_t slot = (size_t)args->slots[token] * args->num_kv_heads * size;
    size_t bytes = args->is_half ? 2 : 4;
    char *keys = (char *)args->keys + slot * bytes, *values = (char *)args->values + slot * bytes;
    float *query = args->query + (size_t)token * args->num_heads * size;
    float normed[size];
    for (int head = 0; head < num_turned; head++, x += size) {
        int is_query = head < args->num_heads;
        const float *gains = is_query ? args->query_gains : args->key_gains;
        if (gains) norm_head(x, gains, is_query ? args->query_eps : args->key_eps, normed, size);
        if (is_query)
            turn(args, token, gains ? normed : x, query + (size_t)head * size, 0);
        else
            turn(args, token, gains ? normed : x,
                 keys + (size_t)(head - args->num_heads) * size * bytes, args->is_half);
    }
    for (int head = 0; head < args->num_kv_heads; head++, x += size)
        copy(args, x, values + (size_t)head * size * bytes);
}

void rope_kv(const void *data, struct team *team) {
    const struct rope_kv_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;)
        place_token(args, token);
}
