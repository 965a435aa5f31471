/* What both levels of simd.h on x86 do alike, from two halves of 8 lanes. */
#ifndef SIMD_X86_H
#define SIMD_X86_H

INLINE float f_sum(floats x) {
    floats8 y = _mm256_add_ps(f_low(x), f_high(x));
    __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_add_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
}

INLINE float f_largest(floats x) {
    floats8 y = _mm256_max_ps(f_low(x), f_high(x));
    __m128 z = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_max_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)));
}

INLINE float f_least(floats x) {
    floats8 y = _mm256_min_ps(f_low(x), f_high(x));
    __m128 z = _mm_min_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_min_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_min_ss(z, _mm_movehdup_ps(z)));
}

INLINE int32_t i_sum(ints x) {
    ints8 y = _mm256_add_epi32(i_low(x), i_high(x));
    __m128i z = _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    z = _mm_add_epi32(z, _mm_shuffle_epi32(z, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(z, _mm_shuffle_epi32(z, 0xb1)));
}

INLINE int32_t i_largest(ints x) {
    ints8 y = _mm256_max_epi32(i_low(x), i_high(x));
    __m128i z = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    z = _mm_max_epi32(z, _mm_shuffle_epi32(z, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(z, _mm_shuffle_epi32(z, 0xb1)));
}

INLINE double d_sum(doubles x) {
    __m256d y = d_halves(x);
    __m128d z = _mm_add_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_add_sd(z, _mm_unpackhi_pd(z, z)));
}

INLINE float float_of_half(uint16_t bits) { return _cvtsh_ss(bits); }

#endif
