/*
 * Compares every kernel this processor can run with a plain one written here, on random pages, to the last bit, and
 * shows the check of bounds random nonsense. Built with sanitizers by `make sanitize`: every buffer is allocated to the
 * byte, so reading beside one ends the program.
 *
 *     fuzz [rounds] [seed]
 */
#define MAXSIM_CORE_ONLY
#include "../../docsearch/kernels/_native.c"

#include <stdio.h>

static uint64_t state;

static uint64_t draw(uint64_t below) { /* xorshift64*, Vigna 2016 */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (state * 0x2545F4914F6CDD1Dull >> 16) % below;
}

/* Level d of a row, by the description of the codecs, one number at a time. */
static int level(const uint8_t *row, int64_t width, int bits, int64_t d) {
    if (bits == 8) return (int8_t)row[d];
    if (bits == 3) {
        int64_t quarter = width / 4, eighth = width / 8;
        int low = row[d % quarter] >> 2 * (d / quarter) & 3, high = row[quarter + d % eighth] >> d / eighth & 1;
        return 2 * (low + 4 * high) - 7;
    }
    int64_t bytes = width * bits / 8;
    return 2 * (row[d % bytes] >> bits * (d / bytes) & ((1 << bits) - 1)) - ((1 << bits) - 1);
}

static float plain_half(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return (float)(half >> 15 ? -size : size);
}

static float plain_score(const job_t *job, int64_t page) {
    int64_t n_rows = job->lengths[page];
    const uint8_t *codes = job->buffers[job->which[page]].bytes + job->starts[page];
    if (n_rows == 0) return -(float)job->n_query;
    double total = 0;
    for (int64_t q = 0; q < job->n_query; q++) {
        float best = -INFINITY;
        for (int64_t r = 0; r < n_rows; r++) {
            int64_t sum = 0;
            for (int64_t d = 0; d < job->width; d++)
                sum += level(codes + r * job->row_bytes, job->width, job->bits, d) * job->levels[q * job->width + d];
            float product = (float)sum;
            if (job->has_token_scales) {
                const uint8_t *half = codes + n_rows * job->row_bytes + 2 * r;
                product *= plain_half((uint16_t)(half[0] | half[1] << 8));
            }
            if (product > best) best = product;
        }
        total += (double)best * (double)job->query_scales[q];
    }
    return (float)(total * (double)job->page_scales[page]);
}

static void *sized(size_t size) {
    void *memory = malloc(size);
    if (!memory && size) exit(3);
    return memory;
}

static int one_round(const isa_t *isas, int n_isas) {
    static const int BITS[] = {8, 4, 3, 2, 1}, UNIT[] = {1, 32, 32, 32, 8};
    int codec = (int)draw(5), extreme = draw(4) == 0;
    job_t job = {.bits = BITS[codec], .has_token_scales = codec >= 1 && codec <= 3};
    uint64_t widest = draw(8) == 0 ? 1200 : 160;
    job.width = UNIT[codec] * (int64_t)(1 + draw(1 + widest / (uint64_t)UNIT[codec]));
    job.row_bytes = job.width * job.bits / 8;
    job.n_query = (int64_t)draw(draw(8) == 0 ? 70 : 40);
    job.n_pages = (int64_t)draw(6);
    job.end = job.n_pages;
    job.n_buffers = 1 + (int64_t)draw(3);

    int8_t *levels = sized((size_t)(job.n_query * job.width));
    float *query_scales = sized((size_t)job.n_query * 4), *page_scales = sized((size_t)job.n_pages * 4);
    float *out = sized((size_t)job.n_pages * 4);
    int64_t *which = sized((size_t)job.n_pages * 8), *starts = sized((size_t)job.n_pages * 8);
    int64_t *lengths = sized((size_t)job.n_pages * 8), sizes[3] = {0};
    buffer_t buffers[3];
    for (int64_t i = 0; i < job.n_query * job.width; i++)
        levels[i] = (int8_t)(extreme ? (draw(9) ? 127 : -127) : (int)draw(255) - 127);
    for (int64_t q = 0; q < job.n_query; q++) query_scales[q] = (float)(1 + draw(1 << 20)) / (1 << 22);
    for (int64_t page = 0; page < job.n_pages; page++) { /* one after the other, with gaps, so that starts are odd */
        which[page] = (int64_t)draw((uint64_t)job.n_buffers);
        lengths[page] = (int64_t)(draw(5) ? draw(60) : draw(3));
        starts[page] = sizes[which[page]] + (int64_t)draw(4);
        sizes[which[page]] = starts[page] + lengths[page] * (job.row_bytes + 2 * job.has_token_scales);
        page_scales[page] = (float)(1 + draw(1 << 20)) / (1 << 22);
    }
    for (int i = 0; i < job.n_buffers; i++) {
        uint8_t *bytes = sized((size_t)sizes[i]);
        int fill = (int)draw(3);
        for (int64_t k = 0; k < sizes[i]; k++)
            bytes[k] = extreme ? (uint8_t[]){0x80, 0x7f, 0xff}[fill] : (uint8_t)draw(256);
        buffers[i] = (buffer_t){bytes, sizes[i]};
    }
    job.levels = levels, job.query_scales = query_scales, job.page_scales = page_scales, job.out = out;
    job.which = which, job.starts = starts, job.lengths = lengths, job.buffers = buffers;
    for (int64_t page = 0; page < job.n_pages && job.has_token_scales; page++) /* neither infinite nor NaN */
        for (int64_t r = 0; r < lengths[page]; r++)
            ((uint8_t *)buffers[which[page]].bytes)[starts[page] + lengths[page] * job.row_bytes + 2 * r + 1] &= 0xbb;

    int wrong = !is_layout(&job) || first_bad_page(&job) != -1;
    for (int i = 0; i < n_isas && !wrong; i++) {
        if (!isas[i].score(&job)) exit(3);
        for (int64_t page = 0; page < job.n_pages; page++) {
            float expected = plain_score(&job, page);
            if (out[page] != expected) {
                printf("%s: %d bits, width %lld, %lld query tokens, page of %lld: %.9g, not %.9g\n", isas[i].name,
                       job.bits, (long long)job.width, (long long)job.n_query, (long long)lengths[page],
                       (double)out[page], (double)expected);
                wrong = 1;
            }
        }
    }
    /* What the check lets through must be safe to score; what lies outside must not get through. */
    static const int64_t NONSENSE[] = {-1, 1, INT64_MIN, INT64_MAX, INT64_MAX / 2, (int64_t)1 << 32, 1 << 20};
    for (int tries = 0; tries < 20 && job.n_pages > 0 && !wrong; tries++) {
        int64_t page = (int64_t)draw((uint64_t)job.n_pages), *field = (int64_t *[]){which, starts, lengths}[draw(3)];
        int64_t before = field[page], n = (int64_t)draw(300) - 20;
        field[page] = draw(2) ? NONSENSE[draw(7)] : n;
        if (first_bad_page(&job) == -1) {
            __extension__ __int128 end =
                starts[page] + (__int128)lengths[page] * (job.row_bytes + 2 * job.has_token_scales);
            wrong |= starts[page] < 0 || lengths[page] < 0 || end > buffers[which[page]].size;
            for (int i = 0; i < n_isas && !wrong; i++) wrong |= !isas[i].score(&job);
        }
        if (wrong) printf("a bad block got through: buffer %lld, start %lld, length %lld\n", (long long)which[page],
                          (long long)starts[page], (long long)lengths[page]);
        field[page] = before;
    }
    for (int i = 0; i < job.n_buffers; i++) free((void *)buffers[i].bytes);
    free(levels), free(query_scales), free(page_scales), free(out), free(which), free(starts), free(lengths);
    return wrong;
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    state = 0x9E3779B97F4A7C15ull + (argc > 2 ? (uint64_t)atol(argv[2]) : 0);
    isa_t isas[MAX_ISAS];
    int n_isas = usable_isas(isas);
    for (long round = 0; round < rounds; round++)
        if (one_round(isas, n_isas)) {
            printf("round %ld\n", round);
            return 1;
        }
    for (int i = 0; i < n_isas; i++) printf("%s ", isas[i].name);
    printf("agree with the plain kernel in %ld rounds\n", rounds);
    return 0;
}
