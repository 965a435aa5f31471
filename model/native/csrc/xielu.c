/* xIELU, whose numbers are a layer's own: above x^2 + beta x where x is above 0, else
 * below (e^min(x, eps) - 1 - x) + beta x; each element rounded alike wherever it stands. */
#include "floats.h"
#include "pool.h"

#include <stddef.h>

struct xielu_args {
    const float *x; /* [num_rows, size] */
    float *output;  /* [num_rows, size] */
    float above, below, beta, eps;
    int num_rows, size;
};

static void row_of(const struct xielu_args *args, const float *x, float *output) {
    const floats one = f_all(1.0f), eps = f_all(args->eps);
    const floats above = f_all(args->above), below = f_all(args->below);
    for (int i = 0; i < args->size; i += WIDTH) {
        int count = args->size - i;
        floats v = f_load_first(x + i, count);
        floats low = f_min(eps, v); /* the second is what comes of a NaN */
        floats curved = f_sub(f_sub(exp16(low), one), v);
        lanes is_positive = f_less(f_zero(), v);
        curved = f_select(is_positive, f_mul(f_mul(v, v), above), f_mul(curved, below));
        floats straight = f_mul(v, f_all(args->beta));
        f_store_first(output + i, count, f_add(curved, straight));
    }
}

void xielu(const void *data, struct team *team) {
    const struct xielu_args *args = data;
    for (int row; (row = next_item(team)) < args->num_rows;) {
        size_t at = (size_t)row * args->size;
        row_of(args, args->x + at, args->output + at);
    }
}
