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
    const __m512 one = _mm512_set1_ps(1.0f), eps = _mm512_set1_ps(args->eps);
    const __m512 above = _mm512_set1_ps(args->above), below = _mm512_set1_ps(args->below);
    for (int i = 0; i < args->size; i += WIDTH) {
        __mmask16 mask = first_lanes(args->size - i);
        __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        __m512 low = _mm512_min_ps(eps, v); /* the second is what comes of a NaN */
        __m512 curved = _mm512_sub_ps(_mm512_sub_ps(exp16(low), one), v);
        __mmask16 is_positive = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
        curved = _mm512_mul_ps(curved, below);
        curved = _mm512_mask_mul_ps(curved, is_positive, _mm512_mul_ps(v, v), above);
        __m512 straight = _mm512_mul_ps(v, _mm512_set1_ps(args->beta));
        _mm512_mask_storeu_ps(output + i, mask, _mm512_add_ps(curved, straight));
    }
}

void xielu(const void *data, struct team *team) {
    const struct xielu_args *args = data;
    for (int row; (row = next_item(team)) < args->num_rows;) {
        size_t at = (size_t)row * args->size;
        row_of(args, args->x + at, args->output + at);
    }
}
