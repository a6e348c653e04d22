// How the kernels of csr.cu and csr_behind.cu share C (n, m) out: a warp has a row and a strip of it, each of its lanes
// LANE_COLUMNS numbers, 32 columns apart.
//
// Where f is a step that CATCHES_UP, rows of C without non-zeros wait: *made counts the steps, the one at hand included,
// and last[warp] is the one up to which a warp's numbers have been stepped. The epilogue has, beside `finished`,
// `missed(given, chosen, i, j, steps)`, which makes so many steps by zeros.

constexpr int LANES = 32, STRIP = LANES * LANE_COLUMNS;

// A warp's row, and a lane's first column.
struct Place {
    int64 warp, i, first;
};

FUNCTION int64 places(const Product& given) { return given.n * ((given.m + STRIP - 1) / STRIP); }

FUNCTION Place place_of(const Product& given, int64 warp) {
    const int64 strips = (given.m + STRIP - 1) / STRIP;
    return {warp, warp / strips, warp % strips * STRIP + threadIdx.x % LANES};
}

#if CATCHES_UP
FUNCTION void catch_up(const Product& given, const ProductNumbers& chosen, const Place& at, int64 until) {
    const int64 steps = until - given.last[at.warp];
    for (int c = 0; c < LANE_COLUMNS && steps > 0; c++)
        if (at.first + c * LANES < given.m) missed(given, chosen, at.i, at.first + c * LANES, steps);
    __syncwarp(); // all lanes have read it
    if (threadIdx.x % LANES == 0) given.last[at.warp] = *given.made;
}
#endif
