/* simd.h in AVX-512: a register each, and 32 of them. */
#ifndef SIMD_AVX512_H
#define SIMD_AVX512_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 floats;
typedef __m512i ints;
typedef __m512d doubles;
typedef __mmask16 lanes;

enum { REGISTERS = 32 }; /* for one of `floats` each */

INLINE lanes first_lanes(int count) {
    return (lanes)(count >= WIDTH ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}
INLINE lanes lanes_of(unsigned bits) { return (lanes)bits; }
INLINE unsigned bits_of(lanes m) { return m; }
INLINE lanes both(lanes m, lanes n) { return m & n; }
INLINE lanes either(lanes m, lanes n) { return m | n; }
INLINE lanes without(lanes m, lanes n) { return m & (lanes)~n; }

INLINE floats f_zero(void) { return _mm512_setzero_ps(); }
INLINE floats f_all(float x) { return _mm512_set1_ps(x); }
INLINE floats f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, floats x) { _mm512_storeu_ps(p, x); }
INLINE floats f_load_first(const float *p, int count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), p);
}
INLINE void f_store_first(float *p, int count, floats x) {
    _mm512_mask_storeu_ps(p, first_lanes(count), x);
}
INLINE floats f_load_half(const uint16_t *p, int count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
INLINE void f_store_half(uint16_t *p, int count, floats x) {
    _mm256_mask_storeu_epi16(p, first_lanes(count), _mm512_cvtps_ph(x, 0));
}

INLINE floats f_load_first_bytes(const int8_t *p, int count) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(count), p)));
}

INLINE floats f_add(floats x, floats y) { return _mm512_add_ps(x, y); }
INLINE floats f_sub(floats x, floats y) { return _mm512_sub_ps(x, y); }
INLINE floats f_mul(floats x, floats y) { return _mm512_mul_ps(x, y); }
INLINE floats f_div(floats x, floats y) { return _mm512_div_ps(x, y); }
INLINE floats f_fma(floats x, floats y, floats z) { return _mm512_fmadd_ps(x, y, z); }   /* xy + z */
INLINE floats f_fnma(floats x, floats y, floats z) { return _mm512_fnmadd_ps(x, y, z); } /* z - xy */
INLINE floats f_min(floats x, floats y) { return _mm512_min_ps(x, y); } /* y, if one is a NaN */
INLINE floats f_max(floats x, floats y) { return _mm512_max_ps(x, y); } /* y, if one is a NaN */
INLINE floats f_abs(floats x) { return _mm512_abs_ps(x); }
INLINE floats f_and(floats x, floats y) { return _mm512_and_ps(x, y); }
INLINE floats f_or(floats x, floats y) { return _mm512_or_ps(x, y); }
INLINE floats f_round(floats x) { return _mm512_roundscale_ps(x, 0); } /* to the even one of two */
INLINE floats f_times_power(floats x, floats n) { return _mm512_scalef_ps(x, n); }

INLINE lanes f_less(floats x, floats y) { return _mm512_cmp_ps_mask(x, y, _CMP_LT_OQ); }
INLINE lanes f_not_less(floats x, floats y) { return _mm512_cmp_ps_mask(x, y, _CMP_NLT_UQ); }
INLINE lanes f_at_most(floats x, floats y) { return _mm512_cmp_ps_mask(x, y, _CMP_LE_OQ); }
INLINE lanes f_equal(floats x, floats y) { return _mm512_cmp_ps_mask(x, y, _CMP_EQ_OQ); }
INLINE floats f_select(lanes m, floats yes, floats no) { return _mm512_mask_mov_ps(no, m, yes); }

INLINE ints i_all(int32_t x) { return _mm512_set1_epi32(x); }
INLINE ints i_count(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
INLINE void i_store(int32_t *p, ints x) { _mm512_storeu_si512(p, x); }
INLINE ints i_add(ints x, ints y) { return _mm512_add_epi32(x, y); }
INLINE ints i_sub(ints x, ints y) { return _mm512_sub_epi32(x, y); }
INLINE ints i_and(ints x, ints y) { return _mm512_and_si512(x, y); }
INLINE ints i_max(ints x, ints y) { return _mm512_max_epi32(x, y); }
INLINE ints i_select(lanes m, ints yes, ints no) { return _mm512_mask_mov_epi32(no, m, yes); }
INLINE ints i_of(floats x) { return _mm512_cvtps_epi32(x); } /* the nearest; a NaN is the least */
INLINE floats f_of(ints x) { return _mm512_cvtepi32_ps(x); }
INLINE ints i_bits(floats x) { return _mm512_castps_si512(x); }
INLINE void i_store_bytes(int8_t *p, ints x) { /* cut to what a byte holds */
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(x));
}

/* Lanes i and i + 8, for the reductions. */
typedef __m256 floats8;
typedef __m256i ints8;
INLINE floats8 f_low(floats x) { return _mm512_castps512_ps256(x); }
INLINE floats8 f_high(floats x) { return _mm512_extractf32x8_ps(x, 1); }
INLINE ints8 i_low(ints x) { return _mm512_castsi512_si256(x); }
INLINE ints8 i_high(ints x) { return _mm512_extracti32x8_epi32(x, 1); }

INLINE doubles d_zero(void) { return _mm512_setzero_pd(); }
INLINE doubles d_add(doubles sums, floats x) { /* the first 8, then the others */
    sums = _mm512_add_pd(sums, _mm512_cvtps_pd(f_low(x)));
    return _mm512_add_pd(sums, _mm512_cvtps_pd(f_high(x)));
}
INLINE __m256d d_halves(doubles x) {
    return _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
}

/* Those of the lanes one behind the other, and anything behind them up to 16; -> how many. */
INLINE int f_store_packed(float *p, lanes m, floats x) {
    _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m, x)); /* quicker than storing a part */
    return __builtin_popcount(m);
}

/* 16 rows of 16 to 16 columns of 16. */
INLINE void transpose(floats r[WIDTH]) {
    floats t[WIDTH];
    for (int i = 0; i < WIDTH; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < WIDTH; i += 4)
        for (int j = 0; j < 2; j++) {
            __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    for (int i = 0; i < WIDTH; i += 8)
        for (int j = 0; j < 4; j++) {
            t[i + j] = _mm512_shuffle_f32x4(r[i + j], r[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_f32x4(r[i + j], r[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        r[j] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0xdd);
    }
}

#endif
