// The non-zeros of a CSR matrix (n, k) by their columns, those of a column in the order of the rows: a stable counting
// sort. The range of all non-zeros is cut into `chunks` of `chunk` neighbours, a multiple of 32.
//
// counted: starts[2 + column * chunks + q] = the column's non-zeros in chunk q, of which scan.cu makes, in
// starts[1 + column * chunks + q], the number of those before them. *fault becomes 1 where the matrix is malformed: what
// lies outside is left out then. *made, if there is one, becomes one more.
// A matrix of an `index` has a 1 in each row, in the column of that number; none where there is no such column.
// moved: rows and values at their places, a warp a chunk. It leaves in starts[1 + column * chunks + q] the end of these
// non-zeros: column j's are starts[j * chunks] to starts[(j + 1) * chunks] - 1, for starts[0] is 0.

constexpr int LANES = 32;

// All non-zeros, as far as they are stored.
struct Range {
    int64 begin, end;
};

FUNCTION Range range_of(const Entries& given) {
    if (given.index) return {0, given.n};
    const int64 first = given.indptr[0], last = given.indptr[given.n];
    const int64 begin = first < 0 ? 0 : least(first, given.stored);
    return {begin, last < begin ? begin : least(last, given.stored)};
}

FUNCTION bool is_column(const Entries& given, int64 column) { return 0 <= column && column < given.k; }

// The column of a non-zero, or what is none.
FUNCTION int column_of(const Entries& given, int64 entry) {
    if (!given.index) return given.indices[entry];
    return is_column(given, given.index[entry]) ? int(given.index[entry]) : -1;
}

FUNCTION bool has_rows_in_order(const Entries& given) {
    if (given.index) return true;
    bool is_valid = given.indptr[0] >= 0 && given.indptr[given.n] <= given.stored;
    for (int64 row = first_of_grid(); row < given.n; row += grid_stride())
        is_valid = is_valid && given.indptr[row] <= given.indptr[row + 1];
    return is_valid;
}

// The row of a non-zero: the last one that begins at or before it.
FUNCTION int row_of(const Entries& given, int64 entry) {
    if (given.index) return int(entry);
    int64 low = 0, high = given.n;
    while (high - low > 1) {
        const int64 middle = (low + high) / 2;
        if (given.indptr[middle] <= entry)
            low = middle;
        else
            high = middle;
    }
    return int(low);
}

extern "C" __global__ void counted(const Entries given) {
    const Range all = range_of(given);
    if (given.made && first_of_grid() == 0) ++*given.made;
    bool is_valid = has_rows_in_order(given);
    for (int64 entry = all.begin + first_of_grid(); entry < all.end; entry += grid_stride()) {
        const int column = column_of(given, entry);
        if (is_column(given, column))
            atomicAdd(given.starts + 2 + column * given.chunks + (entry - all.begin) / given.chunk, 1);
        else
            is_valid = false;
    }
    if (!is_valid) atomicMax(given.fault, 1);
}

extern "C" __global__ void moved(const Entries given) {
    const Range all = range_of(given);
    const int lane = threadIdx.x % LANES;
    for (int64 q = first_of_grid() / LANES; q < given.chunks; q += grid_stride() / LANES) {
        const int64 begin = all.begin + q * given.chunk, end = least(all.end, begin + given.chunk);
        for (int64 first = begin; first < end; first += LANES) {
            const int64 entry = first + lane;
            const int column = entry < end ? column_of(given, entry) : -1;
            const bool has_place = is_column(given, column);
            int* next = given.starts + 1 + (has_place ? column * given.chunks + q : 0);
            const unsigned same = __match_any_sync(EVERY_LANE, column); // the lanes with this column
            if (has_place) {
                const int at = *next + __popc(same & ((1u << lane) - 1));
                given.rows[at] = row_of(given, entry);
                given.moved[at] = given.index ? real(1) : given.values[entry];
            }
            __syncwarp();
            if (has_place && (same >> lane) == 1) *next += __popc(same); // the last of them
            __syncwarp();
        }
    }
}
