// Rows of a CSR matrix by their numbers, index (n,).
//
// lengths: bounds[1 + i] = the length of row index[i], bounds[0] = 0, of which scan.cu makes where each begins. *fault
// becomes 1 where a row is malformed, or 2 where there is none of that number: it is of no length then.
// copied: their columns and values, end to end, a warp a row.

constexpr int LANES = 32;

extern "C" __global__ void lengths(const CsrRows given) {
    if (first_of_grid() == 0) given.bounds[0] = 0;
    for (int64 i = first_of_grid(); i < given.n; i += grid_stride()) {
        const int64 row = given.index[i];
        const bool has = 0 <= row && row < given.rows;
        const int begin = has ? given.indptr[row] : 0, end = has ? given.indptr[row + 1] : 0;
        const bool is_valid = 0 <= begin && begin <= end && end <= given.stored;
        if (!has || !is_valid) atomicMax(given.fault, has ? 1 : 2);
        given.bounds[1 + i] = is_valid ? end - begin : 0;
    }
}

extern "C" __global__ void copied(const CsrRows given) {
    for (int64 i = first_of_grid() / LANES; i < given.n; i += grid_stride() / LANES) {
        const int count = given.bounds[i + 1] - given.bounds[i], to = given.bounds[i];
        if (count == 0) continue;
        const int from = given.indptr[given.index[i]];
        for (int e = threadIdx.x % LANES; e < count; e += LANES) {
            given.columns[to + e] = given.indices[from + e];
            given.copies[to + e] = given.values[from + e];
        }
    }
}
