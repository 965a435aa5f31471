/* The norm of one head's channels, or of a latent's. */
#ifndef NORM_HEAD_H
#define NORM_HEAD_H

#include "floats.h"

#include <math.h>

/* The root of the mean square, inverted. */
static floats inverse_length(const float *x, int size, float eps) {
    floats sum = f_zero();
    for (int i = 0; i < size; i += WIDTH) {
        floats v = f_load_first(x + i, size - i);
        sum = f_fma(v, v, sum);
    }
    return f_all(1.0f / sqrtf(f_sum(sum) / (float)size + eps));
}

/* `gains` may be NULL. */
static void norm_head(const float *x, const float *gains, float eps, float *normed, int size) {
    floats scale = inverse_length(x, size, eps);
    for (int i = 0; i < size; i += WIDTH) {
        int count = size - i;
        floats v = f_mul(f_load_first(x + i, count), scale);
        if (gains) v = f_mul(v, f_load_first(gains + i, count));
        f_store_first(normed + i, count, v);
    }
}

#endif
