// What the kernels of products C (n, m) = A (n, k) @ B (k, m) have in common: the operands, which part a block computes,
// and where its sums go. The epilogue comes before: `finished(given, numbers_of(given), i, j, sum)` is what C holds at
// (i, j).
//
// A product of few tiles is split along k: every split writes its sums to given.partial (splits, tiles, sums of a thread,
// threads), and the last block of a tile adds them in the order of the splits, so that results repeat bit for bit.

// Rows of tiles whose blocks follow one another, so that what they read of B is in L2 together.
constexpr int GROUP = 8;

// A seen as its rows, or B as its columns: `count` vectors along k, by the distances of vectors and along them.
struct Operand {
    const real* at;
    int64 vector, along, count;
    bool wide; // whether all packs begin at multiples of 16 bytes
    bool exact; // whether its numbers are not rounded
};

FUNCTION Operand rows_of_a(const Product& given) {
    return {given.a, given.a_row, given.a_column, given.n, bool(given.a_wide), bool(given.exact)};
}
FUNCTION Operand columns_of_b(const Product& given) {
    return {given.b, given.b_column, given.b_row, given.m, bool(given.b_wide), bool(given.exact)};
}

// A number of an operand, zero beyond its edges.
FUNCTION real number(const Operand& x, int64 vector, int64 k, int64 end) {
    return vector < x.count && k < end ? x.at[vector * x.vector + k * x.along] : real(0);
}

// A block's part: its tile of C, by its number, its first row and column, and its range of the sums.
struct Part {
    int64 tile, i, j, begin, end;
    int split;
};

FUNCTION Part part_of_block(const Product& given, int64 block) {
    const int64 down = (given.n + ROWS - 1) / ROWS, across = (given.m + COLUMNS - 1) / COLUMNS;
    const int split = block / (down * across);
    const int64 number = block - split * down * across;
    const int64 first = number / (GROUP * across) * GROUP, height = least(GROUP, down - first);
    const int64 within = number - first * across, row = first + within % height;
    const int64 begin = split * given.depth;
    return {number, row * ROWS, within / height * COLUMNS, begin, least(given.k, begin + given.depth), split};
}

FUNCTION int64 place_of_c(const Product& given, int64 i, int64 j) { return i * given.c_row + j * given.c_column; }

// Whether a block has all of its tile's sums: one of a split gets those of the others as the last of them. `room` is
// shared memory of the operands', which some tiles fill. `each_sum` calls a function of (number, sum) for a thread's.
template <class Sums> FUNCTION bool has_all(const Product& given, const Part& part, Sums& sums, void* room) {
    if (given.splits == 1) return true;
    const int64 tiles = (given.n + ROWS - 1) / ROWS * ((given.m + COLUMNS - 1) / COLUMNS);
    constexpr int SIZE = ROWS * COLUMNS, BY = SIZE / (sizeof(Sums) / sizeof(real)); // as many as threads
    real* first = given.partial + part.tile * SIZE + threadIdx.x;
    real* own = first + part.split * tiles * SIZE;
    each_sum(part, sums, [&](int q, real& sum) { own[q * BY] = sum; });
    if (!is_last(given.counters + part.tile, given.splits, static_cast<int*>(room))) return false;
    each_sum(part, sums, [&](int, real& sum) { sum = 0; });
    for (int split = 0; split < given.splits; split++) {
        const real* found = first + split * tiles * SIZE;
        each_sum(part, sums, [&](int q, real& sum) { sum += found[q * BY]; });
    }
    return true;
}
