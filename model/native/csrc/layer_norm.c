/* Add to the residual stream and norm it: y = (x - mean) / sqrt(variance + eps) * weight + bias, row
 * by row.
 *
 * A row is summed up in 64 lanes, which are added in one order, twice: for its mean, then for the
 * squares of what is left of it. So a row's bits depend on its size and nothing else.
 */
#include "floats.h"
#include "pool.h"

#include <math.h>
#include <string.h>
#include <stddef.h>

enum { CHAINS = 4, ROWS_AT_ONCE = 4 };

struct layer_norm_args {
    const float *x, *delta; /* [num_rows, size]; delta may be NULL */
    const float *weight;    /* [size] */
    const float *bias;      /* [size], or NULL */
    float *stream;          /* [num_rows, size]: x + delta; not used without a delta */
    float *normed;          /* [num_rows, size] */
    float eps;
    int num_rows, size;
};

static float add_lanes(const floats sums[CHAINS]) {
    floats low = f_add(sums[0], sums[1]), high = f_add(sums[2], sums[3]);
    return f_sum(f_add(low, high));
}

/* x + delta into the stream; -> its mean. */
static float add_row(const float *x, const float *delta, float *stream, int size) {
    floats sums[CHAINS];
    for (int chain = 0; chain < CHAINS; chain++) sums[chain] = f_zero();
    for (int i = 0; i < size;)
        for (int chain = 0; chain < CHAINS && i < size; chain++, i += WIDTH) {
            int count = size - i;
            floats v = f_load_first(x + i, count);
            if (delta) {
                v = f_add(v, f_load_first(delta + i, count));
                f_store_first(stream + i, count, v);
            }
            sums[chain] = f_add(sums[chain], v);
        }
    return add_lanes(sums) / (float)size;
}

static float variance_of(const float *x, float mean, int size) {
    floats sums[CHAINS], middle = f_all(mean);
    for (int chain = 0; chain < CHAINS; chain++) sums[chain] = f_zero();
    for (int i = 0; i < size;)
        for (int chain = 0; chain < CHAINS && i < size; chain++, i += WIDTH) {
            int count = size - i; /* 0 behind the row, not minus its mean */
            floats v = f_sub(f_load_first(x + i, count), middle);
            if (count < WIDTH) v = f_select(first_lanes(count), v, f_zero());
            sums[chain] = f_fma(v, v, sums[chain]);
        }
    return add_lanes(sums) / (float)size;
}

static void norm_row(const struct layer_norm_args *args, int row) {
    int size = args->size;
    size_t at = (size_t)row * size;
    const float *delta = args->delta ? args->delta + at : NULL;
    float *stream = args->delta ? args->stream + at : NULL;
    float mean = add_row(args->x + at, delta, stream, size);
    const float *x = stream ? stream : args->x + at;
    floats scale = f_all(1.0f / sqrtf(variance_of(x, mean, size) + args->eps));
    floats middle = f_all(mean);
    for (int i = 0; i < size; i += WIDTH) {
        int count = size - i;
        floats v = f_mul(f_sub(f_load_first(x + i, count), middle), scale);
        v = f_mul(v, f_load_first(args->weight + i, count));
        if (args->bias) v = f_add(v, f_load_first(args->bias + i, count));
        f_store_first(args->normed + at + i, count, v);
    }
}

void layer_norm(const void *data, struct team *team) {
    const struct layer_norm_args *args = data;
    for (int first; (first = next_item(team) * ROWS_AT_ONCE) < args->num_rows;)
        for (int row = first; row < first + ROWS_AT_ONCE && row < args->num_rows; row++)
            norm_row(args, row);
}

/* Queries and keys among what a projection gives, each head with gains of its own; values as they
 * are. */
struct head_norm_args {
    const float *x;                       /* [num_rows, heads of q, k and v, head_dim] */
    const float *query_gains, *key_gains; /* [num_heads, head_dim], [num_kv_heads, head_dim] */
    float *output;                        /* as x */
    float eps;
    int num_rows, num_heads, num_kv_heads, head_dim;
};

void head_norm(const void *data, struct team *team) {
    const struct head_norm_args *args = data;
    int heads = args->num_heads, both = heads + args->num_kv_heads, size = args->head_dim;
    size_t width = (size_t)(both + args->num_kv_heads) * size;
    for (int row; (row = next_item(team)) < args->num_rows;) {
        const float *x = args->x + row * width;
        float *output = args->output + row * width;
        for (int head = 0; head < both; head++) {
            const float *gains = head < heads ? args->query_gains + (size_t)head * size
                                              : args->key_gains + (size_t)(head - heads) * size;
            size_t at = (size_t)head * size;
            const struct layer_norm_args one = {x + at,      NULL,      gains, NULL, NULL,
                                                output + at, args->eps, 1,     size};
            norm_row(&one, 0);
        }
        size_t at = (size_t)both * size;
        memcpy(output + at, x + at, (width - at) * sizeof(float));
    }
}
