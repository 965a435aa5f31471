/* Weights as ggml's files keep them, to fp32: the types that most files are made of.
 *
 * Done once for each tensor, when a model is loaded. What a block holds, in which order, and the
 * order of the operations are those of the readers in Python, to which it is equal bit for bit.
 */
#include "blocks.h"
#include "pool.h"

enum { AT_ONCE = 64 }; /* blocks that a thread takes */

struct dequantize_args {
    const uint8_t *blocks;
    float *weights;
    int64_t num_blocks;
    int kind;
};

static inline float half(const uint8_t *bytes) { return float_of_half(half_bits(bytes)); }

/* d, perhaps m, perhaps fifth bits, then the numbers: (q - less) * d, or q * d + m. */
static inline __attribute__((always_inline)) void
small_block(const uint8_t *b, float *w, const int has_m, const int has_fifth) {
    const uint8_t *packed = b + 2 + 2 * has_m;
    const int less = has_m ? 0 : has_fifth ? 16 : 8;
    float d = half(b), m = has_m ? half(b + 2) : 0.0f;
    int32_t q[32];
    split_16(packed + 4 * has_fifth, has_fifth ? word(packed) : 0, has_fifth, q);
    for (int i = 0; i < 32; i++) {
        float product = (float)(q[i] - less) * d;
        w[i] = has_m ? product + m : product;
    }
}

static inline void q8_0(const uint8_t *b, float *w) {
    float d = half(b);
    for (int i = 0; i < 32; i++)
        w[i] = (float)(int8_t)b[i + 2] * d;
}

/* Q4_K and Q5_K: 8 groups of 32. */
static inline void k_block(const uint8_t *b, float *w, const int has_fifth) {
    float d = half(b), least = half(b + 2);
    for (int group = 0; group < 8; group++, w += 32) {
        int scale, minimum;
        uint8_t q[32];
        six_bits(b + 4, group, &scale, &minimum);
        k_numbers(b, group, has_fifth, q);
        float ds = d * (float)scale, m = least * (float)minimum;
        for (int i = 0; i < 32; i++)
            w[i] = (float)q[i] * ds - m;
    }
}

static inline void q6_k(const uint8_t *b, float *w) {
    float d = half(b + 208);
    for (int group = 0; group < 8; group++, w += 32) {
        const int8_t *scales = (const int8_t *)b + 192 + group * 2;
        float first = d * (float)scales[0], second = d * (float)scales[1];
        uint8_t q[32];
        q6_k_numbers(b, group, q);
        for (int i = 0; i < 32; i++)
            w[i] = (float)(q[i] - 32) * (i < 16 ? first : second);
    }
}

/* Inlined with constants, so that no block asks what it is. */
static inline __attribute__((always_inline)) void
blocks_of(const struct dequantize_args *args, int64_t from, int64_t to, const enum format kind,
          int bytes, int numbers) {
    for (int64_t i = from; i < to; i++) {
        const uint8_t *b = args->blocks + i * bytes;
        float *w = args->weights + i * numbers;
        if (kind == Q6_K)
            q6_k(b, w);
        else if (kind == Q4_K || kind == Q5_K)
            k_block(b, w, kind == Q5_K);
        else if (kind == Q8_0)
            q8_0(b, w);
        else
            small_block(b, w, kind == Q4_1 || kind == Q5_1, kind == Q5_0 || kind == Q5_1);
    }
}

void dequantize(const void *data, struct team *team) {
    const struct dequantize_args *args = data;
    int64_t items = (args->num_blocks + AT_ONCE - 1) / AT_ONCE;
    for (int item; (item = next_item(team)) < items;) {
        int64_t from = (int64_t)item * AT_ONCE, to = from + AT_ONCE;
        to = to < args->num_blocks ? to : args->num_blocks;
        switch ((enum format)args->kind) {
        case Q4_0: blocks_of(args, from, to, Q4_0, 18, 32); break;
        case Q4_1: blocks_of(args, from, to, Q4_1, 20, 32); break;
        case Q5_0: blocks_of(args, from, to, Q5_0, 22, 32); break;
        case Q5_1: blocks_of(args, from, to, Q5_1, 24, 32); break;
        case Q8_0: blocks_of(args, from, to, Q8_0, 34, 32); break;
        case Q4_K: blocks_of(args, from, to, Q4_K, 144, 256); break;
        case Q5_K: blocks_of(args, from, to, Q5_K, 176, 256); break;
        case Q6_K: blocks_of(args, from, to, Q6_K, 210, 256); break;
        default: break; /* never asked for */
        }
    }
}
