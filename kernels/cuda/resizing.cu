// Images x (n, h, w, c) in images y (n, p, q, c).
//
// shift: x begins at row `above`, column `left` of y, zeros beside it; where these are negative, x is cut off. repeat:
// every place of x `down` times, and `across` times.

extern "C" __global__ void shift(const Images given) {
    const int64 count = given.n * given.p * given.q * given.c;
    for (int64 i = first_of_grid(); i < count; i += grid_stride()) {
        const int64 place = i / given.c, image = place / given.q / given.p;
        const int64 row = place / given.q % given.p - given.above, column = place % given.q - given.left;
        const bool inside = row >= 0 && row < given.h && column >= 0 && column < given.w;
        const int64 at = ((image * given.h + row) * given.w + column) * given.c + i % given.c;
        given.y[i] = inside ? given.x[at] : real(0);
    }
}

extern "C" __global__ void repeat(const Images given) {
    const int64 count = given.n * given.p * given.q * given.c;
    for (int64 i = first_of_grid(); i < count; i += grid_stride()) {
        const int64 place = i / given.c, image = place / given.q / given.p;
        const int64 row = place / given.q % given.p / given.down, column = place % given.q / given.across;
        given.y[i] = given.x[((image * given.h + row) * given.w + column) * given.c + i % given.c];
    }
}
