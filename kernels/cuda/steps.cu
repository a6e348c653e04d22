// C = f(A @ B, C, states) of many products, see simt.cuh: f is an optimizer's step, C are weights, A @ B their gradients.
// The blocks from first[p] on are those of product p, whose sums are split as gemm.cuh says; its tiles are those from
// tile[p] on of all. Where a weight decays, what is left of it is number HYPER. No product writes what another reads or
// writes.
//
// With SQUARES C is the product, and squares[tile] the sum of a tile's squares.

FUNCTION Product product_of(const Stepped& given, int p) {
    Product one = {};
    one.a = given.a[p], one.b = given.b[p], one.c = given.c[p];
#pragma unroll
    for (int state = 0; state < STATES; state++) one.states[state] = given.states[p][state];
    one.n = given.n[p], one.k = given.k[p], one.m = given.m[p];
    one.a_row = given.a_row[p], one.a_column = given.a_column[p], one.a_wide = given.a_wide[p];
    one.b_row = given.b_row[p], one.b_column = given.b_column[p], one.b_wide = given.b_wide[p];
    one.c_row = given.c_row[p], one.c_column = given.c_column[p], one.c_wide = given.c_wide[p];
    one.splits = given.splits[p], one.depth = given.depth;
    one.partial = given.partial[p], one.counters = given.counters + given.tile[p];
    return one;
}

#if SQUARES
// Where those of a block's tile go.
struct Squares {
    double* at;
};

FUNCTION void deliver(const Product& given, const Squares& squares, const Part& part, const Sums& sums) {
    deliver(given, ProductNumbers{}, part, sums);
    double own = 0;
#pragma unroll
    for (int r = 0; r < THREAD_ROWS; r++)
#pragma unroll
        for (int c = 0; c < THREAD_COLUMNS; c++)
            if (part.i + row_of(r) < given.n && part.j + column_of(c) < given.m) own += double(sums[r][c]) * sums[r][c];
    own = sum<THREADS>(own);
    if (threadIdx.x == 0) *squares.at = own;
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, 1) steps(const Stepped given) {
    int p = 0;
    while (int64(blockIdx.x) >= given.first[p + 1]) p++;
    const Product one = product_of(given, p);
    const Part part = part_of_block(one, int64(blockIdx.x) - given.first[p]);
#if SQUARES
    compute(one, part, [&] { return Squares{given.squares + given.tile[p] + part.tile}; });
#else
    compute(one, part, [&] {
        const SteppedNumbers own = numbers_of(given);
        ProductNumbers chosen = {};
#pragma unroll
        for (int number = 0; number < NUMBERS; number++) chosen.numbers[number] = own.numbers[number];
        if (DECAYS && !given.decays[p]) chosen.numbers[HYPER] = 1;
        return chosen;
    });
#endif
}
