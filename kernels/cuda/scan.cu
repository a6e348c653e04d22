// numbers[i] = the sum of numbers[0] to numbers[i], in place, a block `span` of them, a multiple of BLOCK.
//
// With more blocks than one, three launches: `span_sums` leaves the sum of each span in spans, `span_starts` in one block
// makes of these the sum of all before each, and `sums` adds it to what it finds within a span. With one block, spans is
// null.

// Of the threads up to this one; `all` of all threads of the block.
FUNCTION int sum_up_to(int value, int& all) {
    SHARED(int, warps, [BLOCK / 32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int step = 1; step < 32; step *= 2) {
        const int before = __shfl_up_sync(EVERY_LANE, value, step);
        if (lane >= step) value += before;
    }
    __syncthreads(); // everybody has read what the time before has left
    if (lane == 31) warps[warp] = value;
    __syncthreads();
    all = 0;
    for (int other = 0; other < BLOCK / 32; other++) {
        if (other < warp) value += warps[other];
        all += warps[other];
    }
    return value;
}

extern "C" __global__ void span_sums(const Scanned given) {
    const int64 begin = blockIdx.x * given.span, end = least(given.n, begin + given.span);
    int part = 0;
    for (int64 i = begin + threadIdx.x; i < end; i += BLOCK) part += given.numbers[i];
    part = sum<BLOCK>(part);
    if (threadIdx.x == 0) given.spans[blockIdx.x] = part;
}

extern "C" __global__ void span_starts(const Scanned given) {
    const int64 count = (given.n + given.span - 1) / given.span;
    int before = 0, all;
    for (int64 first = 0; first < count; first += BLOCK) {
        const int64 i = first + threadIdx.x;
        const int own = i < count ? given.spans[i] : 0, up_to = sum_up_to(own, all);
        if (i < count) given.spans[i] = before + up_to - own;
        before += all;
    }
}

extern "C" __global__ void sums(const Scanned given) {
    const int64 begin = blockIdx.x * given.span, end = least(given.n, begin + given.span);
    int before = given.spans ? given.spans[blockIdx.x] : 0, all;
    for (int64 first = begin; first < end; first += BLOCK) {
        const int64 i = first + threadIdx.x;
        const int up_to = sum_up_to(i < end ? given.numbers[i] : 0, all);
        if (i < end) given.numbers[i] = before + up_to;
        before += all;
    }
}
