/* An MLP's activation, over the merged projection's output times its partner, or alone; each element
 * rounded alike wherever it stands.
 *
 * GELU is x Phi(x), with Phi(-|x|) = erfc(|x| / sqrt 2) / 2 as a polynomial in t = 1 / (1 + p |x|)
 * times e^(-x^2 / 2) (the form of Abramowitz, Stegun 7.1.26, with more terms, fitted here): 2e-7 off
 * at most, and nothing is lost where Phi is small. Its tanh approximation,
 * x / 2 (1 + tanh u), is x / (1 + e^(-2 u)).
 */
#include "floats.h"
#include "pool.h"

#include <stddef.h>

enum kind { SILU, GELU, GELU_TANH, RELU, RELU2 }; /* as in activate.py */

struct activate_args {
    const float *x; /* [num_rows, size], or [num_rows, 2 * size] with the gates first */
    float *output;  /* [num_rows, size] */
    int num_rows, size, kind, is_gated;
};

static inline __m512 negative(__m512 x) { return _mm512_sub_ps(_mm512_setzero_ps(), x); }

static inline __m512 silu16(__m512 x) {
    return _mm512_div_ps(x, _mm512_add_ps(exp16(negative(x)), _mm512_set1_ps(1.0f)));
}

static inline __m512 gelu_tanh16(__m512 x) {
    __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    __m512 inner = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
    __m512 twice = _mm512_mul_ps(inner, _mm512_set1_ps(-1.5957691216f)); /* -2 sqrt(2 / pi) */
    return _mm512_div_ps(x, _mm512_add_ps(exp16(twice), _mm512_set1_ps(1.0f)));
}

static inline __m512 gelu16(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 size = _mm512_abs_ps(x); /* p = 0.3275911 / sqrt 2 */
    __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(size, _mm512_set1_ps(0.23164190f), one));
    __m512 q = _mm512_set1_ps(0.0007288079941645265f);
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(-0.14671368896961212f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(0.5124648809432983f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(-0.4287883937358856f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(0.4723750352859497f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(0.015866225585341454f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(0.208701029419899f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(0.18028374016284943f));
    q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(0.1850823163986206f));
    const __m512 half = _mm512_set1_ps(0.5f);
    __m512 bell = exp16(_mm512_mul_ps(_mm512_mul_ps(x, negative(x)), half));
    __m512 below = _mm512_mul_ps(_mm512_mul_ps(q, t), _mm512_mul_ps(bell, half)); /* Phi(-|x|) */
    __mmask16 is_positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
    return _mm512_mul_ps(x, _mm512_mask_sub_ps(below, is_positive, one, below));
}

/* The second operand is what comes of a NaN. */
static inline __m512 relu16(__m512 x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }

static inline __attribute__((always_inline)) __m512 activate16(__m512 x, const enum kind kind) {
    if (kind == SILU) return silu16(x);
    if (kind == GELU) return gelu16(x);
    if (kind == GELU_TANH) return gelu_tanh16(x);
    __m512 y = relu16(x);
    return kind == RELU ? y : _mm512_mul_ps(y, y);
}

/* Inlined with constants, so that no element asks what is wanted. */
static inline __attribute__((always_inline)) void
row_of(const float *x, const float *partner, float *output, int size, const enum kind kind) {
    for (int i = 0; i < size; i += WIDTH) {
        __mmask16 mask = first_lanes(size - i);
        __m512 y = activate16(_mm512_maskz_loadu_ps(mask, x + i), kind);
        if (partner) y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(mask, partner + i));
        _mm512_mask_storeu_ps(output + i, mask, y);
    }
}

static void activate_row(const struct activate_args *args, int row) {
    int size = args->size, width = args->is_gated ? 2 * size : size;
    const float *x = args->x + (size_t)row * width, *partner = args->is_gated ? x + size : NULL;
    float *output = args->output + (size_t)row * size;
    if (args->kind == SILU) row_of(x, partner, output, size, SILU);
    if (args->kind == GELU) row_of(x, partner, output, size, GELU);
    if (args->kind == GELU_TANH) row_of(x, partner, output, size, GELU_TANH);
    if (args->kind == RELU) row_of(x, partner, output, size, RELU);
    if (args->kind == RELU2) row_of(x, partner, output, size, RELU2);
}

void activate(const void *data, struct team *team) {
    const struct activate_args *args = data;
    for (int row; (row = next_item(team)) < args->num_rows;) activate_row(args, row);
}
