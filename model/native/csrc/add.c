/* out = x + y, number by number: the residual stream's additions. */
#include "pool.h"

#include <stdint.h>

struct add_args {
    const float *x, *y;
    float *out;
    int64_t size;
};

enum { STRETCH = 4096 }; /* numbers in an item */

operation add;

void add(const void *data, struct team *team) {
    const struct add_args *args = data;
    for (int64_t start; (start = (int64_t)next_item(team) * STRETCH) < args->size;) {
        int64_t stop = start + STRETCH < args->size ? start + STRETCH : args->size;
        for (int64_t i = start; i < stop; i++)
            args->out[i] = args->x[i] + args->y[i];
    }
}
