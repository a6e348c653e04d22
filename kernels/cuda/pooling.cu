// Windows of images x (n, h, w, c) at places (p, q), moved by (down, across), the first one (above, left) before x.
//
// pool: y (n, p, q, c) = the largest number of each window, or the mean, or the sum. spread: dx = the shares that a number
// has of the derivatives of its windows, in the order of these. MAXIMUM and SCALED are 1 or 0.

struct Sides {
    int64 top, bottom, first, end;
};

FUNCTION Sides sides_of(const Windows& given, int64 p, int64 q) {
    const int64 row = p * given.down - given.above, column = q * given.across - given.left;
    return {row > 0 ? row : 0, least(given.h, row + given.height), column > 0 ? column : 0,
            least(given.w, column + given.width)};
}

FUNCTION real share_of(const Sides& sides) {
#if SCALED
    return real(1) / real((sides.bottom - sides.top) * (sides.end - sides.first));
#else
    return real(1);
#endif
}

extern "C" __global__ void pool(const Windows given) {
    const int64 c = given.c, count = given.n * given.p * given.q * c;
    for (int64 i = first_of_grid(); i < count; i += grid_stride()) {
        const int64 place = i / c, image = place / (given.p * given.q);
        const Sides sides = sides_of(given, place / given.q % given.p, place % given.q);
        real made = MAXIMUM ? -INFINITY : real(0);
        for (int64 row = sides.top; row < sides.bottom; row++)
            for (int64 column = sides.first; column < sides.end; column++) {
                const real number = given.x[((image * given.h + row) * given.w + column) * c + i % c];
#if MAXIMUM
                made = made >= number || made != made ? made : number;
#else
                made += number;
#endif
            }
        given.made[i] = MAXIMUM ? made : made * share_of(sides);
    }
}

// The first place of windows that reach a number, and the one behind the last.
FUNCTION int64 first_place(int64 at, int64 before, int64 window, int64 stride) {
    const int64 least_start = at + before - window + 1;
    return least_start > 0 ? (least_start + stride - 1) / stride : 0;
}

FUNCTION int64 end_place(int64 at, int64 before, int64 stride, int64 places) {
    return least(places, (at + before) / stride + 1);
}

#if MAXIMUM
// Whether a number at a place of x is the first of its window that is the largest.
FUNCTION bool is_first(const Windows& given, const Sides& sides, const real* x, real top, int64 row, int64 column) {
    for (int64 other = sides.top; other <= row; other++)
        for (int64 at = sides.first; at < sides.end; at++) {
            const real number = x[(other * given.w + at) * given.c];
            if (number == top || number != number) return other == row && at == column;
            if (other == row && at == column) return false;
        }
    return false;
}
#endif

extern "C" __global__ void spread(const Windows given) {
    const int64 c = given.c, count = given.n * given.h * given.w * c;
    for (int64 i = first_of_grid(); i < count; i += grid_stride()) {
        const int64 cell = i / c, column = cell % given.w, row = cell / given.w % given.h, image = cell / given.w / given.h;
        const int64 end_p = end_place(row, given.above, given.down, given.p);
        const int64 end_q = end_place(column, given.left, given.across, given.q);
        real total = 0;
        for (int64 p = first_place(row, given.above, given.height, given.down); p < end_p; p++)
            for (int64 q = first_place(column, given.left, given.width, given.across); q < end_q; q++) {
                const int64 place = ((image * given.p + p) * given.q + q) * c + i % c;
                const Sides sides = sides_of(given, p, q);
#if MAXIMUM
                const real* x = given.x + image * given.h * given.w * c + i % c;
                if (is_first(given, sides, x, given.y[place], row, column)) total += given.dy[place];
#else
                total += given.dy[place] * share_of(sides);
#endif
            }
        given.made[i] = total;
    }
}
