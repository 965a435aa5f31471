/* Add to the residual stream and norm it: y = x / sqrt(mean(x^2) + eps) * weight, row by row.
 *
 * Squares are summed up in 64 lanes, which are added in one order: a row's bits depend on its size
 * and nothing else. Rounds where `RMSNorm` in model/parts/layers.py does, but for the sum.
 */
#include "floats.h"
#include "pool.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { CHAINS = 4, ROWS_AT_ONCE = 4 };

struct rms_norm_args {
    const float *x, *delta; /* [num_rows, size]; delta may be NULL */
    const float *weight;    /* [size] */
    float *stream;          /* [num_rows, size]: x + delta; not used without a delta */
    float *normed;          /* [num_rows, size] */
    float eps;
    int num_rows, size;
};

/* x + delta into the stream; -> the sum of its squares. */
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
            sums[chain] = f_fma(v, v, sums[chain]);
        }
    floats low = f_add(sums[0], sums[1]), high = f_add(sums[2], sums[3]);
    return f_sum(f_add(low, high));
}

static void norm_row(const struct rms_norm_args *args, int row) {
    int size = args->size;
    size_t at = (size_t)row * size;
    const float *delta = args->delta ? args->delta + at : NULL;
    float *stream = args->delta ? args->stream + at : NULL;
    float squares = add_row(args->x + at, delta, stream, size);
    const float *x = stream ? stream : args->x + at;
    floats scale = f_all(1.0f / sqrtf(squares / (float)size + args->eps));
    for (int i = 0; i < size; i += WIDTH) {
        int count = size - i;
        floats v = f_mul(f_load_first(x + i, count), scale);
        v = f_mul(v, f_load_first(args->weight + i, count));
        f_store_first(args->normed + at + i, count, v);
    }
}

void rms_norm(const void *data, struct team *team) {
    const struct rms_norm_args *args = data;
    for (int first; (first = next_item(team) * ROWS_AT_ONCE) < args->num_rows;)
        for (int row = first; row < first + ROWS_AT_ONCE && row < args->num_rows; row++)
            norm_row(args, row);
}

/* Queries and keys among what a projection gives, each over all heads together; values as they are. */
struct wide_norm_args {
    const float *x;                       /* [num_rows, sizes of q, k and v] */
    const float *query_gains, *key_gains; /* [of q], [of k] */
    float *output;                        /* as x */
    float query_eps, key_eps;
    int num_rows, query_size, key_size, value_size;
};

static void norm_part(const float *x, const float *gains, float *output, float eps, int size) {
    const struct rms_norm_args args = {x, NULL, gains, NULL, output, eps, 1, size};
    norm_row(&args, 0);
}

void wide_norm(const void *data, struct team *team) {
    const struct wide_norm_args *args = data;
    int of_query = args->query_size, of_key = args->key_size, of_value = args->value_size;
    size_t width = (size_t)of_query + of_key + of_value;
    for (int row; (row = next_item(team)) < args->num_rows;) {
        const float *x = args->x + row * width;
        float *output = args->output + row * width;
        norm_part(x, args->query_gains, output, args->query_eps, of_query);
        norm_part(x + of_query, args->key_gains, output + of_query, args->key_eps, of_key);
        size_t at = (size_t)of_query + of_key;
        memcpy(output + at, x + at, of_value * sizeof(float));
    }
}
