/* y += B (A x), for the tokens that have an adapter: Hu et al. 2021.
 *
 * Each token is computed by itself: a number of A x is one sum over the inputs, lane by lane and then
 * over the lanes, and a number of B (A x) one sum over the ranks in order, which is added to y once.
 * So a token's result is the same in any batch, and one without an adapter is not touched.
 */
#include "pool.h"
#include "simd.h"

#include <stddef.h>
#include <stdint.h>

enum {
    PIECES = 3,    /* as MAX_PIECES in declare/lora.py */
    TOGETHER = 4,  /* ranks that share the reading of x */
    RANKS = 32,    /* of a token, that are an item of the first half */
    OUTPUTS = 256, /* of a token, that are an item of the second */
};

struct lora_piece {
    const float *b; /* [rank, num_outputs] */
    int first_output, num_outputs, first_rank, rank;
};

struct lora_slot {
    const float *a; /* [rank, in_features], all pieces' one after the other */
    int rank, num_pieces;
    struct lora_piece pieces[PIECES];
};

struct lora_args {
    const float *x;       /* [num_tokens, in_features] */
    float *y;             /* [num_tokens, out_features] */
    float *inner;         /* [num_tokens, max_rank]: A x */
    const int32_t *slots; /* [num_tokens], below 0: none */
    const struct lora_slot *table;
    int num_tokens, in_features, out_features, max_rank;
};

operation lora;

/* `count` numbers of A x. */
INLINE void products(const float *a, const float *x, float *inner, size_t in, const int count) {
    floats sums[TOGETHER];
    for (int j = 0; j < count; j++) sums[j] = f_zero();
    for (size_t c = 0; c < in; c += WIDTH) {
        int rest = in - c < WIDTH ? (int)(in - c) : WIDTH;
        floats each = f_load_first(x + c, rest);
        for (int j = 0; j < count; j++)
            sums[j] = f_fma(f_load_first(a + j * in + c, rest), each, sums[j]);
    }
    for (int j = 0; j < count; j++) inner[j] = f_sum(sums[j]);
}

static void reduce(const struct lora_args *args, const struct lora_slot *slot, int token, int first) {
    size_t in = args->in_features;
    const float *x = args->x + token * in;
    float *inner = args->inner + (size_t)token * args->max_rank;
    int stop = first + RANKS < slot->rank ? first + RANKS : slot->rank, j = first;
    for (; j + TOGETHER <= stop; j += TOGETHER) products(slot->a + j * in, x, inner + j, in, TOGETHER);
    for (; j < stop; j++) products(slot->a + j * in, x, inner + j, in, 1);
}

static void expand(const struct lora_args *args, const struct lora_slot *slot, int token, int first) {
    float *y = args->y + (size_t)token * args->out_features;
    for (int i = 0; i < slot->num_pieces; i++) {
        const struct lora_piece *piece = slot->pieces + i;
        const float *inner = args->inner + (size_t)token * args->max_rank + piece->first_rank;
        int begin = first - piece->first_output, stop = begin + OUTPUTS;
        if (begin < 0) begin = 0;
        if (stop > piece->num_outputs) stop = piece->num_outputs;
        for (int row = begin; row < stop; row += WIDTH) {
            const float *b = piece->b + row;
            int count = stop - row;
            floats sum = f_zero();
            for (int j = 0; j < piece->rank; j++, b += piece->num_outputs)
                sum = f_fma(f_load_first(b, count), f_all(inner[j]), sum);
            float *to = y + piece->first_output + row;
            f_store_first(to, count, f_add(f_load_first(to, count), sum));
        }
    }
}

void lora(const void *data, struct team *team) {
    const struct lora_args *args = data;
    int rank = 0; /* the largest of this step */
    for (int t = 0; t < args->num_tokens; t++)
        if (args->slots[t] >= 0 && args->table[args->slots[t]].rank > rank)
            rank = args->table[args->slots[t]].rank;
    int parts = (rank + RANKS - 1) / RANKS;
    for (int item; (item = next_item(team)) < parts * args->num_tokens;) {
        int token = item / parts, first = item % parts * RANKS;
        if (args->slots[token] >= 0) reduce(args, args->table + args->slots[token], token, first);
    }
    barrier(team);
    parts = rank ? (args->out_features + OUTPUTS - 1) / OUTPUTS : 0;
    for (int item; (item = next_item(team)) < parts * args->num_tokens;) {
        int token = item / parts, first = item % parts * OUTPUTS;
        if (args->slots[token] >= 0) expand(args, args->table + args->slots[token], token, first);
    }
}
