// y[s, h] = a[s, h] @ b[s, h] of samples s and heads h: a (n, k), b (k, m), all three with any strides.
//
// A block of SIDE x SIDE threads computes TALL x WIDE numbers of a y at a time, a thread every SIDE-th of their rows and
// columns, from panels of DEPTH numbers of rows of a and of columns of b in shared memory. Each number is one chain of
// multiply-adds in the order of k.

constexpr int SIDE = 16, DEPTH = 16, TALL = SIDE * EACH_ROWS, WIDE = SIDE * EACH_COLUMNS;
static_assert(SIDE * SIDE == BLOCK, "a block's threads are a square");

// Numbers of `count` vectors, `depth` of each, zeros beyond: neighbours among threads read neighbours in memory.
template <int LENGTH>
FUNCTION void fetch(real (&panel)[DEPTH][LENGTH + 1], const real* x, int64 step, int64 along, int64 count, int64 depth) {
    for (int place = threadIdx.x; place < LENGTH * DEPTH; place += BLOCK) {
        const bool side = step == 1;
        const int vector = side ? place % LENGTH : place / DEPTH, k = side ? place / LENGTH : place % DEPTH;
        panel[k][vector] = vector < count && k < depth ? x[vector * step + k * along] : real(0);
    }
}

extern "C" __global__ void batch_matmul(const Products given) {
    SHARED(real, left, [DEPTH][TALL + 1]);
    SHARED(real, right, [DEPTH][WIDE + 1]);
    const int row = threadIdx.x / SIDE, column = threadIdx.x % SIDE;
    const int64 down = (given.n + TALL - 1) / TALL, across = (given.m + WIDE - 1) / WIDE;
    for (int64 tile = blockIdx.x; tile < given.samples * given.heads * down * across; tile += gridDim.x) {
        const int64 i = tile / across % down * TALL, j = tile % across * WIDE;
        const int64 sample = tile / (across * down) / given.heads, head = tile / (across * down) % given.heads;
        const real* a = given.a + sample * given.a_sample + head * given.a_head + i * given.a_row;
        const real* b = given.b + sample * given.b_sample + head * given.b_head + j * given.b_column;
        real* y = given.y + sample * given.y_sample + head * given.y_head;
        real sums[EACH_ROWS][EACH_COLUMNS] = {};
        for (int64 k = 0; k < given.k; k += DEPTH) {
            fetch<TALL>(left, a + k * given.a_column, given.a_row, given.a_column, given.n - i, given.k - k);
            fetch<WIDE>(right, b + k * given.b_row, given.b_column, given.b_row, given.m - j, given.k - k);
            __syncthreads();
#pragma unroll
            for (int l = 0; l < DEPTH; l++)
#pragma unroll
                for (int r = 0; r < EACH_ROWS; r++)
#pragma unroll
                    for (int c = 0; c < EACH_COLUMNS; c++)
                        sums[r][c] = multiply_add(left[l][row + r * SIDE], right[l][column + c * SIDE], sums[r][c]);
            __syncthreads();
        }
        for (int r = 0; r < EACH_ROWS; r++)
            for (int c = 0; c < EACH_COLUMNS; c++) {
                const int64 to_row = i + row + r * SIDE, to_column = j + column + c * SIDE;
                if (to_row < given.n && to_column < given.m)
                    y[to_row * given.y_row + to_column * given.y_column] = sums[r][c];
            }
    }
}
