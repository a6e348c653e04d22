// C (n, m) = f(A (n, k) @ B (k, m)) in the operands' own dtype: every number of C is one chain of multiply-adds in the
// order of k, or one for each split. Any strides; n, m > 0; k may be 0. C must not share memory with what is read, but
// for the epilogue's operands at the same place. epilogues.py says what f may be, tiles.py chooses the tile:
//
// A block of THREADS threads computes ROWS x COLUMNS numbers of C, a thread THREAD_ROWS x THREAD_COLUMNS of them, from
// panels of DEPTH numbers of each of its rows of A and columns of B, two of which lie in shared memory: one is read
// while the next is on its way through registers, where its numbers are ROUNDED.

constexpr int SIZE = Pack::SIZE;
constexpr int DOWN = ROWS / THREAD_ROWS, ACROSS = COLUMNS / THREAD_COLUMNS, THREADS = DOWN * ACROSS;

// Neighbours of an operand: of `SIZE` vectors where these lie side by side, else along a vector.
FUNCTION Pack neighbours(const Operand& x, int64 vector, int64 k, int64 end) {
    const bool side = x.vector == 1;
    if (x.wide && (side ? vector + SIZE <= x.count && k < end : vector < x.count && k + SIZE <= end))
        return *reinterpret_cast<const Pack*>(x.at + vector * x.vector + k * x.along);
    Pack found;
#pragma unroll
    for (int q = 0; q < SIZE; q++) found.at[q] = side ? number(x, vector + q, k, end) : number(x, vector, k + q, end);
    return found;
}

// A panel of LENGTH vectors: how a block's threads share it. In shared memory it is [DEPTH][LENGTH], a pack more a row.
template <int LENGTH> struct Panel {
    static constexpr int WIDTH = LENGTH / SIZE + 1, COUNT = LENGTH * DEPTH / (SIZE * THREADS);
    static_assert(COUNT * SIZE * THREADS == LENGTH * DEPTH, "a panel is so many packs for every thread");
    Pack held[COUNT];

    // The vector, and the number along it, of a pack of this thread's.
    FUNCTION int vector(bool side, int pack) {
        const int number = threadIdx.x + pack * THREADS;
        return side ? number % (LENGTH / SIZE) * SIZE : number / (DEPTH / SIZE);
    }
    FUNCTION int along(bool side, int pack) {
        const int number = threadIdx.x + pack * THREADS;
        return side ? number / (LENGTH / SIZE) : number % (DEPTH / SIZE) * SIZE;
    }

    __device__ __forceinline__ void fetch(const Operand& x, int64 first, int64 k, int64 end) {
        const bool side = x.vector == 1;
#pragma unroll
        for (int p = 0; p < COUNT; p++) held[p] = neighbours(x, first + vector(side, p), k + along(side, p), end);
    }

    __device__ __forceinline__ void place(const Operand& x, Pack (&panel)[DEPTH][WIDTH]) const {
        const bool side = x.vector == 1;
#pragma unroll
        for (int p = 0; p < COUNT; p++) {
            const int v = vector(side, p), k = along(side, p);
            Pack own = held[p];
#pragma unroll
            for (int q = 0; q < SIZE; q++) own.at[q] = x.exact ? own.at[q] : ROUNDED(own.at[q]);
            if (side) {
                panel[k][v / SIZE] = own;
            } else {
#pragma unroll
                for (int q = 0; q < SIZE; q++) panel[k + q][v / SIZE].at[v % SIZE] = own.at[q];
            }
        }
    }
};
typedef Panel<ROWS> PanelOfA;
typedef Panel<COLUMNS> PanelOfB;

// A thread's numbers of the tile are packs of rows and of columns, DOWN and ACROSS packs apart: what a warp's lanes read
// of a panel lies side by side.
FUNCTION int row_of(int r) { return (r / SIZE * DOWN + int(threadIdx.x) / ACROSS) * SIZE + r % SIZE; }
FUNCTION int column_of(int c) { return (c / SIZE * ACROSS + int(threadIdx.x) % ACROSS) * SIZE + c % SIZE; }

typedef real Sums[THREAD_ROWS][THREAD_COLUMNS];

FUNCTION void multiply(const Pack (&a)[DEPTH][PanelOfA::WIDTH], const Pack (&b)[DEPTH][PanelOfB::WIDTH], Sums& sums) {
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
        Pack rows[THREAD_ROWS / SIZE], columns[THREAD_COLUMNS / SIZE];
#pragma unroll
        for (int p = 0; p < THREAD_ROWS / SIZE; p++) rows[p] = a[k][row_of(p * SIZE) / SIZE];
#pragma unroll
        for (int p = 0; p < THREAD_COLUMNS / SIZE; p++) columns[p] = b[k][column_of(p * SIZE) / SIZE];
#pragma unroll
        for (int r = 0; r < THREAD_ROWS; r++)
#pragma unroll
            for (int c = 0; c < THREAD_COLUMNS; c++)
                sums[r][c] = multiply_add(rows[r / SIZE].at[r % SIZE], columns[c / SIZE].at[c % SIZE], sums[r][c]);
    }
}

// SIZE numbers of a row of C from j on, of which those beyond the edge are left out.
FUNCTION void put(const Product& given, int64 i, int64 j, const Pack& numbers) {
    real* at = given.c + place_of_c(given, i, j);
    if (given.c_wide && j + SIZE <= given.m) {
        *reinterpret_cast<Pack*>(at) = numbers;
        return;
    }
#pragma unroll
    for (int q = 0; q < SIZE; q++)
        if (j + q < given.m) at[q * given.c_column] = numbers.at[q];
}

// The tile's sums through the epilogue into C.
FUNCTION void deliver(const Product& given, const ProductNumbers& chosen, const Part& part, const Sums& sums) {
#pragma unroll
    for (int r = 0; r < THREAD_ROWS; r++) {
        const int64 i = part.i + row_of(r);
        if (i >= given.n) continue;
#pragma unroll
        for (int c = 0; c < THREAD_COLUMNS; c += SIZE) {
            const int64 j = part.j + column_of(c);
            Pack numbers = {};
#pragma unroll
            for (int q = 0; q < SIZE; q++)
                if (j + q < given.m) numbers.at[q] = finished(given, chosen, i, j + q, sums[r][c + q]);
            put(given, i, j, numbers);
        }
    }
}

template <class F> FUNCTION void each_sum(const Part&, Sums& sums, F f) {
#pragma unroll
    for (int r = 0; r < THREAD_ROWS; r++)
#pragma unroll
        for (int c = 0; c < THREAD_COLUMNS; c++) f(r * THREAD_COLUMNS + c, sums[r][c]);
}

// A block's part of a product; `numbers` gives those of the epilogue, which are not asked for before the sums are there.
template <class Numbers> FUNCTION void compute(const Product& given, const Part& part, Numbers numbers) {
    SHARED(Pack, a, [2][DEPTH][PanelOfA::WIDTH]);
    SHARED(Pack, b, [2][DEPTH][PanelOfB::WIDTH]);
    const Operand rows = rows_of_a(given), columns = columns_of_b(given);
    PanelOfA next_a;
    PanelOfB next_b;
    Sums sums = {};
    int current = 0;
    next_a.fetch(rows, part.i, part.begin, part.end);
    next_b.fetch(columns, part.j, part.begin, part.end);
    next_a.place(rows, a[0]);
    next_b.place(columns, b[0]);
    __syncthreads();
    for (int64 k = part.begin; k < part.end; k += DEPTH) {
        const bool more = k + DEPTH < part.end;
        if (more) {
            next_a.fetch(rows, part.i, k + DEPTH, part.end);
            next_b.fetch(columns, part.j, k + DEPTH, part.end);
        }
        multiply(a[current], b[current], sums);
        current ^= 1;
        if (more) {
            next_a.place(rows, a[current]);
            next_b.place(columns, b[current]);
        }
        __syncthreads();
    }
    if (has_all(given, part, sums, &a[0][0][0])) deliver(given, numbers(), part, sums);
}
