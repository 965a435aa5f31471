/* simd.h in AVX2, FMA and F16C: two registers each, of 16. */
#ifndef SIMD_AVX2_H
#define SIMD_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef __m256 floats8;
typedef __m256i ints8;
typedef struct { __m256 low, high; } floats;
typedef struct { __m256i low, high; } ints;
typedef struct { __m256d low, high; } doubles;
typedef struct { __m256i low, high; } lanes; /* all bits of a lane, or none */

enum { REGISTERS = 8 }; /* for one of `floats` each */

#define OF_ONE(name, type, op)                                                                     \
    INLINE type name(type x) { return (type){op(x.low), op(x.high)}; }
#define OF_TWO(name, type, op)                                                                     \
    INLINE type name(type x, type y) { return (type){op(x.low, y.low), op(x.high, y.high)}; }
#define COMPARED(name, predicate)                                                                  \
    INLINE lanes name(floats x, floats y) {                                                        \
        return (lanes){_mm256_castps_si256(_mm256_cmp_ps(x.low, y.low, predicate)),                \
                       _mm256_castps_si256(_mm256_cmp_ps(x.high, y.high, predicate))};             \
    }

INLINE ints i_all(int32_t x) { return (ints){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INLINE ints i_count(void) {
    return (ints){_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                  _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}

INLINE lanes first_lanes(int count) {
    ints all = i_all(count), each = i_count();
    return (lanes){_mm256_cmpgt_epi32(all.low, each.low), _mm256_cmpgt_epi32(all.high, each.high)};
}
INLINE __m256i eight_lanes_of(unsigned bits) {
    __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), each), each);
}
INLINE lanes lanes_of(unsigned bits) {
    return (lanes){eight_lanes_of(bits), eight_lanes_of(bits >> 8)};
}
INLINE unsigned bits_of(lanes m) {
    unsigned low = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(m.low));
    return low | (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(m.high)) << 8;
}
OF_TWO(both, lanes, _mm256_and_si256)
OF_TWO(either, lanes, _mm256_or_si256)
INLINE lanes without(lanes m, lanes n) {
    return (lanes){_mm256_andnot_si256(n.low, m.low), _mm256_andnot_si256(n.high, m.high)};
}

INLINE floats f_zero(void) { return (floats){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE floats f_all(float x) { return (floats){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE floats f_load(const float *p) { return (floats){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void f_store(float *p, floats x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}
INLINE floats f_load_first(const float *p, int count) {
    if (count >= WIDTH) return f_load(p);
    lanes m = first_lanes(count);
    return (floats){_mm256_maskload_ps(p, m.low), _mm256_maskload_ps(p + 8, m.high)};
}
INLINE void f_store_first(float *p, int count, floats x) {
    if (count >= WIDTH) {
        f_store(p, x);
        return;
    }
    lanes m = first_lanes(count);
    _mm256_maskstore_ps(p, m.low, x.low);
    _mm256_maskstore_ps(p + 8, m.high, x.high);
}
INLINE floats f_load_half(const uint16_t *p, int count) {
    uint16_t copy[WIDTH] = {0};
    if (count < WIDTH) {
        if (count > 0) memcpy(copy, p, (size_t)count * sizeof *p);
        p = copy;
    }
    return (floats){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
INLINE void f_store_half(uint16_t *p, int count, floats x) {
    __m128i low = _mm256_cvtps_ph(x.low, 0), high = _mm256_cvtps_ph(x.high, 0);
    uint16_t copy[WIDTH], *at = count < WIDTH ? copy : p;
    _mm_storeu_si128((__m128i *)at, low);
    _mm_storeu_si128((__m128i *)(at + 8), high);
    if (count < WIDTH && count > 0) memcpy(p, copy, (size_t)count * sizeof *p);
}
INLINE floats8 f_load_eight_bytes(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE floats f_load_first_bytes(const int8_t *p, int count) {
    int8_t copy[WIDTH] = {0};
    if (count < WIDTH) {
        if (count > 0) memcpy(copy, p, (size_t)count);
        p = copy;
    }
    return (floats){f_load_eight_bytes(p), f_load_eight_bytes(p + 8)};
}

OF_TWO(f_add, floats, _mm256_add_ps)
OF_TWO(f_sub, floats, _mm256_sub_ps)
OF_TWO(f_mul, floats, _mm256_mul_ps)
OF_TWO(f_div, floats, _mm256_div_ps)
OF_TWO(f_min, floats, _mm256_min_ps) /* y, if one is a NaN */
OF_TWO(f_max, floats, _mm256_max_ps) /* y, if one is a NaN */
OF_TWO(f_and, floats, _mm256_and_ps)
OF_TWO(f_or, floats, _mm256_or_ps)
INLINE floats f_fma(floats x, floats y, floats z) { /* xy + z */
    return (floats){_mm256_fmadd_ps(x.low, y.low, z.low), _mm256_fmadd_ps(x.high, y.high, z.high)};
}
INLINE floats f_fnma(floats x, floats y, floats z) { /* z - xy */
    return (floats){_mm256_fnmadd_ps(x.low, y.low, z.low),
                    _mm256_fnmadd_ps(x.high, y.high, z.high)};
}
INLINE floats8 f_abs8(floats8 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
INLINE floats8 f_round8(floats8 x) { return _mm256_round_ps(x, 0); }
OF_ONE(f_abs, floats, f_abs8)
OF_ONE(f_round, floats, f_round8) /* to the even one of two */

/* 2^n in two factors, of which the first leaves a number normal, so that the second alone rounds. */
INLINE floats8 f_power8(ints8 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
INLINE floats8 f_times_power8(floats8 x, floats8 n) {
    ints8 whole = _mm256_cvtps_epi32(n), first = _mm256_srai_epi32(whole, 1);
    x = _mm256_mul_ps(x, f_power8(first));
    return _mm256_mul_ps(x, f_power8(_mm256_sub_epi32(whole, first)));
}
OF_TWO(f_times_power, floats, f_times_power8) /* x is about 1, n at most 250 on either side */

COMPARED(f_less, _CMP_LT_OQ)
COMPARED(f_not_less, _CMP_NLT_UQ)
COMPARED(f_at_most, _CMP_LE_OQ)
COMPARED(f_equal, _CMP_EQ_OQ)
INLINE floats f_select(lanes m, floats yes, floats no) {
    return (floats){_mm256_blendv_ps(no.low, yes.low, _mm256_castsi256_ps(m.low)),
                    _mm256_blendv_ps(no.high, yes.high, _mm256_castsi256_ps(m.high))};
}

INLINE void i_store(int32_t *p, ints x) {
    _mm256_storeu_si256((__m256i *)p, x.low);
    _mm256_storeu_si256((__m256i *)(p + 8), x.high);
}
OF_TWO(i_add, ints, _mm256_add_epi32)
OF_TWO(i_sub, ints, _mm256_sub_epi32)
OF_TWO(i_and, ints, _mm256_and_si256)
OF_TWO(i_max, ints, _mm256_max_epi32)
INLINE ints i_select(lanes m, ints yes, ints no) {
    return (ints){_mm256_blendv_epi8(no.low, yes.low, m.low),
                  _mm256_blendv_epi8(no.high, yes.high, m.high)};
}
INLINE ints i_of(floats x) { /* the nearest; a NaN is the least */
    return (ints){_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
}
INLINE floats f_of(ints x) {
    return (floats){_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
}
INLINE ints i_bits(floats x) {
    return (ints){_mm256_castps_si256(x.low), _mm256_castps_si256(x.high)};
}
INLINE void i_store_bytes(int8_t *p, ints x) { /* cut to what a byte holds */
    __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(x.low), _mm256_extracti128_si256(x.low, 1));
    __m128i high =
        _mm_packs_epi32(_mm256_castsi256_si128(x.high), _mm256_extracti128_si256(x.high, 1));
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(low, high));
}

INLINE floats8 f_low(floats x) { return x.low; }
INLINE floats8 f_high(floats x) { return x.high; }
INLINE ints8 i_low(ints x) { return x.low; }
INLINE ints8 i_high(ints x) { return x.high; }

INLINE doubles d_zero(void) { return (doubles){_mm256_setzero_pd(), _mm256_setzero_pd()}; }
INLINE doubles d_add8(doubles sums, floats8 x) {
    return (doubles){_mm256_add_pd(sums.low, _mm256_cvtps_pd(_mm256_castps256_ps128(x))),
                     _mm256_add_pd(sums.high, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)))};
}
INLINE doubles d_add(doubles sums, floats x) { /* the first 8, then the others */
    return d_add8(d_add8(sums, x.low), x.high);
}
INLINE __m256d d_halves(doubles x) { return _mm256_add_pd(x.low, x.high); }

/* Those of the lanes one behind the other, and anything behind them up to 16; -> how many. */
INLINE int f_store_packed(float *p, lanes m, floats x) {
    unsigned bits = bits_of(m);
    float each[WIDTH];
    int count = 0;
    if (!bits) return 0;
    f_store(each, x);
    for (int i = 0; i < WIDTH; i++) { /* no branch that could be guessed wrong */
        p[count] = each[i];
        count += (int)(bits >> i & 1);
    }
    return count;
}

/* 8 rows of 8 to 8 columns of 8. */
INLINE void transpose8(floats8 r[8]) {
    floats8 t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
            r[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
        }
    for (int j = 0; j < 4; j++) {
        t[j] = _mm256_permute2f128_ps(r[j], r[j + 4], 0x20);
        t[j + 4] = _mm256_permute2f128_ps(r[j], r[j + 4], 0x31);
    }
    for (int j = 0; j < 8; j++) r[j] = t[j];
}

/* 16 rows of 16 to 16 columns of 16. */
INLINE void transpose(floats r[WIDTH]) {
    floats8 top_left[8], top_right[8], below_left[8], below_right[8];
    for (int i = 0; i < 8; i++) {
        top_left[i] = r[i].low, top_right[i] = r[i].high;
        below_left[i] = r[i + 8].low, below_right[i] = r[i + 8].high;
    }
    transpose8(top_left), transpose8(top_right), transpose8(below_left), transpose8(below_right);
    for (int i = 0; i < 8; i++) {
        r[i] = (floats){top_left[i], below_left[i]};
        r[i + 8] = (floats){top_right[i], below_right[i]};
    }
}

#endif
