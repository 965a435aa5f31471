/* Each kernel over numbers made here, and a hash of all that it gives: to be compared between levels,
 * also those that another machine has. KERNEL is the file under test; one thread, so no OpenMP. */
#include KERNEL

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef KERNEL2
#include KERNEL2
#endif

void GOMP_parallel(void (*body)(void *), void *data, unsigned num_threads, unsigned flags) {
    (void)num_threads, (void)flags, body(data);
}
int omp_get_thread_num(void) { return 0; }
int omp_get_num_threads(void) { return 1; }

static uint64_t state = 1, hash = 0xcbf29ce484222325u;

static uint32_t bits(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static void *room(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(p, 0, (bytes + 127) / 64 * 64);
    return p;
}

/* Whole numbers times powers of two: exact, between -32 and 32, some of them zero. */
__attribute__((unused)) static float *numbers(size_t count) {
    float *p = room(count * sizeof *p);
    for (size_t i = 0; i < count; i++) {
        uint32_t b = bits();
        p[i] = (float)((int32_t)(b & 0xffffff) - 0x800000) / (float)(1 << (18 + (b >> 24) % 10));
        if (b >> 24 == 77) p[i] = 0;
    }
    return p;
}

__attribute__((unused)) static uint16_t *halves(size_t count) {
    uint16_t *p = room(count * sizeof *p);
    for (size_t i = 0; i < count; i++) p[i] = (uint16_t)(bits() & 0xc3ff) | (uint16_t)(bits() % 15 << 10);
    return p;
}

static void take(const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
}

static void all_of(int rows);

int main(void) {
    const int rows[] = {1, 2, 7, 8, 33};
    for (int i = 0; i < 5; i++) all_of(rows[i]);
    printf("%016llx\n", (unsigned long long)hash);
    return 0;
}

#if defined(OF_INT8_LINEAR)
static void all_of(int rows) {
    for (int shape = 0; shape < 2; shape++) {
        int in = shape ? 39 : 320, out = shape ? 49 : 100, groups = ceil_div(in, GROUP);
        size_t bytes = (size_t)ceil_div(out, ROWS) * groups * GROUP * ROWS;
        uint8_t *packed = room(bytes);
        float *scales = room(out * 4), *y = room((size_t)rows * out * 4);
        struct int8_pack_args pack = {numbers((size_t)in * out), packed, scales, in, out};
        run(int8_pack, &pack, 1);
        struct int8_linear_args args = {
            numbers((size_t)rows * in), y, packed, scales, numbers(out), room((size_t)rows * groups * GROUP),
            room((size_t)rows * groups * 4), room((size_t)rows * groups * 4), rows, in, out};
        run(int8_linear, &args, 1);
        take(packed, bytes), take(y, (size_t)rows * out * 4);
    }
}
#elif defined(OF_STORED_LINEAR)
static void all_of(int rows) {
    int in = 512, out = 50, groups = in / GROUP;
    for (int format = Q4_0; format <= MXFP4; format++) {
        struct layout l = layout_of((enum format)format);
        size_t bytes = panel_bytes(l, in);
        uint8_t *packed = room(2 * bytes);
        uint16_t *blocks = halves((size_t)out * (in / l.numbers) * l.bytes / 2);
        for (size_t i = 0; format == MXFP4 && i < (size_t)out * in / 32; i++) {
            uint8_t *power = (uint8_t *)blocks + i * 17;
            *power = (uint8_t)(100 + *power % 40);
        }
        struct stored_pack_args pack = {(uint8_t *)blocks, packed, format, 0, out, in};
        run(stored_pack, &pack, 1);
        struct segment segments[] = {{packed, (int64_t)bytes, format, 0, 30},
                                     {packed + bytes, (int64_t)bytes, format, 30, 2}};
        float *y = room((size_t)rows * 32 * 4);
        struct stored_linear_args args = {
            numbers((size_t)rows * in), y, numbers(32), segments,
            room((size_t)rows * groups * sizeof(struct rounded_group)), 2, rows, in, 32};
        run(stored_linear, &args, 1);
        take(packed, 2 * bytes), take(y, (size_t)rows * 32 * 4);
        run(stored_refine, &args, 1);
        take(y, (size_t)rows * 32 * 4);
    }
}
#elif defined(OF_FLOAT_LINEAR)
static void all_of(int rows) {
    int in = 1100, out = 100;
    float *y = room((size_t)rows * out * 4);
    struct float_linear_args args = {numbers((size_t)rows * in), y, numbers((size_t)3 * in * ROWS),
                                     numbers(out), rows, in, out};
    run(float_linear, &args, 1);
    take(y, (size_t)rows * out * 4);
}
#elif defined(OF_RMS_NORM)
operation rms_norm;
static void all_of(int rows) {
    int size = 100;
    float *stream = room((size_t)rows * size * 4), *normed = room((size_t)rows * size * 4);
    struct rms_norm_args args = {numbers((size_t)rows * size), numbers((size_t)rows * size), numbers(size),
                                 stream, normed, 1e-5f, rows, size};
    run(rms_norm, &args, 1);
    take(stream, (size_t)rows * size * 4), take(normed, (size_t)rows * size * 4);
}
#elif defined(OF_LATENT)
operation head_linear, latent_norm;
static void all_of(int rows) {
    int heads = 3, in = 100, out = 70, passed = 5, width = out + passed;
    float *y = room((size_t)rows * heads * width * 4), *normed = room((size_t)rows * in * 4);
    struct head_linear_args args = {
        numbers((size_t)rows * heads * (in + passed)), y, numbers((size_t)heads * 2 * in * PANEL),
        heads * (in + passed), in + passed, heads * width, width, rows, heads, in, out, passed};
    run(head_linear, &args, 1);
    struct latent_norm_args norm = {
        numbers((size_t)rows * in), numbers(in - passed), normed, in, 1e-6f, rows, in - passed, passed};
    run(latent_norm, &norm, 1);
    take(y, (size_t)rows * heads * width * 4), take(normed, (size_t)rows * in * 4);
}
#elif defined(OF_LAYER_NORM)
operation layer_norm;
static void all_of(int rows) {
    int size = 100;
    float *stream = room((size_t)rows * size * 4), *normed = room((size_t)rows * size * 4);
    struct layer_norm_args args = {numbers((size_t)rows * size), numbers((size_t)rows * size), numbers(size),
                                   numbers(size), stream, normed, 1e-5f, rows, size};
    run(layer_norm, &args, 1);
    take(stream, (size_t)rows * size * 4), take(normed, (size_t)rows * size * 4);
}
#elif defined(OF_ACTIVATE)
static void all_of(int rows) {
    int size = 100;
    float *y = room((size_t)rows * size * 4);
    for (int kind = SILU; kind <= CLAMPED_SWIGLU; kind++)
        for (int is_gated = 0; is_gated < 2; is_gated++) {
            struct activate_args args = {numbers((size_t)rows * size * 2), y, rows, size, kind, is_gated};
            run(activate, &args, 1);
            take(y, (size_t)rows * size * 4);
        }
}
#elif defined(OF_XIELU)
static void all_of(int rows) {
    int size = 100;
    float *y = room((size_t)rows * size * 4);
    struct xielu_args args = {numbers((size_t)rows * size), y, 0.3f, 0.7f, 0.5f, -1e-6f, rows, size};
    run(xielu, &args, 1);
    take(y, (size_t)rows * size * 4);
}
#elif defined(OF_ROPE_KV)
static void all_of(int rows) {
    int heads = 4, kv_heads = 2, dim = 20, half = 9;
    int64_t *slots = room((size_t)rows * 8);
    for (int i = 0; i < rows; i++) slots[i] = rows - 1 - i;
    for (int how = 0; how < 10; how++) {
        int number_bytes = how > 5 && how < 9 ? 1 : how % 2 ? 2 : 4;
        float *key_scales = number_bytes == 1 ? room((size_t)rows * kv_heads * 4) : NULL;
        float *value_scales = number_bytes == 1 ? room((size_t)rows * kv_heads * 4) : NULL;
        size_t query = (size_t)rows * heads * dim * 4, cache = (size_t)rows * kv_heads * dim * 4;
        float *q = room(query), *k = room(cache), *v = room(cache);
        float *gains = how < 2 || how == 6 ? NULL : numbers(dim);
        struct rope_kv_args args = {
            numbers((size_t)rows * 8 * dim), numbers((size_t)rows * half), numbers((size_t)rows * half),
            slots, gains, gains, how == 5 ? numbers(rows) : NULL, q, k, v, key_scales,
            value_scales, 1e-5f, 1e-6f, rows, heads, kv_heads, dim, half, number_bytes,
            how == 4 || how == 5 || how == 8, how == 9, how > 7, 1e-4f};
        run(rope_kv, &args, 1);
        take(q, query), take(k, cache), take(v, cache);
        if (key_scales) {
            take(key_scales, (size_t)rows * kv_heads * 4);
            take(value_scales, (size_t)rows * kv_heads * 4);
        }
    }
}
#elif defined(OF_PAGED_ATTENTION)
/* `rows` queries behind 100 keys, in two tiles of one sequence whose pages lie backwards. */
static void all_of(int rows) {
    int heads = 6, kv_heads = 2, page = 16, total = 100 + rows, pages = (total + page - 1) / page;
    int32_t table[16];
    for (int i = 0; i < 16; i++) table[i] = i < pages ? pages - 1 - i : 0;
    for (int how = 0; how < 24; how++) {
        int dim = how & 1 ? 20 : 64, is_shaped = how >> 1 & 1, is_shared = how >> 2 & 1;
        int number_bytes = 1 << (how >> 3);
        size_t scales = (size_t)pages * page * kv_heads;
        size_t kv = (size_t)pages * page * kv_heads * dim, out = (size_t)rows * heads * dim;
        struct score_args score = {8.0f, is_shaped ? 3.0f : 0.0f, is_shaped ? 70 : 0};
        int first = (rows + 1) / 2, num_tiles = rows > 1 ? 2 : 1, max_rows = first * heads / kv_heads;
        struct tile tiles[2] = {{0, 0, first, 100}, {0, first, rows - first, 100 + first}};
        size_t part = (size_t)padded(max_rows) + (size_t)max_rows * (WIDTH + padded(dim)) + 64;
        struct paged_attention_args args = {
            .query = numbers(out), .output = room(out * 4),
            .keys = number_bytes == 4 ? (void *)numbers(kv) : halves(kv), /* any bytes will do */
            .values = number_bytes == 4 ? (void *)numbers(kv) : halves(kv),
            .key_scales = number_bytes == 1 ? numbers(scales) : NULL,
            .value_scales = number_bytes == 1 ? numbers(scales) : NULL,
            .block_table = table, .tiles = tiles, .scratch = room(1 << 20),
            .parts = is_shared ? room(4 * part * num_tiles * kv_heads * 4) : NULL,
            .sinks = is_shaped ? numbers(heads) : NULL, .slopes = is_shaped ? numbers(heads) : NULL,
            .scratch_floats = 1 << 18, .part_floats = (int64_t)part, .score = &score,
            .num_tiles = num_tiles, .max_rows = max_rows, .max_blocks = 4, .table_width = 16,
            .block_size = page, .num_heads = heads, .num_kv_heads = kv_heads, .head_dim = dim,
            .value_dim = dim, .number_bytes = number_bytes};
        run(paged_attention, &args, 1);
        take(args.output, out * 4);
        args.values = (const char *)args.keys + 4 * number_bytes, args.value_dim = dim - 4;
        run(paged_attention, &args, 1); /* values that are a part of keys */
        take(args.output, (size_t)rows * heads * args.value_dim * 4);
    }
}
#elif defined(OF_SAMPLE)
static void all_of(int rows) {
    int size = 1999;
    uint16_t mask[125];
    for (int i = 0; i < 125; i++) mask[i] = (uint16_t)bits();
    for (int how = 0; how < 16; how++) {
        struct sample_row asked[33];
        int64_t tokens[33];
        for (int r = 0; r < rows; r++)
            asked[r] = (struct sample_row){r % 2 ? mask : NULL, 7 * r, how, 0.5f * (float)(r % 5),
                                           how & 1 ? 0.9f : 1, how & 2 ? 5 : INFINITY, how & 4 ? 40 : 0};
        float *distances = room((size_t)(size + WIDTH) * 4);
        struct sample_args args = {numbers((size_t)rows * size), asked, tokens, distances, room(64), rows, size};
        run(sample, &args, 1);
        take(tokens, sizeof *tokens * (size_t)rows);
    }
}
#elif defined(OF_DEQUANTIZE)
static void all_of(int rows) {
    const int bytes[] = {18, 20, 22, 24, 34, 144, 176, 210};
    for (int kind = Q4_0; kind <= Q6_K; kind++) {
        size_t out = (size_t)rows * (kind < Q4_K ? 32 : 256) * 4;
        uint16_t *blocks = halves((size_t)rows * bytes[kind] / 2);
        float *weights = room(out);
        struct dequantize_args args = {(uint8_t *)blocks, weights, rows, kind};
        run(dequantize, &args, 1);
        take(weights, out);
    }
}
#elif defined(OF_LOOK_UP)
/* Rows of two tables, the last ones that there are not, and of one that says numbers in each form. */
static void all_of(int rows) {
    int width = 96, num_rows = 40;
    int64_t *ids = room((size_t)rows * 8);
    for (int i = 0; i < rows; i++) ids[i] = i < 30 ? (int64_t)(bits() % 40) : i % 2 ? -1 : 40 + i;
    for (int form = AS_IT_IS; form <= BYTES; form++) {
        int num_tables = form == AS_IT_IS ? 2 : 1;
        size_t out = (size_t)num_tables * rows * width * (form == AS_IT_IS ? 1 : 4);
        float *found = room(out);
        struct look_up_args args = {halves((size_t)num_tables * num_rows * width), halves((size_t)num_rows * 3),
                                    ids, found, num_rows, width, num_tables, rows, form};
        run(look_up, &args, 1);
        take(found, out);
    }
}
#endif
