/* Small unsigned numbers, some bits each, times signed bytes: each level's own way, exactly.
 *
 * A `partial` is what products are added up in, as many as fit: with AVX2 16 bits a pair of channels,
 * else the sums themselves. `most_added` says how many fit.
 *
 * A `paired` adds up two times 16 channels, first the second 16, and in the end each of the sums times its
 * share: in whole numbers, which is exact for numbers of 4 and 5 bits. Where an instruction multiplies
 * pairs of 16 bits, both sums are in one lane, and so many times the codes are taken off (`less`) that they
 * fit.
 */
#ifndef STORED_DOT_H
#define STORED_DOT_H

#include "int8_dot.h"

#if defined(LEVEL_NEON)

#define SHIFTED(x, op, n) vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) op (uint32_t)(n))
#define OF_FOUR(x, op, n)                                                                          \
    (ints){SHIFTED(x.a, op, n), SHIFTED(x.b, op, n), SHIFTED(x.c, op, n), SHIFTED(x.d, op, n)}
typedef ints partial;

OF_TWO(i_or, ints, ints, vorrq_s32)
INLINE ints i_down(ints x, int n) { return OF_FOUR(x, >>, n); }
INLINE ints i_up(ints x, int n) { return OF_FOUR(x, <<, n); }
INLINE int32x4_t look_up4(int8x16_t table, int32x4_t q) {
    return vreinterpretq_s32_s8(vqtbl1q_s8(table, vreinterpretq_u8_s32(q)));
}
INLINE ints i_look_up(const int8_t *values, ints q) {
    int8x16_t table = vld1q_s8(values);
    return (ints){look_up4(table, q.a), look_up4(table, q.b), look_up4(table, q.c),
                  look_up4(table, q.d)};
}
INLINE partial partial_of(ints sums) { return sums; }
INLINE int32x4_t small_dot4(int32x4_t sums, int32x4_t w, int8x16_t four) {
    return vdotq_s32(sums, vreinterpretq_s8_s32(w), four);
}
INLINE partial partial_add(partial sums, ints w, const int8_t *codes) {
    int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(four_of(codes)));
    return (ints){small_dot4(sums.a, w.a, four), small_dot4(sums.b, w.b, four),
                  small_dot4(sums.c, w.c, four), small_dot4(sums.d, w.d, four)};
}
INLINE ints partial_end(ints sums, partial p) {
    (void)sums; /* they are in it */
    return p;
}
typedef struct { ints own, others; } paired; /* sums; of the second 16, times their share */

INLINE ints add_share(ints sums, ints own, int16_t share) {
    return (ints){vmlaq_n_s32(sums.a, own.a, share), vmlaq_n_s32(sums.b, own.b, share),
                  vmlaq_n_s32(sums.c, own.c, share), vmlaq_n_s32(sums.d, own.d, share)};
}
INLINE paired paired_of(int32_t first_less, int32_t second_less) {
    (void)first_less, (void)second_less;
    return (paired){i_all(0), i_all(0)};
}
INLINE paired paired_add(paired p, const int half, ints w, const int8_t *codes) {
    (void)half;
    return (paired){partial_add(p.own, w, codes), p.others};
}
INLINE paired paired_turn(paired p, const int16_t *shares, int32_t first_less) {
    (void)first_less;
    return (paired){i_all(0), add_share(p.others, p.own, shares[1])};
}
INLINE ints paired_end(paired p, const int is_apart, const int16_t *shares, int32_t start) {
    (void)is_apart;
    return add_share(i_add(p.others, i_all(start)), p.own, shares[0]);
}
INLINE floats f_load_bytes(const int8_t *p) {
    int8x16_t bytes = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    ints whole = {vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)),
                  vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))};
    return f_of(whole);
}
INLINE floats f_load_bf16(const uint16_t *p) {
    uint16x8_t low = vld1q_u16(p), high = vld1q_u16(p + 8);
    return (floats){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(low), 16)),
                    vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(low), 16)),
                    vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(high), 16)),
                    vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(high), 16))};
}

#elif defined(LEVEL_AVX512)

typedef uint32_t words16 __attribute__((vector_size(64)));
typedef ints partial;

INLINE ints i_or(ints x, ints y) { return _mm512_or_si512(x, y); }
INLINE ints i_xor(ints x, ints y) { return _mm512_xor_si512(x, y); }
INLINE ints i_low_high(ints low, ints high) { /* of each pair of 16 bits */
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, high);
}
INLINE ints dot_pairs(ints sums, ints x, ints y) { return _mm512_dpwssd_epi32(sums, x, y); }
INLINE ints i_down(ints x, int n) { return (ints)((words16)x >> (uint32_t)n); }
INLINE ints i_up(ints x, int n) { return (ints)((words16)x << (uint32_t)n); }
INLINE ints i_look_up(const int8_t *values, ints q) {
    __m128i table = _mm_loadu_si128((const __m128i *)values);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), q);
}
INLINE partial partial_of(ints sums) { return sums; }
INLINE partial partial_add(partial sums, ints w, const int8_t *codes) {
    return _mm512_dpbusd_epi32(sums, w, i_all(four_of(codes)));
}
INLINE ints partial_end(ints sums, partial p) {
    (void)sums; /* they are in it */
    return p;
}
INLINE floats f_load_bytes(const int8_t *p) {
    return f_of(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE floats f_load_bf16(const uint16_t *p) {
    ints wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

#else

typedef uint32_t words8 __attribute__((vector_size(32)));
typedef ints partial;

OF_TWO(i_or, ints, _mm256_or_si256)
INLINE ints i_down(ints x, int n) {
    return (ints){(ints8)((words8)x.low >> (uint32_t)n), (ints8)((words8)x.high >> (uint32_t)n)};
}
INLINE ints i_up(ints x, int n) {
    return (ints){(ints8)((words8)x.low << (uint32_t)n), (ints8)((words8)x.high << (uint32_t)n)};
}
INLINE ints i_look_up(const int8_t *values, ints q) {
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)values));
    return (ints){_mm256_shuffle_epi8(table, q.low), _mm256_shuffle_epi8(table, q.high)};
}
INLINE floats f_load_bytes(const int8_t *p) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    ints whole = {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
    return f_of(whole);
}
INLINE __m256 f_load_bf16_8(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
INLINE floats f_load_bf16(const uint16_t *p) {
    return (floats){f_load_bf16_8(p), f_load_bf16_8(p + 8)};
}

#if defined(LEVEL_AVXVNNI)

OF_TWO(i_xor, ints, _mm256_xor_si256)
INLINE ints i_low_high(ints low, ints high) { /* of each pair of 16 bits */
    return (ints){_mm256_blend_epi16(low.low, high.low, 0xaa),
                  _mm256_blend_epi16(low.high, high.high, 0xaa)};
}
INLINE ints dot_pairs(ints sums, ints x, ints y) {
    return (ints){_mm256_dpwssd_avx_epi32(sums.low, x.low, y.low),
                  _mm256_dpwssd_avx_epi32(sums.high, x.high, y.high)};
}
INLINE partial partial_of(ints sums) { return sums; }
INLINE partial partial_add(partial sums, ints w, const int8_t *codes) {
    __m256i four = _mm256_set1_epi32(four_of(codes));
    return (ints){_mm256_dpbusd_avx_epi32(sums.low, w.low, four),
                  _mm256_dpbusd_avx_epi32(sums.high, w.high, four)};
}
INLINE ints partial_end(ints sums, partial p) {
    (void)sums; /* they are in it */
    return p;
}

#else

INLINE partial partial_of(ints sums) {
    (void)sums; /* they are added at the end */
    return i_all(0);
}
INLINE __m256i small_dot8(__m256i pairs, __m256i w, __m256i four) {
    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w, four));
    __asm__("" : "+x"(pairs)); /* added up here: gcc would rather keep products, and spill them */
    return pairs;
}
INLINE partial partial_add(partial pairs, ints w, const int8_t *codes) {
    __m256i four = _mm256_set1_epi32(four_of(codes));
    return (ints){small_dot8(pairs.low, w.low, four), small_dot8(pairs.high, w.high, four)};
}
typedef struct { partial own; ints others; } paired; /* sums; of the second 16, times their share */

INLINE ints times_share(partial pairs, int16_t share) {
    __m256i shares = _mm256_set1_epi16(share);
    return (ints){_mm256_madd_epi16(pairs.low, shares), _mm256_madd_epi16(pairs.high, shares)};
}
INLINE paired paired_of(int32_t first_less, int32_t second_less) {
    (void)first_less, (void)second_less;
    return (paired){i_all(0), i_all(0)};
}
INLINE paired paired_add(paired p, const int half, ints w, const int8_t *codes) {
    (void)half;
    return (paired){partial_add(p.own, w, codes), p.others};
}
INLINE paired paired_turn(paired p, const int16_t *shares, int32_t first_less) {
    (void)first_less;
    return (paired){i_all(0), times_share(p.own, shares[1])};
}
INLINE ints paired_end(paired p, const int is_apart, const int16_t *shares, int32_t start) {
    (void)is_apart;
    return i_add(i_add(p.others, i_all(start)), times_share(p.own, shares[0]));
}
INLINE ints partial_end(ints sums, partial pairs) {
    __m256i one = _mm256_set1_epi16(1);
    return i_add(sums, (ints){_mm256_madd_epi16(pairs.low, one), _mm256_madd_epi16(pairs.high, one)});
}

#endif

#endif

#if defined(LEVEL_AVX512) || defined(LEVEL_AVXVNNI)

enum { IS_LESS = 1, FLIP = 0x8000 };
typedef struct { ints first, second; } paired; /* unless apart the first goes on from the second */

INLINE paired paired_of(int32_t first_less, int32_t second_less) {
    return (paired){i_all(-first_less), i_all(-second_less)};
}
INLINE paired paired_add(paired p, const int half, ints w, const int8_t *codes) {
    if (half)
        p.second = partial_add(p.second, w, codes);
    else
        p.first = partial_add(p.first, w, codes);
    return p;
}
/* The second's 16 bits, and below them FLIP, so that nothing is borrowed from them. */
INLINE paired paired_turn(paired p, const int16_t *shares, int32_t first_less) {
    (void)shares;
    p.first = i_or(i_up(p.second, 16), i_all(FLIP - first_less));
    return p;
}
INLINE ints paired_end(paired p, const int is_apart, const int16_t *shares, int32_t start) {
    ints both = is_apart ? i_low_high(p.first, i_up(p.second, 16)) : i_xor(p.first, i_all(FLIP));
    return dot_pairs(i_all(start), both, i_all(two_of(shares)));
}

#else

enum { IS_LESS = 0 }; /* nothing is taken off: sums have room */

#endif

/* Of products of numbers of so many bits and of bytes up to 127: a pair of them, and what is added to
 * it, is below 2^15. */
INLINE int most_added(int bits) { return bits <= 4 ? 8 : bits == 5 ? 4 : 2; }

#endif
