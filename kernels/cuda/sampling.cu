// Images x (n, h, w, c) at places that matrices (n, 6) tell of images y (n, p, q, c).
//
// sample: every number of y, of up to four of x. spread: the sums of y's numbers by the places that they are made of, in
// x; a thread has a channel of an image, so that sums repeat.

FUNCTION int64 inside(int64 place, int64 size, int mode) {
    if (place >= 0 && place < size) return place;
    if (mode == NEAREST) return place < 0 ? 0 : size - 1;
    if (mode == WRAP) return (place % size + size) % size;
    if (mode == REFLECT) {
        const int64 turn = (place % (2 * size) + 2 * size) % (2 * size);
        return turn < size ? turn : 2 * size - 1 - turn;
    }
    return -1;
}

// The place in an image that one of the corners is, -1 where it is none, and its share.
FUNCTION int64 corner_of(const Sampled& given, int64 image, int64 r, int64 s, int corner, double* share) {
    const real* m = given.matrices + 6 * image;
    const double row = double(m[0]) * double(r) + double(m[1]) * double(s) + double(m[2]);
    const double column = double(m[3]) * double(r) + double(m[4]) * double(s) + double(m[5]);
    int64 i, j;
    if (given.bilinear) {
        const double top = floor(row), left = floor(column), down = row - top, across = column - left;
        *share = (corner >= 2 ? down : 1.0 - down) * (corner % 2 ? across : 1.0 - across);
        i = int64(top) + corner / 2, j = int64(left) + corner % 2;
    } else {
        *share = 1.0;
        i = int64(floor(row + 0.5)), j = int64(floor(column + 0.5));
    }
    i = inside(i, given.h, given.mode), j = inside(j, given.w, given.mode);
    return i < 0 || j < 0 ? -1 : ((image * given.h + i) * given.w + j) * given.c;
}

extern "C" __global__ void sample(const Sampled given) {
    const real fill = numbers_of(given).fill;
    const int64 count = given.n * given.p * given.q * given.c;
    for (int64 at = first_of_grid(); at < count; at += grid_stride()) {
        const int64 place = at / given.c, line = place / given.q;
        real total = real(0);
        for (int corner = 0; corner < (given.bilinear ? 4 : 1); corner++) {
            double share;
            const int64 from = corner_of(given, line / given.p, line % given.p, place % given.q, corner, &share);
            total += real(share) * (from < 0 ? fill : given.x[from + at % given.c]);
        }
        given.y[at] = total;
    }
}

extern "C" __global__ void spread(const Sampled given) {
    const int64 size = given.h * given.w * given.c;
    for (int64 at = first_of_grid(); at < given.n * given.c; at += grid_stride()) {
        const int64 image = at / given.c, channel = at % given.c;
        for (int64 k = channel; k < size; k += given.c) given.y[image * size + k] = real(0);
        for (int64 place = 0; place < given.p * given.q; place++) {
            const real slope = given.x[(image * given.p * given.q + place) * given.c + channel];
            for (int corner = 0; corner < (given.bilinear ? 4 : 1); corner++) {
                double share;
                const int64 to = corner_of(given, image, place / given.q, place % given.q, corner, &share);
                if (to >= 0) given.y[to + channel] += real(share) * slope;
            }
        }
    }
}
