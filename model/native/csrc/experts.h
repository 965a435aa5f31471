/* Experts' products: the layers' own kernels, over the rows that were grouped for one expert. */
#ifndef EXPERTS_H
#define EXPERTS_H

#include "pool.h"

struct expert_rows {
    const float *x; /* [num_tokens, in_features] */
    float *y;       /* [num_tokens, out_features] */
    void *scratch;  /* where a kernel rounds its rows, if it does */
    int num_tokens;
};

/* Each takes the arguments of its operation, less what `expert_rows` says; all threads call it. */
typedef void expert_product(const void *layer, const struct expert_rows *rows, struct team *team);

expert_product float_linear_of, int8_linear_of, stored_linear_of;

#endif
