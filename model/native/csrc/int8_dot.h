/* Four signed bytes times those of 16 rows of weights, exactly: each level's own way.
 *
 * Weights come with ZERO added, as unsigned bytes. Where an instruction multiplies those, ZERO times the
 * sum of the activations is what a sum starts below zero with (`starts`): one number for all rows.
 */
#ifndef INT8_DOT_H
#define INT8_DOT_H

#include "simd.h"

#include <stdint.h>
#include <string.h>

INLINE int32_t four_of(const int8_t *codes) {
    int32_t four;
    memcpy(&four, codes, sizeof four);
    return four;
}

INLINE int32_t two_of(const int16_t *shares) {
    int32_t two;
    memcpy(&two, shares, sizeof two);
    return two;
}

/* i_load_raw: 64 bytes, a line's; dot_of: such as factors. */
#if defined(LEVEL_AVXVNNI) || defined(LEVEL_AVX2)
INLINE ints i_load_raw(const uint8_t *p) {
    return (ints){_mm256_load_si256((const __m256i *)p), _mm256_load_si256((const __m256i *)(p + 32))};
}
#endif

#if defined(LEVEL_NEON)

typedef struct { int8x16_t a, b, c, d; } factors; /* 4 bytes of 16 rows, signed again */

INLINE int8x16_t signed4(int32x4_t bytes) {
    return vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(bytes), vdupq_n_u8(128)));
}
INLINE factors dot_of(ints w) {
    return (factors){signed4(w.a), signed4(w.b), signed4(w.c), signed4(w.d)};
}
INLINE int32x4_t i_load4(const uint8_t *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
INLINE ints i_load_raw(const uint8_t *p) {
    return (ints){i_load4(p), i_load4(p + 16), i_load4(p + 32), i_load4(p + 48)};
}
INLINE ints dot_from(int32_t start) {
    (void)start; /* for unsigned weights */
    return i_all(0);
}
INLINE ints dot_add(ints sums, factors w, const int8_t *codes) {
    int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(four_of(codes)));
    return (ints){vdotq_s32(sums.a, w.a, four), vdotq_s32(sums.b, w.b, four),
                  vdotq_s32(sums.c, w.c, four), vdotq_s32(sums.d, w.d, four)};
}

#elif defined(LEVEL_AVX512)

typedef __m512i factors; /* 4 unsigned bytes of 16 rows */

INLINE ints i_load_raw(const uint8_t *p) { return _mm512_load_si512(p); }
INLINE factors dot_of(ints w) { return w; }
INLINE ints dot_from(int32_t start) { return i_all(start); }
INLINE ints dot_add(ints sums, factors w, const int8_t *codes) {
    return _mm512_dpbusd_epi32(sums, w, i_all(four_of(codes)));
}

#elif defined(LEVEL_AVXVNNI)

typedef struct { __m256i low, high; } factors; /* 4 unsigned bytes of 16 rows */

INLINE factors dot_of(ints w) { return (factors){w.low, w.high}; }
INLINE ints dot_from(int32_t start) { return i_all(start); }
INLINE ints dot_add(ints sums, factors w, const int8_t *codes) {
    __m256i four = _mm256_set1_epi32(four_of(codes));
    return (ints){_mm256_dpbusd_avx_epi32(sums.low, w.low, four),
                  _mm256_dpbusd_avx_epi32(sums.high, w.high, four)};
}

#else

/* Signed again, for 255 * 127 * 2 would not fit the 16 bits of the instruction between. 127 * 127 * 2
 * does: sizes of weights times activations that have their signs. */
typedef struct { __m256i low, high, low_size, high_size; } factors;

INLINE factors dot_of(ints w) {
    __m256i low = _mm256_xor_si256(w.low, _mm256_set1_epi8(-128));
    __m256i high = _mm256_xor_si256(w.high, _mm256_set1_epi8(-128));
    return (factors){low, high, _mm256_abs_epi8(low), _mm256_abs_epi8(high)};
}
INLINE ints dot_from(int32_t start) {
    (void)start; /* for unsigned weights */
    return i_all(0);
}
INLINE __m256i dot_add8(__m256i sums, __m256i w, __m256i size, __m256i four) {
    __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(four, w));
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    __asm__("" : "+x"(sums)); /* added up here: gcc would rather keep products, and spill them */
    return sums;
}
INLINE ints dot_add(ints sums, factors w, const int8_t *codes) {
    __m256i four = _mm256_set1_epi32(four_of(codes));
    return (ints){dot_add8(sums.low, w.low, w.low_size, four),
                  dot_add8(sums.high, w.high, w.high_size, four)};
}

#endif

INLINE factors dot_load(const uint8_t *p) { return dot_of(i_load_raw(p)); }

#endif
