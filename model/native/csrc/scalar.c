/* Number by number, with a number that is the same for all: what a layer adds to the stream times its
 * scale, or queries, keys and values cut to a range. A NaN stays one. */
#include "pool.h"

#include <stdint.h>

struct scalar_args {
    const float *x;
    float *out;
    int64_t size;
    float low, high; /* of `clip`; `scale` multiplies by the first */
};

enum { STRETCH = 4096 }; /* numbers in an item */

operation scale, clip;

void scale(const void *data, struct team *team) {
    const struct scalar_args *args = data;
    for (int64_t start; (start = (int64_t)next_item(team) * STRETCH) < args->size;) {
        int64_t stop = start + STRETCH < args->size ? start + STRETCH : args->size;
        for (int64_t i = start; i < stop; i++) args->out[i] = args->x[i] * args->low;
    }
}

void clip(const void *data, struct team *team) {
    const struct scalar_args *args = data;
    for (int64_t start; (start = (int64_t)next_item(team) * STRETCH) < args->size;) {
        int64_t stop = start + STRETCH < args->size ? start + STRETCH : args->size;
        for (int64_t i = start; i < stop; i++) {
            float x = args->x[i] < args->low ? args->low : args->x[i];
            args->out[i] = x > args->high ? args->high : x;
        }
    }
}
