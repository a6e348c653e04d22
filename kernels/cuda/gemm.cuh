// What the kernels of products C (n, m) = A (n, k) @ B (k, m) have in common: which part a block computes, and where
// its sums go. The epilogue comes before: `finished(given, i, j, sum)` is what C holds at (i, j).
//
// A product of few tiles is split along k: every split writes its sums to given.partial (splits, n, m), and `summed` of
// gemm.cu adds them in order, so that results repeat bit for bit.

// Rows of tiles whose blocks follow one another, so that what they read of B is in L2 together.
constexpr int GROUP = 8;

// A block's part: the first row and column of its tile of C, and its range of the sums.
struct Part {
    int64 tile, i, j, begin, end;
    int split;
};

FUNCTION int64 least(int64 a, int64 b) { return a < b ? a : b; }

FUNCTION Part part_of_block(const Product& given) {
    const int64 down = (given.n + ROWS - 1) / ROWS, across = (given.m + COLUMNS - 1) / COLUMNS;
    const int split = blockIdx.x / (down * across);
    const int64 number = blockIdx.x - split * down * across;
    const int64 first = number / (GROUP * across) * GROUP, height = least(GROUP, down - first);
    const int64 within = number - first * across, tile = first + within % height;
    const int64 begin = split * given.depth;
    return {tile, tile * ROWS, within / height * COLUMNS, begin, least(given.k, begin + given.depth), split};
}

FUNCTION int64 place_of_c(const Product& given, int64 i, int64 j) { return i * given.c_row + j * given.c_column; }

FUNCTION void put_partial(const Product& given, int split, int64 i, int64 j, real sum) {
    given.partial[(split * given.n + i) * given.m + j] = sum;
}
