// totals (columns) = the sums of a matrix's columns, in chunks of `height` rows whose sums the last block of a group of
// columns adds: any number of rows, in an order that depends on nothing but their number. Any strides; columns > 0, rows
// may be 0.
//
// What is summed comes before, as `value(given, i, j)`: a number of a matrix, or dz = dy f'(s), which is written too.
//
// A block has WIDTH columns and HEIGHT rows at a time, which come before, too; blocks of the same rows follow one
// another.

// The sums of rows begin to end - 1 of a block's columns, for its first WIDTH threads.
template <class Value> FUNCTION real added(real (&part)[HEIGHT][WIDTH], int64 begin, int64 end, Value value) {
    const int x = threadIdx.x % WIDTH, y = threadIdx.x / WIDTH;
    real total = 0;
    for (int64 i = begin + y; i < end; i += HEIGHT) total += value(i);
    __syncthreads(); // everybody has read what the time before has left
    part[y][x] = total;
    __syncthreads();
    if (y > 0) return 0;
    for (int row = 1; row < HEIGHT; row++) total += part[row][x];
    return total;
}

extern "C" __global__ void __launch_bounds__(BLOCK) column_sums(const Columns given) {
    SHARED(real, part, [HEIGHT][WIDTH]);
    const int64 groups = (given.columns + WIDTH - 1) / WIDTH;
    const int64 chunk = blockIdx.x / groups, group = blockIdx.x - chunk * groups;
    const int64 j = group * WIDTH + threadIdx.x % WIDTH, begin = chunk * given.height;
    const bool is_column = j < given.columns, is_first = threadIdx.x < WIDTH && is_column;
    const int64 end = is_column ? least(begin + given.height, given.rows) : begin;
    real total = added(part, begin, end, [&](int64 i) { return value(given, i, j); });
    if (given.chunks > 1) {
        if (is_first) given.partial[chunk * given.columns + j] = total;
        if (!is_last(given.counters + group, given.chunks)) return;
        const int64 chunks = is_column ? given.chunks : 0;
        total = added(part, 0, chunks, [&](int64 i) { return given.partial[i * given.columns + j]; });
    }
    if (is_first) given.totals[j * given.totals_step] = total;
}
