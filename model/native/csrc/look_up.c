/* Rows of a table by their numbers: as they are, or what they say in fp32.
 *
 * Of tokens their embeddings, of positions what turns heads there, of a step the tokens that are asked
 * for. Nothing is rounded: 16 bits are a part of the 32, and a byte times a scale of 11 bits fits in 24.
 * Of a row that there is not each bit is set: floats of any width are then no numbers, and logits tell.
 */
#include "pool.h"
#include "simd.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    GROUP = 32,  /* bytes that share a scale */
    AT_ONCE = 4  /* rows that a thread takes */
};

enum form { AS_IT_IS, HALVES, BFLOATS, BYTES };

struct look_up_args {
    const void *table;      /* [num_tables, num_rows, width]: bytes as they are, or numbers of a form */
    const uint16_t *scales; /* [num_rows, width / GROUP] fp16 of BYTES, else NULL */
    const int64_t *ids;     /* [num_ids] */
    void *rows;             /* [num_tables, num_ids, width]: the same bytes, or fp32 */
    int64_t num_rows, width;
    int num_tables, num_ids, form;
};

static void widen_halves(const uint16_t *from, float *to, int width) {
    for (int i = 0; i < width; i += WIDTH)
        f_store_first(to + i, width - i, f_load_half(from + i, width - i));
}

static void widen_bfloats(const uint16_t *from, uint32_t *to, int64_t width) {
    for (int64_t i = 0; i < width; i++) to[i] = (uint32_t)from[i] << 16;
}

static void scale_bytes(const int8_t *from, const uint16_t *scales, float *to, int width) {
    float scale[WIDTH];
    for (int i = 0; i < width; i += GROUP) {
        f_store(scale, f_load_half(scales + i / GROUP, 1));
        for (int half = i; half < i + GROUP; half += WIDTH)
            f_store(to + half, f_mul(f_load_first_bytes(from + half, WIDTH), f_all(scale[0])));
    }
}

static void look_up_row(const struct look_up_args *args, int64_t from, int64_t to) {
    size_t width = (size_t)args->width, at = (size_t)from * width;
    float *row = (float *)args->rows + (size_t)to * width;
    switch ((enum form)args->form) {
    case AS_IT_IS:
        memcpy((char *)args->rows + (size_t)to * width, (const char *)args->table + at, width);
        break;
    case HALVES: widen_halves((const uint16_t *)args->table + at, row, (int)width); break;
    case BFLOATS: widen_bfloats((const uint16_t *)args->table + at, (uint32_t *)row, args->width); break;
    case BYTES:
        scale_bytes((const int8_t *)args->table + at, args->scales + at / GROUP, row, (int)width);
    }
}

static void look_up_nothing(const struct look_up_args *args, int64_t to) {
    size_t bytes = (size_t)args->width * (args->form == AS_IT_IS ? 1 : sizeof(float));
    memset((char *)args->rows + (size_t)to * bytes, 0xff, bytes);
}

operation look_up;

void look_up(const void *data, struct team *team) {
    const struct look_up_args *args = data;
    int num_rows = args->num_tables * args->num_ids;
    for (int first; (first = next_item(team) * AT_ONCE) < num_rows;)
        for (int i = first; i < first + AT_ONCE && i < num_rows; i++) {
            int64_t table = i / args->num_ids, id = args->ids[i % args->num_ids];
            if (id < 0 || id >= args->num_rows) look_up_nothing(args, i);
            else look_up_row(args, table * args->num_rows + id, i);
        }
}
