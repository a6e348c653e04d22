// C (n, m) = f(S @ B): S (n, k) by its non-zeros, row i's are numbers bounds[i * bounds_step] to
// bounds[(i + 1) * bounds_step] - 1 of indices and values; B (k, m) dense, of any strides. n, m > 0. Every number of C is
// one chain of multiply-adds in the order of the row's non-zeros, of operands as ROUNDED leaves them. f is as in gemm.cu.
//
// A row that is none of `stored` non-zeros, one behind the other, is NaN, and so is a product by a row of B that there
// is not. Where *fault is not 0 everything is NaN.
//
// csr.cuh says who computes what, and which rows of weights may wait.

struct Row {
    int begin, end;
    bool is_valid;
};

FUNCTION Row row_of(const Product& given, int64 i) {
    const int begin = given.bounds[i * given.bounds_step], end = given.bounds[(i + 1) * given.bounds_step];
    const bool is_valid = 0 <= begin && begin <= end && end <= given.stored && !(given.fault && *given.fault);
    return {begin, is_valid ? end : begin, is_valid};
}

extern "C" __global__ void product(const Product given) {
    const ProductNumbers chosen = numbers_of(given);
    for (int64 warp = first_of_grid() / LANES; warp < places(given); warp += grid_stride() / LANES) {
        const Place at = place_of(given, warp);
        const Row row = row_of(given, at.i);
#if SKIPS_EMPTY
        if (row.begin == row.end && row.is_valid) continue;
#endif
#if CATCHES_UP
        catch_up(given, chosen, at, *given.made - 1);
#endif
        real sums[LANE_COLUMNS];
#pragma unroll
        for (int c = 0; c < LANE_COLUMNS; c++) sums[c] = row.is_valid ? real(0) : real(NAN);
#pragma unroll 4
        for (int e = row.begin; e < row.end; e++) {
            const int64 column = given.indices[e];
            const bool is_there = 0 <= column && column < given.k;
            const real value = ROUNDED(given.values[e]), *b = given.b + column * given.b_row;
#pragma unroll
            for (int c = 0; c < LANE_COLUMNS; c++) {
                const int64 j = at.first + c * LANES;
                sums[c] = multiply_add(value, is_there && j < given.m ? ROUNDED(b[j * given.b_column]) : real(NAN), sums[c]);
            }
        }
#pragma unroll
        for (int c = 0; c < LANE_COLUMNS; c++) {
            const int64 j = at.first + c * LANES;
            if (j < given.m) given.c[at.i * given.c_row + j * given.c_column] = finished(given, chosen, at.i, j, sums[c]);
        }
    }
}
