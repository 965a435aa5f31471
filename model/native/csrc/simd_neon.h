/* simd.h in NEON of ARM v8.2: four registers each, of 32. */
#ifndef SIMD_NEON_H
#define SIMD_NEON_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

typedef struct { float32x4_t a, b, c, d; } floats;
typedef struct { int32x4_t a, b, c, d; } ints;
typedef struct { float64x2_t a, b, c, d; } doubles;
typedef struct { uint32x4_t a, b, c, d; } lanes; /* all bits of a lane, or none */

enum { REGISTERS = 8 }; /* for one of `floats` each */

#define OF_ONE(name, to, from, op)                                                                 \
    INLINE to name(from x) { return (to){op(x.a), op(x.b), op(x.c), op(x.d)}; }
#define OF_TWO(name, to, from, op)                                                                 \
    INLINE to name(from x, from y) {                                                               \
        return (to){op(x.a, y.a), op(x.b, y.b), op(x.c, y.c), op(x.d, y.d)};                       \
    }
#define OF_THREE(name, to, first, op)                                                              \
    INLINE to name(first x, to y, to z) {                                                          \
        return (to){op(x.a, y.a, z.a), op(x.b, y.b, z.b), op(x.c, y.c, z.c), op(x.d, y.d, z.d)};   \
    }

INLINE ints i_all(int32_t x) {
    int32x4_t v = vdupq_n_s32(x);
    return (ints){v, v, v, v};
}
INLINE void i_store(int32_t *p, ints x) {
    vst1q_s32(p, x.a), vst1q_s32(p + 4, x.b), vst1q_s32(p + 8, x.c), vst1q_s32(p + 12, x.d);
}
INLINE ints i_count(void) {
    static const int32_t each[4] = {0, 1, 2, 3};
    int32x4_t v = vld1q_s32(each);
    return (ints){v, vaddq_s32(v, vdupq_n_s32(4)), vaddq_s32(v, vdupq_n_s32(8)),
                  vaddq_s32(v, vdupq_n_s32(12))};
}
OF_TWO(i_greater, lanes, ints, vcgtq_s32)
OF_TWO(i_add, ints, ints, vaddq_s32)
OF_TWO(i_sub, ints, ints, vsubq_s32)
OF_TWO(i_and, ints, ints, vandq_s32)
OF_TWO(i_max, ints, ints, vmaxq_s32)
OF_THREE(i_select, ints, lanes, vbslq_s32)

INLINE lanes first_lanes(int count) { return i_greater(i_all(count), i_count()); }
INLINE uint32x4_t four_lanes_of(unsigned bits) {
    static const uint32_t each[4] = {1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32(bits), vld1q_u32(each));
}
INLINE lanes lanes_of(unsigned bits) {
    return (lanes){four_lanes_of(bits), four_lanes_of(bits >> 4), four_lanes_of(bits >> 8),
                   four_lanes_of(bits >> 12)};
}
INLINE unsigned four_bits_of(uint32x4_t m) {
    static const uint32_t each[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, vld1q_u32(each)));
}
INLINE unsigned bits_of(lanes m) {
    return four_bits_of(m.a) | four_bits_of(m.b) << 4 | four_bits_of(m.c) << 8 |
           four_bits_of(m.d) << 12;
}
OF_TWO(both, lanes, lanes, vandq_u32)
OF_TWO(either, lanes, lanes, vorrq_u32)
OF_TWO(without, lanes, lanes, vbicq_u32)

INLINE floats f_all(float x) {
    float32x4_t v = vdupq_n_f32(x);
    return (floats){v, v, v, v};
}
INLINE floats f_zero(void) { return f_all(0.0f); }
INLINE floats f_load(const float *p) {
    return (floats){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
INLINE void f_store(float *p, floats x) {
    vst1q_f32(p, x.a), vst1q_f32(p + 4, x.b), vst1q_f32(p + 8, x.c), vst1q_f32(p + 12, x.d);
}
INLINE floats f_load_first(const float *p, int count) {
    if (count >= WIDTH) return f_load(p);
    float copy[WIDTH] = {0};
    if (count > 0) memcpy(copy, p, (size_t)count * sizeof *p);
    return f_load(copy);
}
INLINE void f_store_first(float *p, int count, floats x) {
    if (count >= WIDTH) {
        f_store(p, x);
        return;
    }
    float copy[WIDTH];
    f_store(copy, x);
    if (count > 0) memcpy(p, copy, (size_t)count * sizeof *p);
}
INLINE float32x4_t f_load_half4(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
INLINE floats f_load_half(const uint16_t *p, int count) {
    uint16_t copy[WIDTH] = {0};
    if (count < WIDTH) {
        if (count > 0) memcpy(copy, p, (size_t)count * sizeof *p);
        p = copy;
    }
    return (floats){f_load_half4(p), f_load_half4(p + 4), f_load_half4(p + 8),
                    f_load_half4(p + 12)};
}
INLINE void f_store_half4(uint16_t *p, float32x4_t x) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
INLINE void f_store_half(uint16_t *p, int count, floats x) {
    uint16_t copy[WIDTH], *at = count < WIDTH ? copy : p;
    f_store_half4(at, x.a), f_store_half4(at + 4, x.b);
    f_store_half4(at + 8, x.c), f_store_half4(at + 12, x.d);
    if (count < WIDTH && count > 0) memcpy(p, copy, (size_t)count * sizeof *p);
}
INLINE floats f_load_first_bytes(const int8_t *p, int count) {
    int8_t copy[WIDTH] = {0};
    if (count < WIDTH) {
        if (count > 0) memcpy(copy, p, (size_t)count);
        p = copy;
    }
    int8x16_t bytes = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (floats){vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                    vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                    vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                    vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))};
}
INLINE float float_of_half(uint16_t bits) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
}

OF_TWO(f_add, floats, floats, vaddq_f32)
OF_TWO(f_sub, floats, floats, vsubq_f32)
OF_TWO(f_mul, floats, floats, vmulq_f32)
OF_TWO(f_div, floats, floats, vdivq_f32)
INLINE float32x4_t f_min4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
INLINE float32x4_t f_max4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
OF_TWO(f_min, floats, floats, f_min4) /* y, if one is a NaN */
OF_TWO(f_max, floats, floats, f_max4) /* y, if one is a NaN */
INLINE float32x4_t f_and4(float32x4_t x, float32x4_t y) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
INLINE float32x4_t f_or4(float32x4_t x, float32x4_t y) {
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(y)));
}
OF_TWO(f_and, floats, floats, f_and4)
OF_TWO(f_or, floats, floats, f_or4)
INLINE float32x4_t f_fma4(float32x4_t x, float32x4_t y, float32x4_t z) { return vfmaq_f32(z, x, y); }
INLINE float32x4_t f_fnma4(float32x4_t x, float32x4_t y, float32x4_t z) {
    return vfmsq_f32(z, x, y);
}
OF_THREE(f_fma, floats, floats, f_fma4)   /* xy + z */
OF_THREE(f_fnma, floats, floats, f_fnma4) /* z - xy */
OF_ONE(f_abs, floats, floats, vabsq_f32)
OF_ONE(f_round, floats, floats, vrndnq_f32) /* to the even one of two */

/* 2^n in two factors, of which the first leaves a number normal, so that the second alone rounds. */
INLINE float32x4_t f_power4(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
INLINE float32x4_t f_times_power4(float32x4_t x, float32x4_t n) {
    int32x4_t whole = vcvtnq_s32_f32(n), first = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(x, f_power4(first)), f_power4(vsubq_s32(whole, first)));
}
OF_TWO(f_times_power, floats, floats, f_times_power4) /* x is about 1, n at most 250 on either side */

INLINE uint32x4_t f_not_less4(float32x4_t x, float32x4_t y) { return vmvnq_u32(vcltq_f32(x, y)); }
OF_TWO(f_less, lanes, floats, vcltq_f32)
OF_TWO(f_not_less, lanes, floats, f_not_less4)
OF_TWO(f_at_most, lanes, floats, vcleq_f32)
OF_TWO(f_equal, lanes, floats, vceqq_f32)
OF_THREE(f_select, floats, lanes, vbslq_f32)

INLINE int32x4_t i_of4(float32x4_t x) { /* the nearest; a NaN is the least */
    return vbslq_s32(vceqq_f32(x, x), vcvtnq_s32_f32(x), vdupq_n_s32(INT32_MIN));
}
OF_ONE(i_of, ints, floats, i_of4)
OF_ONE(f_of, floats, ints, vcvtq_f32_s32)
OF_ONE(i_bits, ints, floats, vreinterpretq_s32_f32)
INLINE void i_store_bytes(int8_t *p, ints x) { /* cut to what a byte holds */
    int16x8_t low = vcombine_s16(vqmovn_s32(x.a), vqmovn_s32(x.b));
    int16x8_t high = vcombine_s16(vqmovn_s32(x.c), vqmovn_s32(x.d));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}

/* Lane i with i + 8, i + 4; then i + 2, i + 1. */
#define FOUR_OF(op, x) op(op(x.a, x.c), op(x.b, x.d))
INLINE float f_sum(floats x) {
    float32x4_t y = FOUR_OF(vaddq_f32, x);
    float32x2_t z = vadd_f32(vget_low_f32(y), vget_high_f32(y));
    return vget_lane_f32(z, 0) + vget_lane_f32(z, 1);
}
INLINE float f_largest(floats x) {
    float32x4_t y = FOUR_OF(f_max4, x);
    y = f_max4(y, vextq_f32(y, y, 2));
    return vgetq_lane_f32(f_max4(y, vextq_f32(y, y, 1)), 0);
}
INLINE float f_least(floats x) {
    float32x4_t y = FOUR_OF(f_min4, x);
    y = f_min4(y, vextq_f32(y, y, 2));
    return vgetq_lane_f32(f_min4(y, vextq_f32(y, y, 1)), 0);
}
INLINE int32_t i_sum(ints x) { return vaddvq_s32(FOUR_OF(vaddq_s32, x)); }
INLINE int32_t i_largest(ints x) { return vmaxvq_s32(FOUR_OF(vmaxq_s32, x)); }

INLINE doubles d_zero(void) {
    float64x2_t v = vdupq_n_f64(0);
    return (doubles){v, v, v, v};
}
INLINE doubles d_add8(doubles sums, float32x4_t low, float32x4_t high) {
    return (doubles){vaddq_f64(sums.a, vcvt_f64_f32(vget_low_f32(low))),
                     vaddq_f64(sums.b, vcvt_high_f64_f32(low)),
                     vaddq_f64(sums.c, vcvt_f64_f32(vget_low_f32(high))),
                     vaddq_f64(sums.d, vcvt_high_f64_f32(high))};
}
INLINE doubles d_add(doubles sums, floats x) { /* the first 8, then the others */
    return d_add8(d_add8(sums, x.a, x.b), x.c, x.d);
}
INLINE double d_sum(doubles x) { /* lane i with i + 4, i + 2, i + 1 */
    float64x2_t y = FOUR_OF(vaddq_f64, x);
    return vgetq_lane_f64(y, 0) + vgetq_lane_f64(y, 1);
}

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

/* 16 rows of 16 to 16 columns of 16. */
INLINE void transpose4(float32x4_t *w, float32x4_t *x, float32x4_t *y, float32x4_t *z) {
    float32x4x2_t t = vtrnq_f32(*w, *x), u = vtrnq_f32(*y, *z);
    *w = vcombine_f32(vget_low_f32(t.val[0]), vget_low_f32(u.val[0]));
    *x = vcombine_f32(vget_low_f32(t.val[1]), vget_low_f32(u.val[1]));
    *y = vcombine_f32(vget_high_f32(t.val[0]), vget_high_f32(u.val[0]));
    *z = vcombine_f32(vget_high_f32(t.val[1]), vget_high_f32(u.val[1]));
}
INLINE void transpose(floats r[WIDTH]) {
    for (int i = 0; i < WIDTH; i += 4) {
        transpose4(&r[i].a, &r[i + 1].a, &r[i + 2].a, &r[i + 3].a);
        transpose4(&r[i].b, &r[i + 1].b, &r[i + 2].b, &r[i + 3].b);
        transpose4(&r[i].c, &r[i + 1].c, &r[i + 2].c, &r[i + 3].c);
        transpose4(&r[i].d, &r[i + 1].d, &r[i + 2].d, &r[i + 3].d);
    }
    for (int i = 0; i < 4; i++) {
        floats w = r[i], x = r[i + 4], y = r[i + 8], z = r[i + 12];
        r[i] = (floats){w.a, x.a, y.a, z.a};
        r[i + 4] = (floats){w.b, x.b, y.b, z.b};
        r[i + 8] = (floats){w.c, x.c, y.c, z.c};
        r[i + 12] = (floats){w.d, x.d, y.d, z.d};
    }
}

#endif
