/*
 * MaxSim over coded pages, where they lie, without decoding them to floats. The numbers are those of numpy_cpu.py to
 * the last bit, whatever the processor: products of levels are whole numbers.
 *
 * How the work is laid out. Some token vectors of a page at a time are unpacked into a *tile* of bytes that stays in
 * the first-level cache. The tokens of the query stand in the lanes of the registers, so the best of many rows is a
 * vertical maximum: nothing is added across lanes, and no matrix of similarities is written. A step takes four bytes
 * of a row, repeated in all lanes, times four levels of each query token.
 *
 * The order of a row's levels is whatever unpacks fastest, and the query is put into the same order, once. With n
 * levels to a byte, the bytes of many rows are shifted and masked as one long vector, once for each of n *planes*:
 *
 *     tile[plane][row][byte]      holds level plane * B + byte of the row, where the row has B bytes of codes
 *
 * What a tile holds is not the level itself but the level plus an offset, which makes it an unsigned byte. A sum of
 * products starts from -offset times the sum of the query token's levels instead of zero, and so ends right.
 *
 * Compiled with MAXSIM_CORE_ONLY, this file needs no Python: tests/native does so.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
typedef uint32_t wide_t __attribute__((vector_size(16)));
#else
#define INLINE static inline
#define PREFETCH(address) ((void)(address))
typedef uint32_t wide_t;
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "codes and scales are read as little-endian; this processor takes the NumPy kernel"
#endif

#define ROWS 12              /* rows multiplied at once: 12 rows x 32 lanes of sums fill 24 of 32 registers */
#define TILE_ROWS (2 * ROWS) /* rows unpacked at once: 3 KiB at 128 dimensions, 24 KiB at 1024 */
#define LANES 8              /* query tokens are padded to a multiple of this */
#define MAX_WIDTH 65536      /* 255 * 127 * MAX_WIDTH is below 2^31: no sum overflows */

typedef struct {
    const uint8_t *bytes;
    int64_t size;
} buffer_t;

/* One call: a query, and the pages to score with it. */
typedef struct {
    const int8_t *levels;      /* (n_query, width), from -127 */
    const float *query_scales; /* (n_query,) */
    int64_t n_query, width;
    int bits, has_token_scales;
    int64_t row_bytes;
    const buffer_t *buffers;
    int64_t n_buffers;
    int64_t begin, end; /* the pages to score, of n_pages */
    int64_t n_pages;
    const int64_t *which, *starts, *lengths; /* (n_pages,) each: buffer, first byte, token vectors */
    const float *page_scales;                /* (n_pages,) */
    float *out;                              /* (n_pages,) */
} job_t;

/* What scoring works with: a tile, and what to multiply it with. */
typedef struct {
    uint8_t *tile;        /* [planes][TILE_ROWS][row] */
    size_t rows;          /* in use: ROWS to TILE_ROWS */
    size_t row, planes;   /* row: bytes, a multiple of 4 */
    size_t lanes;         /* of the whole query: a multiple of LANES */
    int8_t *query;        /* groups of lanes, one after the other; in each, [planes * row / 4][lanes of the group][4] */
    int32_t *start;       /* (lanes,) what a sum starts from */
    float *scales;        /* (rows,) token scales */
    float *best;          /* (lanes,) the page's largest product so far */
    int bits, has_token_scales;
    size_t row_bytes;     /* of codes, as they lie */
    const uint8_t *ahead; /* codes of the next tile: ahead_size bytes */
    size_t ahead_size;
    size_t padded_row;    /* of codes, as they are unpacked: a multiple of 4 */
    uint8_t *padded;      /* (TILE_ROWS, padded_row), used if rows must be padded */
    void *memory;         /* holds all of these */
} plan_t;

/* Ask for as many rows of the next tile's codes as are being multiplied of this one: all at once would be more than
   the processor can wait for. */
INLINE void prefetch(const plan_t *p, size_t done, size_t rows) {
    size_t end = (done + rows) * p->row_bytes;
    for (size_t i = done * p->row_bytes; i < end && i < p->ahead_size; i += 64) PREFETCH(p->ahead + i);
}

/* ---- a tile times the query, for each kind of processor ------------------------------------------------------- */

static void multiply_scalar(const plan_t *p) {
    const int8_t *query = p->query;
    for (size_t lane = 0; lane < p->lanes; lane += LANES, query += p->planes * p->row * LANES)
        for (size_t r = 0; r < p->rows; r++) {
            int32_t sum[LANES];
            memcpy(sum, p->start + lane, sizeof sum);
            const int8_t *q = query;
            for (size_t plane = 0; plane < p->planes; plane++) {
                const uint8_t *row = p->tile + (plane * TILE_ROWS + r) * p->row;
                for (size_t byte = 0; byte < p->row; byte += 4, q += 4 * LANES)
                    for (size_t l = 0; l < LANES; l++)
                        for (size_t b = 0; b < 4; b++) sum[l] += row[byte + b] * q[4 * l + b];
            }
            for (size_t l = 0; l < LANES; l++) {
                float product = p->has_token_scales ? (float)sum[l] * p->scales[r] : (float)sum[l];
                if (product > p->best[lane + l]) p->best[lane + l] = product;
            }
        }
}

#if defined(__x86_64__) && defined(__GNUC__)
#define X86
#include <immintrin.h>
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define AVX2 __attribute__((target("avx2")))

/* best = max(best, sums * scales) over the rows. */
#define BEST(mm, type, sums, rows, scales, best)                                         \
    do {                                                                                 \
        type most = mm##_loadu_ps(best);                                                 \
        _Pragma("GCC unroll 12") for (int r = 0; r < (rows); r++) {                      \
            type product = mm##_cvtepi32_ps(sums[r]);                                    \
            if (scales) product = mm##_mul_ps(product, mm##_set1_ps(scales[r]));         \
            most = mm##_max_ps(most, product);                                           \
        }                                                                                \
        mm##_storeu_ps(best, most);                                                      \
    } while (0)

/* sum += four bytes times four levels. Inline assembly, because GCC 12 spills the sums of the intrinsic. */
#define DOT(sum, bytes, levels) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(levels))

/* 16 * wide + 8 * narrow lanes. */
INLINE VNNI void vnni_group(const plan_t *p, const int8_t *group, size_t lane, int wide, int narrow) {
    const int32_t *start = p->start + lane;
    float *best = p->best + lane;
    for (size_t done = 0; done < p->rows; done += ROWS) {
        size_t first = done + ROWS <= p->rows ? done : p->rows - ROWS; /* a row seen twice changes no maximum */
        if (lane == 0) prefetch(p, done, ROWS);
        __m512i a[ROWS], b[ROWS], query_a, query_b;
        __m256i c[ROWS], query_c;
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            if (wide > 0) a[r] = _mm512_loadu_si512(start);
            if (wide > 1) b[r] = _mm512_loadu_si512(start + 16);
            if (narrow) c[r] = _mm256_loadu_si256((const __m256i *)(start + 16 * wide));
        }
        const int8_t *query = group;
        for (size_t plane = 0; plane < p->planes; plane++) {
            const uint8_t *bytes = p->tile + (plane * TILE_ROWS + first) * p->row;
            for (size_t step = 0; step < p->row; step += 4, bytes += 4, query += 64 * wide + 32 * narrow) {
                if (wide > 0) query_a = _mm512_loadu_si512(query);
                if (wide > 1) query_b = _mm512_loadu_si512(query + 64);
                if (narrow) query_c = _mm256_loadu_si256((const __m256i *)(query + 64 * wide));
#pragma GCC unroll 12
                for (int r = 0; r < ROWS; r++) {
                    int32_t four;
                    memcpy(&four, bytes + (size_t)r * p->row, 4);
                    __m512i repeated = _mm512_set1_epi32(four);
                    if (wide > 0) DOT(a[r], repeated, query_a);
                    if (wide > 1) DOT(b[r], repeated, query_b);
                    if (narrow) DOT(c[r], _mm512_castsi512_si256(repeated), query_c);
                }
            }
        }
        const float *scales = p->has_token_scales ? p->scales + first : NULL;
        if (wide > 0) BEST(_mm512, __m512, a, ROWS, scales, best);
        if (wide > 1) BEST(_mm512, __m512, b, ROWS, scales, best + 16);
        if (narrow) BEST(_mm256, __m256, c, ROWS, scales, best + 16 * wide);
    }
}

static VNNI void multiply_vnni(const plan_t *p) {
    size_t lane = 0, level_bytes = p->planes * p->row;
    for (; lane + 32 <= p->lanes; lane += 32) vnni_group(p, p->query + lane * level_bytes, lane, 2, 0);
    const int8_t *rest = p->query + lane * level_bytes;
    if (p->lanes - lane == 24) vnni_group(p, rest, lane, 1, 1);
    if (p->lanes - lane == 16) vnni_group(p, rest, lane, 1, 0);
    if (p->lanes - lane == 8) vnni_group(p, rest, lane, 0, 1);
}

#define AVX2_ROWS 4 /* of two registers: 8 of 16 hold sums */

/* Pairs of products, added in 16 bits. The first factor of vpmaddubsw is unsigned: signed bytes lend their sign to the
   query, and two products of 128 * 127 fit. */
INLINE AVX2 __m256i avx2_pairs(__m256i bytes, __m256i query, int is_signed) {
    if (is_signed) return _mm256_maddubs_epi16(_mm256_abs_epi8(bytes), _mm256_sign_epi8(query, bytes));
    return _mm256_maddubs_epi16(bytes, query);
}

/* `steps` steps of 8 * n lanes, added up in 16 bits; of codes, at most 30, four fit: 4 * 2 * 30 * 127 = 30480. */
INLINE AVX2 void avx2_steps(__m256i sums[2][AVX2_ROWS], const uint8_t *bytes, size_t row, const __m256i *query, int n,
                            int steps, int is_signed) {
#pragma GCC unroll 4
    for (int r = 0; r < AVX2_ROWS; r++) {
        __m256i repeated[4];
#pragma GCC unroll 4
        for (int k = 0; k < steps; k++) {
            int32_t four;
            memcpy(&four, bytes + (size_t)r * row + 4 * (size_t)k, 4);
            repeated[k] = _mm256_set1_epi32(four);
        }
#pragma GCC unroll 2
        for (int i = 0; i < n; i++) {
            __m256i pairs = avx2_pairs(repeated[0], query[i], is_signed);
#pragma GCC unroll 4
            for (int k = 1; k < steps; k++)
                pairs = _mm256_add_epi16(pairs, avx2_pairs(repeated[k], query[k * n + i], is_signed));
            sums[i][r] = _mm256_add_epi32(sums[i][r], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
    }
}

/* 8 * n lanes. */
INLINE AVX2 void avx2_group(const plan_t *p, const int8_t *group, size_t lane, int n, int is_signed) {
    for (size_t done = 0; done < p->rows; done += AVX2_ROWS) {
        size_t first = done + AVX2_ROWS <= p->rows ? done : p->rows - AVX2_ROWS;
        if (lane == 0) prefetch(p, done, AVX2_ROWS);
        __m256i sums[2][AVX2_ROWS];
        for (int i = 0; i < n; i++)
            for (int r = 0; r < AVX2_ROWS; r++)
                sums[i][r] = _mm256_loadu_si256((const __m256i *)(p->start + lane + 8 * i));
        const __m256i *query = (const __m256i *)group; /* aligned: a step of a group takes 32 * n bytes */
        for (size_t plane = 0; plane < p->planes; plane++) {
            const uint8_t *bytes = p->tile + (plane * TILE_ROWS + first) * p->row;
            size_t step = 0;
            for (; !is_signed && step + 16 <= p->row; step += 16, query += 4 * n)
                avx2_steps(sums, bytes + step, p->row, query, n, 4, 0);
            for (; step < p->row; step += 4, query += n)
                avx2_steps(sums, bytes + step, p->row, query, n, 1, is_signed);
        }
        const float *scales = p->has_token_scales ? p->scales + first : NULL;
        for (int i = 0; i < n; i++) BEST(_mm256, __m256, sums[i], AVX2_ROWS, scales, p->best + lane + 8 * i);
    }
}

static AVX2 void multiply_avx2(const plan_t *p) {
    size_t lane = 0, level_bytes = p->planes * p->row;
    for (; lane + 16 <= p->lanes; lane += 16) {
        if (p->bits == 8) avx2_group(p, p->query + lane * level_bytes, lane, 2, 1);
        if (p->bits != 8) avx2_group(p, p->query + lane * level_bytes, lane, 2, 0);
    }
    if (lane < p->lanes && p->bits == 8) avx2_group(p, p->query + lane * level_bytes, lane, 1, 1);
    if (lane < p->lanes && p->bits != 8) avx2_group(p, p->query + lane * level_bytes, lane, 1, 0);
}
#endif

#if defined(__aarch64__) && \
    (defined(__ARM_FEATURE_DOTPROD) || (defined(__GNUC__) && !defined(__clang__)) || __clang_major__ >= 16)
#define ARM
#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif
#ifdef __ARM_FEATURE_DOTPROD
#define NEON
#elif defined(__clang__)
#define NEON __attribute__((target("dotprod")))
#else
#define NEON __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define NEON_ROWS 6 /* of four registers: 24 of 32 hold sums */

/* 4 * n lanes. */
INLINE NEON void neon_group(const plan_t *p, const int8_t *group, size_t lane, int n) {
    for (size_t done = 0; done < p->rows; done += NEON_ROWS) {
        size_t first = done + NEON_ROWS <= p->rows ? done : p->rows - NEON_ROWS;
        if (lane == 0) prefetch(p, done, NEON_ROWS);
        int32x4_t sums[4][NEON_ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
#pragma GCC unroll 6
            for (int r = 0; r < NEON_ROWS; r++) sums[i][r] = vld1q_s32(p->start + lane + 4 * i);
        const int8_t *query = group;
        for (size_t plane = 0; plane < p->planes; plane++) {
            const uint8_t *bytes = p->tile + (plane * TILE_ROWS + first) * p->row;
            for (size_t step = 0; step < p->row; step += 4, bytes += 4, query += 16 * n)
#pragma GCC unroll 6
                for (int r = 0; r < NEON_ROWS; r++) {
                    int8x16_t four = vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(bytes + (size_t)r * p->row)));
#pragma GCC unroll 4
                    for (int i = 0; i < n; i++) sums[i][r] = vdotq_s32(sums[i][r], four, vld1q_s8(query + 16 * i));
                }
        }
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            float32x4_t most = vld1q_f32(p->best + lane + 4 * i);
#pragma GCC unroll 6
            for (int r = 0; r < NEON_ROWS; r++) {
                float32x4_t product = vcvtq_f32_s32(sums[i][r]);
                if (p->has_token_scales) product = vmulq_n_f32(product, p->scales[first + (size_t)r]);
                most = vmaxq_f32(most, product);
            }
            vst1q_f32(p->best + lane + 4 * i, most);
        }
    }
}

static NEON void multiply_neon(const plan_t *p) {
    size_t lane = 0, level_bytes = p->planes * p->row;
    for (; lane + 16 <= p->lanes; lane += 16) neon_group(p, p->query + lane * level_bytes, lane, 4);
    if (lane < p->lanes) neon_group(p, p->query + lane * level_bytes, lane, 2);
}
#endif

/* ---- from codes to tiles -------------------------------------------------------------------------------------- */

/* Exactly the half float's value; infinities and NaN become those of float. */
INLINE float from_half(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float value;
    memcpy(&value, &bits, 4);
    value *= 0x1p112f; /* the difference of the exponents' biases; makes subnormals normal */
    memcpy(&bits, &value, 4);
    bits |= (half & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&value, &bits, 4);
    return value;
}

/* Four bytes at once, as no processor shifts bytes; the caller masks what a shift carries over to the next byte. */
INLINE uint32_t shifted(const uint8_t *bytes, int right) {
    uint32_t four;
    memcpy(&four, bytes, 4);
    return right < 0 ? four << -right : four >> right;
}

INLINE void unpack_plane(const uint8_t *codes, size_t size, int bits, int plane, uint8_t *tile) {
    for (size_t i = 0; i < size; i += 4) {
        uint32_t four = shifted(codes + i, bits * plane - 1) & ((1u << bits) - 1) * 0x02020202u;
        memcpy(tile + i, &four, 4);
    }
}

/* Three bits: a row is `row` bytes with two bits of each of four levels, then half as many with the third bit of
   eight, in which the first half of a plane's row has bit 2 * plane and the second half the next one. */
#define DEFINE_UNPACK3(name, word)                                                            \
    INLINE void name(const uint8_t *codes, size_t rows, size_t row, uint8_t *tile) {          \
        size_t plane = TILE_ROWS * row;                                                       \
        for (; rows > 0; rows--, codes += row / 2 * 3, tile += row)                           \
            for (size_t at = 0; at < row; at += sizeof(word)) {                               \
                word low, high, out;                                                          \
                memcpy(&low, codes + at, sizeof low);                                         \
                memcpy(&high, codes + row + (at < row / 2 ? at : at - row / 2), sizeof high); \
                if (at < row / 2) high <<= 1;                                                 \
                out = (low << 1 & 0x06060606u) | (high << 2 & 0x08080808u);                   \
                memcpy(tile + at, &out, sizeof out);                                          \
                out = (low >> 1 & 0x06060606u) | (high & 0x08080808u);                        \
                memcpy(tile + plane + at, &out, sizeof out);                                  \
                out = (low >> 3 & 0x06060606u) | (high >> 2 & 0x08080808u);                   \
                memcpy(tile + 2 * plane + at, &out, sizeof out);                              \
                out = (low >> 5 & 0x06060606u) | (high >> 4 & 0x08080808u);                   \
                memcpy(tile + 3 * plane + at, &out, sizeof out);                              \
            }                                                                                 \
    }
DEFINE_UNPACK3(unpack3, uint32_t)
DEFINE_UNPACK3(unpack3_wide, wide_t) /* where row / 2 is a multiple of its size */

/* Codes of up to four bits become 2 * code, bytes of int8 get `flip`, 0 or 0x80, added. */
INLINE void unpack(const uint8_t *codes, size_t rows, size_t row, int bits, uint8_t flip, uint8_t *tile) {
#define PLANE(n) unpack_plane(codes, rows *row, bits, n, tile + n * TILE_ROWS * row)
    if (bits == 8)
        for (size_t i = 0; i < rows * row; i++) tile[i] = codes[i] ^ flip;
    if (bits == 4) PLANE(0), PLANE(1);
    if (bits == 3 && row / 2 % sizeof(wide_t) == 0)
        unpack3_wide(codes, rows, row, tile);
    else if (bits == 3)
        unpack3(codes, rows, row, tile);
    if (bits == 2) PLANE(0), PLANE(1), PLANE(2), PLANE(3);
    if (bits == 1) PLANE(0), PLANE(1), PLANE(2), PLANE(3), PLANE(4), PLANE(5), PLANE(6), PLANE(7);
#undef PLANE
}

/* ---- pages ---------------------------------------------------------------------------------------------------- */

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Allocate, and put the query into the order of the tile, in groups of at most `widest` lanes. 0 if memory is short. */
static int make_plan(const job_t *job, size_t widest, int flip, plan_t *p) {
    size_t width = (size_t)job->width, n_query = (size_t)job->n_query;
    p->bits = job->bits, p->has_token_scales = job->has_token_scales;
    p->planes = job->bits == 3 ? 4 : 8 / (size_t)job->bits;
    p->row = round_up(width / p->planes, 4);
    p->row_bytes = (size_t)job->row_bytes;
    p->padded_row = round_up(p->row_bytes, 4);
    p->lanes = round_up(n_query, LANES);
    size_t levels = p->planes * p->row; /* of a row, padded */
    size_t sizes[] = {TILE_ROWS * levels, TILE_ROWS * p->padded_row, TILE_ROWS * 4,
                      p->lanes * levels,  p->lanes * 4,              p->lanes * 4};
    size_t total = 64;
    for (int i = 0; i < 6; i++) total += round_up(sizes[i], 64);
    p->memory = calloc(1, total);
    if (!p->memory) return 0;
    uint8_t *next = (uint8_t *)p->memory + (64 - (uintptr_t)p->memory % 64);
    void *places[6];
    for (int i = 0; i < 6; next += round_up(sizes[i], 64), i++) places[i] = next;
    p->tile = places[0], p->padded = places[1], p->scales = places[2];
    p->query = places[3], p->start = places[4], p->best = places[5];

    int32_t offset = job->bits == 8 ? flip : (1 << job->bits) - 1;
    const int8_t *level = job->levels;
    for (size_t q = 0; q < n_query; q++) {
        size_t first = q / widest * widest, left = p->lanes - first;
        size_t group = left < widest ? left : widest; /* this one's lanes, from `first` */
        int8_t *query = p->query + first * levels + (q - first) * 4;
        for (size_t plane = 0; plane < p->planes; plane++)
            for (size_t byte = 0; byte < width / p->planes; byte++, level++) {
                size_t at = plane * p->row + byte;
                query[at / 4 * 4 * group + at % 4] = *level;
                p->start[q] -= offset * *level;
            }
    }
    return 1;
}

/* Unpack p->rows rows of a page, and their token scales; if these are fewer than ROWS, the last one several times. */
INLINE void load_tile(plan_t *p, const uint8_t *codes, const uint8_t *halves, uint8_t flip) {
    if (p->padded_row != p->row_bytes) {
        for (size_t r = 0; r < p->rows; r++)
            memcpy(p->padded + r * p->padded_row, codes + r * p->row_bytes, p->row_bytes);
        codes = p->padded;
    }
    unpack(codes, p->rows, p->row, p->bits, flip, p->tile);
    for (size_t r = 0; r < p->rows && p->has_token_scales; r++) {
        uint16_t half;
        memcpy(&half, halves + 2 * r, 2);
        p->scales[r] = from_half(half);
    }
    for (; p->rows < ROWS; p->rows++) {
        p->scales[p->rows] = p->scales[p->rows - 1];
        for (size_t plane = 0; plane < p->planes; plane++) {
            uint8_t *to = p->tile + (plane * TILE_ROWS + p->rows) * p->row;
            memcpy(to, to - p->row, p->row);
        }
    }
}

/* Find out which codes come after those of this page up to `row`. */
INLINE void look_ahead(const job_t *job, int64_t page, size_t row, plan_t *p) {
    p->ahead_size = 0;
    if (row == (size_t)job->lengths[page]) page++, row = 0;
    if (page == job->end) return;
    size_t n_rows = (size_t)job->lengths[page];
    const uint8_t *codes = job->buffers[job->which[page]].bytes + job->starts[page];
    p->ahead = codes + row * p->row_bytes;
    p->ahead_size = (n_rows - row < TILE_ROWS ? n_rows - row : TILE_ROWS) * p->row_bytes;
    if (p->has_token_scales) PREFETCH(codes + n_rows * p->row_bytes + 2 * row);
}

/* Score all pages; compiled once for each kind of processor. Returns 0 if memory is short. */
INLINE int score_pages(const job_t *job, void (*multiply)(const plan_t *), size_t widest, uint8_t flip) {
    plan_t plan = {0};
    if (!make_plan(job, widest, flip, &plan)) return 0;
    for (int64_t page = job->begin; page < job->end; page++) {
        size_t n_rows = (size_t)job->lengths[page];
        if (n_rows == 0) {
            job->out[page] = -(float)job->n_query;
            continue;
        }
        const uint8_t *codes = job->buffers[job->which[page]].bytes + job->starts[page];
        const uint8_t *halves = codes + n_rows * plan.row_bytes;
        for (size_t lane = 0; lane < plan.lanes; lane++) plan.best[lane] = -INFINITY;
        for (size_t done = 0; done < n_rows; done += TILE_ROWS) {
            size_t first = n_rows >= ROWS && done > n_rows - ROWS ? n_rows - ROWS : done; /* rather twice than few */
            plan.rows = n_rows - first < TILE_ROWS ? n_rows - first : TILE_ROWS;
            look_ahead(job, page, first + plan.rows, &plan);
            load_tile(&plan, codes + first * plan.row_bytes, halves + 2 * first, flip);
            multiply(&plan);
        }
        double total = 0;
        for (int64_t q = 0; q < job->n_query; q++) total += (double)plan.best[q] * (double)job->query_scales[q];
        job->out[page] = (float)(total * (double)job->page_scales[page]);
    }
    free(plan.memory);
    return 1;
}

static int score_scalar(const job_t *job) { return score_pages(job, multiply_scalar, LANES, 0x80); }
#ifdef X86
static VNNI int score_vnni(const job_t *job) { return score_pages(job, multiply_vnni, 32, 0x80); }
static AVX2 int score_avx2(const job_t *job) { return score_pages(job, multiply_avx2, 16, 0); }
#endif
#ifdef ARM
static NEON int score_neon(const job_t *job) { return score_pages(job, multiply_neon, 16, 0); }
#endif

/* ---- which to take -------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int (*score)(const job_t *);
} isa_t;

#define MAX_ISAS 4

/* Fill in what this processor can run, the fastest first. */
static int usable_isas(isa_t *isas) {
    int n = 0;
#ifdef X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        isas[n++] = (isa_t){"avx512vnni", score_vnni};
    if (__builtin_cpu_supports("avx2")) isas[n++] = (isa_t){"avx2", score_avx2};
#endif
#ifdef ARM
    int has_dot = 0;
#ifdef __ARM_FEATURE_DOTPROD
    has_dot = 1;
#elif defined(__linux__)
    has_dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
    if (has_dot) isas[n++] = (isa_t){"neon", score_neon};
#endif
    isas[n++] = (isa_t){"scalar", score_scalar};
    return n;
}

/* Whether width, bits and row_bytes belong together. */
static int is_layout(const job_t *job) {
    int64_t unit = job->bits == 3 ? 32 : job->bits ? 8 / job->bits : 0;
    return (job->bits == 8 || (job->bits >= 1 && job->bits <= 4)) && job->width >= 1 && job->width <= MAX_WIDTH &&
           job->width % unit == 0 && job->row_bytes == job->width * job->bits / 8;
}

/* The first page to score whose block is not inside its buffer, or -1. */
static int64_t first_bad_page(const job_t *job) {
    int64_t row_bytes = job->row_bytes + (job->has_token_scales ? 2 : 0);
    for (int64_t page = job->begin; page < job->end; page++) {
        int64_t which = job->which[page], start = job->starts[page], length = job->lengths[page];
        if (which < 0 || which >= job->n_buffers) return page;
        int64_t size = job->buffers[which].size;
        if (start < 0 || start > size || length < 0 || length > (size - start) / row_bytes) return page;
    }
    return -1;
}

#ifndef MAXSIM_CORE_ONLY
/* ---- Python ---------------------------------------------------------------------------------------------------- */

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

/* Borrow a C-contiguous array of that many dimensions whose items are one of `formats`; 0 and an exception if not. */
static int borrow(PyObject *object, Py_buffer *view, const char *name, const char *formats, int item_size, int n_dims,
                  int writable) {
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags) < 0) return 0;
    const char *format = view->format ? view->format : "B";
    if (view->ndim == n_dims && view->itemsize == item_size && format[0] && !format[1] && strchr(formats, format[0]))
        return 1;
    PyErr_Format(PyExc_ValueError, "%s: expected %d dimensions of %d-byte items '%s', got %d of %zd-byte items '%s'",
                 name, n_dims, item_size, formats, view->ndim, view->itemsize, format);
    PyBuffer_Release(view);
    return 0;
}

enum { LEVELS, QUERY_SCALES, WHICH, STARTS, LENGTHS, PAGE_SCALES, OUT, N_ARRAYS };

static const struct {
    const char *name, *formats;
    int item_size, n_dims;
} ARRAYS[N_ARRAYS] = {
    {"levels", "b", 1, 2},   {"query_scales", "f", 4, 1}, {"which", "lq", 8, 1}, {"starts", "lq", 8, 1},
    {"lengths", "lq", 8, 1}, {"page_scales", "f", 4, 1},  {"out", "f", 4, 1},
};

/* Check what the arrays say about each other, then score without the GIL. Returns 0 and an exception on failure. */
static int run_job(job_t *job, const Py_buffer *views, const char *isa_name) {
    for (int i = WHICH; i < N_ARRAYS; i++)
        if (views[i].shape[0] != (Py_ssize_t)job->n_pages) {
            PyErr_Format(PyExc_ValueError, "%s has %zd entries for %lld pages", ARRAYS[i].name, views[i].shape[0],
                         (long long)job->n_pages);
            return 0;
        }
    if (views[QUERY_SCALES].shape[0] != (Py_ssize_t)job->n_query || !is_layout(job)) {
        PyErr_Format(PyExc_ValueError, "(%lld, %lld) levels of the query do not fit %zd scales, or rows of %lld bytes "
                     "at %d bits", (long long)job->n_query, (long long)job->width, views[QUERY_SCALES].shape[0],
                     (long long)job->row_bytes, job->bits);
        return 0;
    }
    if (memchr(job->levels, -128, (size_t)(job->n_query * job->width))) {
        PyErr_SetString(PyExc_ValueError, "levels of the query go from -127 to 127, got -128");
        return 0;
    }
    if (job->begin < 0 || job->begin > job->end || job->end > job->n_pages) {
        PyErr_Format(PyExc_ValueError, "there are no pages %lld to %lld of %lld", (long long)job->begin,
                     (long long)job->end, (long long)job->n_pages);
        return 0;
    }
    int64_t bad = first_bad_page(job);
    if (bad >= 0) {
        PyErr_Format(PyExc_ValueError,
                     "page %lld: a block of %lld token vectors at byte %lld of buffer %lld is not inside that buffer",
                     (long long)bad, (long long)job->lengths[bad], (long long)job->starts[bad],
                     (long long)job->which[bad]);
        return 0;
    }
    isa_t isas[MAX_ISAS];
    int n_isas = usable_isas(isas), chosen = 0;
    while (isa_name && chosen < n_isas && strcmp(isas[chosen].name, isa_name) != 0) chosen++;
    if (chosen == n_isas) {
        PyErr_Format(PyExc_ValueError, "this processor or build has no kernel %s", isa_name);
        return 0;
    }
    int done;
    Py_BEGIN_ALLOW_THREADS
    done = isas[chosen].score(job);
    Py_END_ALLOW_THREADS
    if (!done) PyErr_NoMemory();
    return done;
}

PyDoc_STRVAR(SCORE_DOC,
    "score(levels, query_scales, bits, has_token_scales, row_bytes, buffers, which, starts, lengths, page_scales, out,"
    " begin, end, isa=None)\n--\n\n"
    "Write the MaxSim scores of the pages from begin to end into out; see docsearch/kernels/native.py for the arrays.");

static PyObject *score(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *arrays[N_ARRAYS], *buffers, *fast = NULL, *result = NULL;
    job_t job = {0};
    const char *isa_name = NULL;
    Py_ssize_t row_bytes, begin, end, borrowed = 0, n_arrays = 0;
    if (!PyArg_ParseTuple(args, "OOipnOOOOOOnn|z:score", &arrays[LEVELS], &arrays[QUERY_SCALES], &job.bits,
                          &job.has_token_scales, &row_bytes, &buffers, &arrays[WHICH], &arrays[STARTS],
                          &arrays[LENGTHS], &arrays[PAGE_SCALES], &arrays[OUT], &begin, &end, &isa_name))
        return NULL;
    Py_buffer views[N_ARRAYS], *buffer_views = NULL;
    buffer_t *regions = NULL;
    fast = PySequence_Tuple(buffers);
    if (!fast) return NULL;
    Py_ssize_t n_buffers = PyTuple_Size(fast);
    buffer_views = PyMem_Calloc((size_t)n_buffers + 1, sizeof *buffer_views);
    regions = PyMem_Calloc((size_t)n_buffers + 1, sizeof *regions);
    if (!buffer_views || !regions) {
        PyErr_NoMemory();
        goto end;
    }
    for (; n_arrays < N_ARRAYS; n_arrays++)
        if (!borrow(arrays[n_arrays], &views[n_arrays], ARRAYS[n_arrays].name, ARRAYS[n_arrays].formats,
                    ARRAYS[n_arrays].item_size, ARRAYS[n_arrays].n_dims, n_arrays == OUT))
            goto end;
    for (; borrowed < n_buffers; borrowed++) {
        Py_buffer *view = &buffer_views[borrowed];
        if (!borrow(PyTuple_GetItem(fast, borrowed), view, "buffers", "B", 1, 1, 0)) goto end;
        regions[borrowed] = (buffer_t){view->buf, view->len};
    }
    job.levels = views[LEVELS].buf, job.query_scales = views[QUERY_SCALES].buf;
    job.n_query = views[LEVELS].shape[0], job.width = views[LEVELS].shape[1];
    job.row_bytes = row_bytes, job.buffers = regions, job.n_buffers = n_buffers;
    job.begin = begin, job.end = end, job.n_pages = views[WHICH].shape[0];
    job.which = views[WHICH].buf, job.starts = views[STARTS].buf, job.lengths = views[LENGTHS].buf;
    job.page_scales = views[PAGE_SCALES].buf, job.out = views[OUT].buf;
    if (run_job(&job, views, isa_name)) result = Py_NewRef(Py_None);
end:
    while (borrowed) PyBuffer_Release(&buffer_views[--borrowed]);
    while (n_arrays) PyBuffer_Release(&views[--n_arrays]);
    PyMem_Free(buffer_views);
    PyMem_Free(regions);
    Py_DECREF(fast);
    return result;
}

PyDoc_STRVAR(ISAS_DOC,
    "isas()\n--\n\nThe names of the kernels this processor can run, the fastest, which is used, first.");

static PyObject *isas(PyObject *self, PyObject *nothing) {
    (void)self, (void)nothing;
    isa_t usable[MAX_ISAS];
    int n = usable_isas(usable);
    PyObject *names = PyTuple_New(n);
    for (int i = 0; names && i < n; i++) {
        PyObject *name = PyUnicode_FromString(usable[i].name);
        if (!name || PyTuple_SetItem(names, i, name) < 0) Py_CLEAR(names);
    }
    return names;
}

static PyMethodDef METHODS[] = {
    {"score", score, METH_VARARGS, SCORE_DOC},
    {"isas", isas, METH_NOARGS, ISAS_DOC},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_native", NULL, 0, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&MODULE); }
#endif
