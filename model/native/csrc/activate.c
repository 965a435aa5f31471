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

enum kind { SILU, GELU, GELU_TANH, RELU, RELU2, CLAMPED_SWIGLU }; /* as in activate.py */

struct activate_args {
    const float *x; /* [num_rows, size], or [num_rows, 2 * size] with the gates first */
    float *output;  /* [num_rows, size] */
    int num_rows, size, kind, is_gated;
    const float *partner; /* [num_rows, size], of what is not gated; or NULL */
};

static inline floats gelu_tanh16(floats x) {
    floats cube = f_mul(f_mul(x, x), x);
    floats inner = f_fma(cube, f_all(0.044715f), x);
    floats twice = f_mul(inner, f_all(-1.5957691216f)); /* -2 sqrt(2 / pi) */
    return f_div(x, f_add(exp16(twice), f_all(1.0f)));
}

static inline floats gelu16(floats x) {
    const floats one = f_all(1.0f);
    floats size = f_abs(x); /* p = 0.3275911 / sqrt 2 */
    floats t = f_div(one, f_fma(size, f_all(0.23164190f), one));
    floats q = f_all(0.0007288079941645265f);
    q = f_fma(q, t, f_all(-0.14671368896961212f));
    q = f_fma(q, t, f_all(0.5124648809432983f));
    q = f_fma(q, t, f_all(-0.4287883937358856f));
    q = f_fma(q, t, f_all(0.4723750352859497f));
    q = f_fma(q, t, f_all(0.015866225585341454f));
    q = f_fma(q, t, f_all(0.208701029419899f));
    q = f_fma(q, t, f_all(0.18028374016284943f));
    q = f_fma(q, t, f_all(0.1850823163986206f));
    const floats half = f_all(0.5f);
    floats bell = exp16(f_mul(f_mul(x, negative(x)), half));
    floats below = f_mul(f_mul(q, t), f_mul(bell, half)); /* Phi(-|x|) */
    lanes is_positive = f_at_most(f_zero(), x);
    return f_mul(x, f_select(is_positive, f_sub(one, below), below));
}

/* The second operand is what comes of a NaN. */
static inline floats relu16(floats x) { return f_max(f_zero(), x); }

static inline __attribute__((always_inline)) floats activate16(floats x, const enum kind kind) {
    if (kind == SILU) return silu16(x);
    if (kind == GELU) return gelu16(x);
    if (kind == GELU_TANH) return gelu_tanh16(x);
    floats y = relu16(x);
    return kind == RELU ? y : f_mul(y, y);
}

/* g sigmoid(1.702 g) (u + 1), g at most 7 and u within +-7; the operand that may be a NaN comes second. */
static inline floats clamped_swiglu16(floats gate, floats up) {
    const floats one = f_all(1.0f), limit = f_all(7.0f);
    gate = f_min(limit, gate);
    up = f_max(negative(limit), f_min(limit, up));
    floats swish = f_div(gate, f_add(exp16(f_mul(gate, f_all(-1.702f))), one));
    return f_mul(swish, f_add(up, one));
}

static void clamped_row(const float *x, const float *partner, float *output, int size) {
    for (int i = 0; i < size; i += WIDTH) {
        int count = size - i;
        floats up = partner ? f_load_first(partner + i, count) : f_zero();
        f_store_first(output + i, count, clamped_swiglu16(f_load_first(x + i, count), up));
    }
}

/* Inlined with constants, so that no element asks what is wanted. */
static inline __attribute__((always_inline)) void
row_of(const float *x, const float *partner, float *output, int size, const enum kind kind) {
    for (int i = 0; i < size; i += WIDTH) {
        int count = size - i;
        floats y = activate16(f_load_first(x + i, count), kind);
        if (partner) y = f_mul(y, f_load_first(partner + i, count));
        f_store_first(output + i, count, y);
    }
}

static void activate_row(const struct activate_args *args, int row) {
    int size = args->size, width = args->is_gated ? 2 * size : size;
    const float *x = args->x + (size_t)row * width;
    const float *partner = args->partner ? args->partner + (size_t)row * size : NULL;
    if (args->is_gated) partner = x + size;
    float *output = args->output + (size_t)row * size;
    if (args->kind == SILU) row_of(x, partner, output, size, SILU);
    if (args->kind == GELU) row_of(x, partner, output, size, GELU);
    if (args->kind == GELU_TANH) row_of(x, partner, output, size, GELU_TANH);
    if (args->kind == RELU) row_of(x, partner, output, size, RELU);
    if (args->kind == RELU2) row_of(x, partner, output, size, RELU2);
    if (args->kind == CLAMPED_SWIGLU) clamped_row(x, partner, output, size);
}

void activate(const void *data, struct team *team) {
    const struct activate_args *args = data;
    for (int row; (row = next_item(team)) < args->num_rows;) activate_row(args, row);
}
