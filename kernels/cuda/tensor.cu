// C (n, m) = f(A (n, k) @ B (k, m)) of float32 operands rounded to tf32 or bfloat16 (Format), their products summed in
// float32 on tensor cores; compute capability 8.0 on. Sizes, strides, splits and f are as in gemm.cu.
//
// `packed` rounds both operands into units: 16 rows of A, or 16 columns of B, by Format::DEPTH along k, zeros beyond the
// edges, 16 bytes for each lane of a warp in the order of their fragments. Units lie [n / 16 or m / 16][k / DEPTH], the
// latter a whole number of steps. So `product` reads memory in order, whatever the strides, and a lane has a fragment
// of A, or two of B, with one access without a conflict of banks.
//
// A block of THREADS threads computes ROWS x COLUMNS numbers of C, a warp WARP_ROWS x WARP_COLUMNS of them, a step of
// DEPTH numbers of the sums at a time, while the units of the next STAGES - 1 steps are on their way to shared memory.

constexpr int UNIT = 16, LANES = 32, STAGES = 3, STEP = DEPTH / Format::DEPTH;
constexpr int WARPS_ACROSS = COLUMNS / WARP_COLUMNS, THREADS = ROWS / WARP_ROWS * WARPS_ACROSS * LANES;
constexpr int DOWN = WARP_ROWS / UNIT, ACROSS = WARP_COLUMNS / UNIT;

// Sums of a warp's fragments of C: two of them beside one another are as wide as a unit.
typedef float Sums[DOWN][2 * ACROSS][4];

// Word `word` of a lane's part of a unit: which of the two eights of its vectors, and which half along k.
FUNCTION unsigned word_of(const Operand& x, int64 vector, int64 k, int64 end) {
    float numbers[Format::PER_WORD];
#pragma unroll
    for (int q = 0; q < Format::PER_WORD; q++) numbers[q] = number(x, vector, k + q, end);
    return Format::word(numbers);
}

FUNCTION uint4 packed_of(const Operand& x, bool of_a, int64 vector, int64 k, int64 end) {
    const int eight = of_a ? 1 : 2, half = of_a ? 2 : 1; // the word in which each begins
    unsigned words[4];
#pragma unroll
    for (int word = 0; word < 4; word++)
        words[word] = word_of(x, vector + 8 * (word / eight % 2), k + Format::DEPTH / 2 * (word / half % 2), end);
    return {words[0], words[1], words[2], words[3]};
}

// The units of this thread's share of a step, of `count` rows or columns of units from `first` on.
template <int COUNT> FUNCTION void fetch(uint4 (&stage)[COUNT][STEP * LANES], const uint4* units, int64 first, int64 last,
                                         int64 along, int64 unit) {
    static_assert(COUNT * STEP * LANES % THREADS == 0, "a step is so many copies for every thread");
#pragma unroll
    for (int copy = 0; copy < COUNT * STEP * LANES / THREADS; copy++) {
        const int number = threadIdx.x + copy * THREADS;
        const int vector = number / (STEP * LANES), within = number % (STEP * LANES);
        // what lies beyond the last unit goes into sums that nobody wants
        copy_later(&stage[vector][within], units + (least(first + vector, last) * along + unit) * LANES + within);
    }
}

FUNCTION void multiply(const uint4 (&a)[ROWS / UNIT][STEP * LANES], const uint4 (&b)[COLUMNS / UNIT][STEP * LANES],
                       Sums& sums) {
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int down = warp / WARPS_ACROSS * DOWN, across = warp % WARPS_ACROSS * ACROSS;
#pragma unroll
    for (int unit = 0; unit < STEP; unit++) {
        uint4 rows[DOWN], columns[ACROSS];
#pragma unroll
        for (int r = 0; r < DOWN; r++) rows[r] = a[down + r][unit * LANES + lane];
#pragma unroll
        for (int c = 0; c < ACROSS; c++) columns[c] = b[across + c][unit * LANES + lane];
#pragma unroll
        for (int r = 0; r < DOWN; r++)
#pragma unroll
            for (int c = 0; c < ACROSS; c++) {
                Format::multiply(sums[r][2 * c], rows[r], columns[c].x, columns[c].y);
                Format::multiply(sums[r][2 * c + 1], rows[r], columns[c].z, columns[c].w);
            }
    }
}

template <class F> FUNCTION void each(const Product& given, const Part& part, Sums& sums, F f) {
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int64 top = part.i + warp / WARPS_ACROSS * WARP_ROWS + lane / 4;
    const int64 left = part.j + warp % WARPS_ACROSS * WARP_COLUMNS + lane % 4 * 2;
#pragma unroll
    for (int r = 0; r < DOWN; r++)
#pragma unroll
        for (int c = 0; c < 2 * ACROSS; c++)
#pragma unroll
            for (int place = 0; place < 4; place++) {
                const int64 i = top + r * UNIT + 8 * (place / 2), j = left + c * 8 + place % 2;
                if (i < given.n && j < given.m) f(i, j, sums[r][c][place]);
            }
}

template <class F> FUNCTION void each_sum(const Part&, Sums& sums, F f) {
#pragma unroll
    for (int r = 0; r < DOWN; r++)
#pragma unroll
        for (int c = 0; c < 2 * ACROSS; c++)
#pragma unroll
            for (int place = 0; place < 4; place++) f((r * 2 * ACROSS + c) * 4 + place, sums[r][c][place]);
}

extern "C" __global__ void packed(const Product given) {
    const int64 of_a = (given.n + UNIT - 1) / UNIT * given.units, of_b = (given.m + UNIT - 1) / UNIT * given.units;
    for (int64 at = first_of_grid(); at < (of_a + of_b) * LANES; at += grid_stride()) {
        const bool is_a = at < of_a * LANES;
        const int64 unit = at / LANES - (is_a ? 0 : of_a), lane = at % LANES;
        const int64 vector = unit / given.units * UNIT + lane / 4;
        const int64 k = unit % given.units * Format::DEPTH + Format::PER_WORD * (lane % 4);
        const Operand x = is_a ? rows_of_a(given) : columns_of_b(given);
        uint4* units = is_a ? given.units_a : given.units_b;
        units[unit * LANES + lane] = packed_of(x, is_a, vector, k, given.k);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) product(const Product given) {
    SHARED(uint4, a, [STAGES][ROWS / UNIT][STEP * LANES]);
    SHARED(uint4, b, [STAGES][COLUMNS / UNIT][STEP * LANES]);
    const Part part = part_of_block(given, blockIdx.x);
    const int64 units = given.units, begin = part.begin / Format::DEPTH;
    const int64 steps = (least(units, begin + given.depth / Format::DEPTH) - begin) / STEP;
    const int64 last_a = (given.n - 1) / UNIT, last_b = (given.m - 1) / UNIT;
    Sums sums = {};
    for (int64 step = 1 - STAGES; step < steps; step++) {
        if (step >= 0) {
            wait_for_groups<STAGES - 2>();
            __syncthreads();
        }
        const int64 ahead = step + STAGES - 1;
        if (ahead < steps) {
            fetch(a[ahead % STAGES], given.units_a, part.i / UNIT, last_a, units, begin + ahead * STEP);
            fetch(b[ahead % STAGES], given.units_b, part.j / UNIT, last_b, units, begin + ahead * STEP);
        }
        end_group();
        if (step >= 0) multiply(a[step % STAGES], b[step % STAGES], sums);
    }
    if (!has_all(given, part, sums, &a[0][0][0])) return;
    const ProductNumbers chosen = numbers_of(given);
    each(given, part, sums, [&](int64 i, int64 j, real& sum) {
        given.c[place_of_c(given, i, j)] = finished(given, chosen, i, j, sum);
    });
}
