// The second stage of a sum: the last block of a launch adds up what all of them have left in given.sums, `count` numbers
// in an order that does not depend on the device, and divides the total, of which there are so many.

template <class Given> FUNCTION void add_up(const Given& given, int64 count, double times) {
    if (!is_last(given.counters, gridDim.x)) return;
    double part = 0;
    for (int64 i = threadIdx.x; i < count; i += BLOCK) part += given.sums[i];
    part = sum<BLOCK>(part);
    if (threadIdx.x == 0) *given.total = part / given.divisor * times;
}
