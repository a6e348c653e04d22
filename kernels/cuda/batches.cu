// next: a turn's end, and its batch, see batches.cuh.
// rows: y[i] = data[index[i]], n rows.

extern "C" __global__ void next(const Batches given) {
    const Share share = {first_of_grid(), grid_stride()};
    end_turn(given, share);
    take_numbers(given, share);
    const bool all_have_read_it = is_last(given.counters, gridDim.x);
    if (all_have_read_it && threadIdx.x == 0 && given.moves) given.control[NOW]++;
}

extern "C" __global__ void rows(const Taken given) {
    const Share share = {first_of_grid(), grid_stride()};
    BY_WORD(given.word, take, share, given.data, given.index, given.y, given.n, given.row_bytes, given.count);
}
