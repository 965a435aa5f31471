/* silu(gate) * up over the merged projection's output, each element rounded alike. */
#include "floats.h"
#include "pool.h"

#include <stddef.h>

struct silu_mul_args {
    const float *gate_up; /* [num_rows, 2 * size], gates first */
    float *output;        /* [num_rows, size] */
    int num_rows, size;
};

static void gate_row(const float *gate, const float *up, float *output, int size) {
    for (int i = 0; i < size; i += WIDTH) {
        __mmask16 mask = first_lanes(size - i);
        __m512 g = _mm512_maskz_loadu_ps(mask, gate + i);
        __m512 e = exp16(_mm512_sub_ps(_mm512_setzero_ps(), g));
        __m512 active = _mm512_div_ps(g, _mm512_add_ps(e, _mm512_set1_ps(1.0f)));
        __m512 y = _mm512_mul_ps(active, _mm512_maskz_loadu_ps(mask, up + i));
        _mm512_mask_storeu_ps(output + i, mask, y);
    }
}

void silu_mul(const void *data, struct team *team) {
    const struct silu_mul_args *args = data;
    for (int row; (row = next_item(team)) < args->num_rows;) {
        const float *gate = args->gate_up + (size_t)row * 2 * args->size;
        gate_row(gate, gate + args->size, args->output + (size_t)row * args->size, args->size);
    }
}
