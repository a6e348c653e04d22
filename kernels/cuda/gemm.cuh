// What the kernels of products C (n, m) = A (n, k) @ B (k, m) have in common: the operands, which part a block computes,
// and where its sums go. The epilogue comes before: `finished(given, numbers_of(given), i, j, sum)` is what C holds at
// (i, j).
//
// A product of few tiles is split along k: every split writes its sums to given.partial (splits, n, m), and the kernel
// `summed` adds them in order, so that results repeat bit for bit.

// Rows of tiles whose blocks follow one another, so that what they read of B is in L2 together.
constexpr int GROUP = 8;

// A seen as its rows, or B as its columns: `count` vectors along k, by the distances of vectors and along them.
struct Operand {
    const real* at;
    int64 vector, along, count;
    bool wide; // whether all packs begin at multiples of 16 bytes
};

FUNCTION Operand rows_of_a(const Product& given) { return {given.a, given.a_row, given.a_column, given.n, bool(given.a_wide)}; }
FUNCTION Operand columns_of_b(const Product& given) {
    return {given.b, given.b_column, given.b_row, given.m, bool(given.b_wide)};
}

// A number of an operand, zero beyond its edges.
FUNCTION real number(const Operand& x, int64 vector, int64 k, int64 end) {
    return vector < x.count && k < end ? x.at[vector * x.vector + k * x.along] : real(0);
}

// A block's part: the first row and column of its tile of C, and its range of the sums.
struct Part {
    int64 tile, i, j, begin, end;
    int split;
};

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

extern "C" __global__ void summed(const Product given) {
    const ProductNumbers chosen = numbers_of(given);
    for (int64 at = first_of_grid(); at < given.n * given.m; at += grid_stride()) {
        const int64 i = at / given.m, j = at % given.m;
        real sum = 0;
        for (int split = 0; split < given.splits; split++) sum += given.partial[split * given.n * given.m + at];
        given.c[place_of_c(given, i, j)] = finished(given, chosen, i, j, sum);
    }
}
