// C = f(A @ B, C, states) of many products, see simt.cuh: f is an optimizer's step, C are weights, A @ B their gradients.
// The blocks from first[p] on are those of product p, whose sums are split as gemm.cuh says; its tiles are those from
// tile[p] on of all. Where a weight decays, what is left of it is number HYPER. No product writes what another reads or
// writes.
//
// With PENALTIES what l1 |w| + l2 w^2 of the weights as they were adds to gradients, times `share`, is added first; the
// last block of all adds up what it adds to the loss, of which penalties[tile] has a tile's, in the order of the tiles.
//
// With SQUARES C is the product, and squares[tile] the sum of a tile's squares; states[p][0] are the weights.

FUNCTION Product product_of(const Stepped& given, int p) {
    Product one = {};
    one.a = given.a[p], one.b = given.b[p], one.c = given.c[p];
#pragma unroll
    for (int state = 0; state < STATES; state++) one.states[state] = given.states[p][state];
    one.n = given.n[p], one.k = given.k[p], one.m = given.m[p];
    one.a_row = given.a_row[p], one.a_column = given.a_column[p], one.a_wide = given.a_wide[p];
    one.b_row = given.b_row[p], one.b_column = given.b_column[p], one.b_wide = given.b_wide[p];
    one.c_row = given.c_row[p], one.c_column = given.c_column[p], one.c_wide = given.c_wide[p];
    one.splits = given.splits[p], one.depth = given.depth, one.exact = given.exact[p];
    one.partial = given.partial[p], one.counters = given.counters + given.tile[p];
    return one;
}

// Calls a function of every sum of a thread's that is C's, with its row and column.
template <class F> FUNCTION void each_of_c(const Product& given, const Part& part, F f) {
#pragma unroll
    for (int r = 0; r < THREAD_ROWS; r++)
#pragma unroll
        for (int c = 0; c < THREAD_COLUMNS; c++) {
            const int64 i = part.i + row_of(r), j = part.j + column_of(c);
            if (i < given.n && j < given.m) f(i, j, r, c);
        }
}

#if PENALTIES
// Adds to the sums of a tile what penalties do, and leaves what they are.
FUNCTION void penalize(const Stepped& given, int p, const Product& one, const Part& part, Sums& sums) {
    const real* weights = SQUARES ? given.states[p][0] : one.c;
    const real share = given.share;
    double own = 0;
    each_of_c(one, part, [&](int64 i, int64 j, int r, int c) {
        real value, slope;
        penalty(given.l1[p], given.l2[p], weights[place_of_c(one, i, j)], &value, &slope);
        sums[r][c] += slope * share;
        own += value;
    });
    own = sum<THREADS>(own);
    if (threadIdx.x == 0) given.penalties[given.tile[p] + part.tile] = own;
}

FUNCTION void add_penalties(const Stepped& given) {
    if (!is_last(given.last_counter, gridDim.x)) return;
    double part = 0;
    for (int tile = threadIdx.x; tile < given.tiles; tile += THREADS) part += given.penalties[tile];
    part = sum<THREADS>(part);
    if (threadIdx.x == 0) *given.loss += part * given.share;
}
#endif

FUNCTION ProductNumbers numbers_of_step(const Stepped& given, int p) {
    const SteppedNumbers own = numbers_of(given);
    ProductNumbers chosen = {};
#pragma unroll
    for (int number = 0; number < NUMBERS; number++) chosen.numbers[number] = own.numbers[number];
    if (DECAYS && !given.decays[p]) chosen.numbers[HYPER] = 1;
    return chosen;
}

// What becomes of the gradients of product p.
struct Finish {
    const Stepped& given;
    int p;
};

FUNCTION void deliver(const Product& one, const Finish& finish, const Part& part, Sums& sums) {
    const Stepped& given = finish.given;
#if PENALTIES
    penalize(given, finish.p, one, part, sums);
#endif
#if SQUARES
    deliver(one, ProductNumbers{}, part, sums);
    double own = 0;
    each_of_c(one, part, [&](int64, int64, int r, int c) { own += double(sums[r][c]) * sums[r][c]; });
    own = sum<THREADS>(own);
    if (threadIdx.x == 0) given.squares[given.tile[finish.p] + part.tile] = own;
#else
    deliver(one, numbers_of_step(given, finish.p), part, sums);
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) steps(const Stepped given) {
    int p = 0;
    while (int64(blockIdx.x) >= given.first[p + 1]) p++;
    const Product one = product_of(given, p);
    compute(one, part_of_block(one, int64(blockIdx.x) - given.first[p]), [&] { return Finish{given, p}; });
#if PENALTIES
    add_penalties(given);
#endif
}
