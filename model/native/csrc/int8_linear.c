/* y = x W^T + b, with the weights in 8 bits and the activations rounded to 8 bits on the way in.
 *
 * A row of weights has one scale. A token's vector is cut into groups of 32 channels with a scale
 * each, so that a large activation takes its accuracy from 31 others and not from all. Within a
 * group sums are whole numbers and exact; over the groups they are floats, always added from the
 * first group to the last, with one rounding each. So a token's result is the same in any batch.
 *
 * The instruction multiplies 4 unsigned bytes by 4 signed ones in each of 16 lanes and adds the
 * products to the lane. A lane is one row of weights, made unsigned by adding 128, and 128 times
 * the sum of the activations is what its sum starts below zero with: so the correction is one
 * number for all rows, and so are the 4 activations that go to all lanes at once.
 */
#include "int8_linear.h"

#include <immintrin.h>
#include <stddef.h>

enum {
    TOKENS = 4,     /* that share a pass over a panel: with TILES, what the registers can sum up */
    LINE = 64,      /* bytes that come from memory at once */
    LINES = GROUP / STEP * TILES, /* of weights, for a group of channels */
    AHEAD = 4096    /* bytes: how long before its use a lone pass asks for a weight, into the
                       second cache: the first has too few open requests for all of them */
};

/* 32 channels to 32 bytes, what one of them is worth, and where sums start. A NaN or an infinity
 * makes the scale one, and so all that is multiplied by it. Compared as integers, in which order a
 * NaN is above all numbers. */
static void round_group(__m512 low, __m512 high, int8_t *codes, float *scale, int32_t *start) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i a = _mm512_and_si512(_mm512_castps_si512(low), magnitude);
    __m512i b = _mm512_and_si512(_mm512_castps_si512(high), magnitude);
    __m512i least = _mm512_castps_si512(_mm512_set1_ps(SMALLEST));
    int bits = _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_max_epi32(a, b), least));
    float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits)));
    __m512 units = _mm512_set1_ps(LARGEST / largest);
    __m512i whole_low = _mm512_cvtps_epi32(_mm512_mul_ps(low, units));
    __m512i whole_high = _mm512_cvtps_epi32(_mm512_mul_ps(high, units));
    _mm_storeu_si128((__m128i *)codes, _mm512_cvtsepi32_epi8(whole_low));
    _mm_storeu_si128((__m128i *)(codes + LANES), _mm512_cvtsepi32_epi8(whole_high));
    *scale = largest / LARGEST;
    *start = -ZERO * _mm512_reduce_add_epi32(_mm512_add_epi32(whole_low, whole_high));
}

static void round_token(const struct int8_linear_args *args, int token) {
    int groups = ceil_div(args->in_features, GROUP);
    const float *x = args->x + (size_t)token * args->in_features;
    for (int group = 0; group < groups; group++) {
        int left = args->in_features - group * GROUP;
        unsigned mask = left >= GROUP ? ~0u : (1u << left) - 1; /* zeros behind the last channel */
        size_t place = (size_t)token * groups + group;
        round_group(_mm512_maskz_loadu_ps((__mmask16)mask, x + group * GROUP),
                    _mm512_maskz_loadu_ps((__mmask16)(mask >> LANES), x + group * GROUP + LANES),
                    args->codes + place * GROUP, args->code_scales + place, args->starts + place);
    }
}

/* The sums of a panel's rows for some tokens, times the scales, into y. */
static inline __attribute__((always_inline)) void
store(const struct int8_linear_args *args, int panel, int first, const int tokens,
      __m512 sums[TOKENS][TILES]) {
    for (int tile = 0; tile < TILES; tile++) {
        int row = panel * ROWS + tile * LANES, left = args->out_features - row;
        if (left <= 0) return;
        __mmask16 mask = (__mmask16)(left >= LANES ? 0xffff : (1 << left) - 1);
        __m512 scale = _mm512_maskz_loadu_ps(mask, args->scales + row);
        for (int t = 0; t < tokens; t++) {
            __m512 y = _mm512_mul_ps(sums[t][tile], scale);
            if (args->bias) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, args->bias + row));
            float *out = args->y + (size_t)(first + t) * args->out_features + row;
            _mm512_mask_storeu_ps(out, mask, y);
        }
    }
}

/* One pass over a panel, for `tokens` tokens from `first`. Where this is inlined all inner loops
 * have constant bounds, so both kinds of sums stay in registers.
 *
 * The processor does not guess a panel's beginning from the end of the one before: the passes over
 * one panel ask for this thread's `next`, a share each, so that memory is as busy as the multipliers.
 * (It may be another's in the end, or behind the last: asking does no harm.) */
static inline __attribute__((always_inline)) void
pass(const struct int8_linear_args *args, int panel, int next, int first, const int tokens) {
    int groups = ceil_div(args->in_features, GROUP);
    size_t panel_bytes = (size_t)groups * GROUP * ROWS, place = (size_t)first * groups;
    const uint8_t *weights = args->packed + panel * panel_bytes;
    const int8_t *codes = args->codes + place * GROUP;
    const float *code_scales = args->code_scales + place;
    const int32_t *starts = args->starts + place;

    int passes = ceil_div(args->num_tokens, TOKENS), lines = ceil_div(LINES, passes);
    size_t share = (size_t)lines * LINE * groups, skipped = share * (first / TOKENS);
    const uint8_t *wanted =
        passes == 1 ? weights + AHEAD : args->packed + next * panel_bytes + skipped;
    if (skipped >= panel_bytes) lines = 0;

    __m512 sums[TOKENS][TILES];
    for (int t = 0; t < tokens; t++)
        for (int tile = 0; tile < TILES; tile++) sums[t][tile] = _mm512_setzero_ps();
    for (int group = 0; group < groups; group++) {
        __m512i whole[TOKENS][TILES];
        for (int t = 0; t < tokens; t++)
            for (int tile = 0; tile < TILES; tile++)
                whole[t][tile] = _mm512_set1_epi32(starts[t * groups + group]);
        for (int line = 0; line < lines; line++, wanted += LINE)
            _mm_prefetch((const char *)wanted, _MM_HINT_T1);
#pragma GCC unroll 8
        for (int step = 0; step < GROUP / STEP; step++, weights += ROWS * STEP) {
            __m512i w[TILES];
            for (int tile = 0; tile < TILES; tile++)
                w[tile] = _mm512_load_si512(weights + tile * LANES * STEP);
            for (int t = 0; t < tokens; t++) {
                const int8_t *four = codes + (size_t)(t * groups + group) * GROUP + step * STEP;
                __m512i a = _mm512_set1_epi32(*(const int32_t *)four);
                for (int tile = 0; tile < TILES; tile++)
                    whole[t][tile] = _mm512_dpbusd_epi32(whole[t][tile], w[tile], a);
            }
        }
        for (int t = 0; t < tokens; t++) {
            __m512 scale = _mm512_set1_ps(code_scales[t * groups + group]);
            for (int tile = 0; tile < TILES; tile++)
                sums[t][tile] =
                    _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[t][tile]), scale, sums[t][tile]);
        }
    }
    store(args, panel, first, tokens, sums);
}

static void multiply(const struct int8_linear_args *args, int panel, int next) {
    int token = 0, left;
    for (; (left = args->num_tokens - token) >= TOKENS; token += TOKENS)
        pass(args, panel, next, token, TOKENS);
    if (left == 3) pass(args, panel, next, token, 3);
    if (left == 2) pass(args, panel, next, token, 2);
    if (left == 1) pass(args, panel, next, token, 1);
}

void int8_linear(const void *data, struct team *team) {
    const struct int8_linear_args *args = data;
    for (int token; (token = next_item(team)) < args->num_tokens;)
        round_token(args, token);
    barrier(team);
    /* A few items for each thread: neighbouring panels for one thread, little to wait for. */
    int panels = ceil_div(args->out_features, ROWS);
    int item_panels = ceil_div(panels, 8 * team->num_threads);
    for (int first; (first = next_item(team) * item_panels) < panels;)
        for (int panel = first; panel < first + item_panels && panel < panels; panel++) {
            int is_last = panel == first + item_panels - 1; /* the others take the items between */
            multiply(args, panel, is_last ? first + team->num_threads * item_panels : panel + 1);
        }
}
