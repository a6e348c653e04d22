// Whether outputs say what targets say: hits[i] for row i of scores (n, c), whose target is the one of number index[i];
// of binary targets hits[i * c + j]. LABELS is 1 where targets are class indices (rows,), else rows (rows, c); KIND is
//   ACCURACY: the largest output is that of the class, or where the largest entry of the target's row is,
//   TOP_K: fewer than `number` outputs are larger than that,
//   BINARY: the output is on the same side of `number` as the target says.
// The first of equal numbers is the largest, and NaN is larger than any. A class that there is not is never hit.

#define ACCURACY 0
#define TOP_K 1
#define BINARY 2

FUNCTION int64 largest_of(const real* x, int64 c) {
    int64 found = 0;
    for (int64 j = 1; j < c; j++)
        if (x[j] > x[found] || (x[j] != x[j] && x[found] == x[found])) found = j;
    return found;
}

extern "C" __global__ void hits(const Hits given) {
    const int64 c = given.c;
#if KIND == BINARY
    for (int64 at = first_of_grid(); at < given.n * c; at += grid_stride()) {
        const real target = given.rows[given.index[at / c] * c + at % c];
        given.hits[at] = target == (given.scores[at] > real(given.number) ? real(1) : real(0));
    }
#else
    for (int64 i = first_of_grid(); i < given.n; i += grid_stride()) {
        const real* x = given.scores + i * c;
#if LABELS
        const int64 target = given.labels[given.index[i]];
#else
        const int64 target = largest_of(given.rows + given.index[i] * c, c);
#endif
#if KIND == ACCURACY
        given.hits[i] = largest_of(x, c) == target;
#else
        int64 larger = 0;
        const bool has = 0 <= target && target < c;
        for (int64 j = 0; has && j < c; j++) larger += x[j] > x[target];
        given.hits[i] = has && real(larger) < real(given.number);
#endif
    }
#endif
}
