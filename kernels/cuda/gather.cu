// gather: y[i] = data[index[i]], n rows of m numbers: of `real`, or with BYTES of 1 of bytes, scale * byte + offset. A row
// that data do not have is NaN.

extern "C" __global__ void gather(const Rows given) {
    [[maybe_unused]] const RowsNumbers chosen = numbers_of(given);
    for (int64 i = first_of_grid(); i < given.n * given.m; i += grid_stride()) {
        const int64 row = given.index[i / given.m];
        const bool has = row >= 0 && row < given.rows;
        const int64 at = row * given.m + i % given.m;
#if BYTES
        given.y[i] = has ? chosen.scale * real(given.bytes[at]) + chosen.offset : real(NAN);
#else
        given.y[i] = has ? given.data[at] : real(NAN);
#endif
    }
}
