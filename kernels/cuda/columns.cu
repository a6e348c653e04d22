// totals (chunks, columns) = the sums of a matrix's columns, `height` rows a chunk: two launches sum any number of rows
// in an order that depends on nothing but their number. Any strides; columns > 0, rows may be 0.
//
// What is summed comes before, as `value(given, i, j)`: a number of a matrix, or dz = dy f'(s), which is written too.
//
// A block has WIDTH columns and HEIGHT rows at a time, which come before, too; blocks of the same rows follow one
// another.

extern "C" __global__ void __launch_bounds__(BLOCK) column_sums(const Columns given) {
    SHARED(real, part, [HEIGHT][WIDTH]);
    const int64 groups = (given.columns + WIDTH - 1) / WIDTH;
    const int x = threadIdx.x % WIDTH, y = threadIdx.x / WIDTH;
    const int64 chunk = blockIdx.x / groups, j = (blockIdx.x - chunk * groups) * WIDTH + x;
    const int64 begin = chunk * given.height;
    const int64 end = begin + given.height < given.rows ? begin + given.height : given.rows;
    real total = 0;
    if (j < given.columns)
        for (int64 i = begin + y; i < end; i += HEIGHT) total += value(given, i, j);
    part[y][x] = total;
    __syncthreads();
    if (y > 0 || j >= given.columns) return;
    for (int row = 1; row < HEIGHT; row++) total += part[row][x];
    given.totals[chunk * given.totals_row + j * given.totals_column] = total;
}
