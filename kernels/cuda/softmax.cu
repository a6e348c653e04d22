// Activations of rows, (n, c): y = softmax(x) or its logarithm, and their derivatives from dy and y. GROUP threads share
// a row, which comes from memory once and from the caches then. LOGARITHM is 1 or 0.

extern "C" __global__ void forward(const Rows given) {
    for (Turn<GROUP> turn(given.n); turn.any(); turn.next()) {
        const int64 c = turn.is_row() ? given.c : 0;
        const real* x = given.a + turn.row * given.c;
        real* y = given.y + turn.row * given.c;
        real top = -INFINITY, mass = 0;
        for (int64 j = turn.lane(); j < c; j += GROUP) top = x[j] > top || x[j] != x[j] ? x[j] : top;
        top = largest<GROUP>(top);
        for (int64 j = turn.lane(); j < c; j += GROUP) mass += exp(x[j] - top);
        mass = sum<GROUP>(mass);
#if LOGARITHM
        const real log_mass = log(mass);
        for (int64 j = turn.lane(); j < c; j += GROUP) y[j] = x[j] - top - log_mass;
#else
        for (int64 j = turn.lane(); j < c; j += GROUP) y[j] = exp(x[j] - top) / mass;
#endif
    }
}

extern "C" __global__ void backward(const Rows given) {
    for (Turn<GROUP> turn(given.n); turn.any(); turn.next()) {
        const int64 c = turn.is_row() ? given.c : 0, at = turn.row * given.c;
        const real *dy = given.a + at, *y = given.b + at;
        real* dx = given.y + at;
        real total = 0;
#if LOGARITHM
        for (int64 j = turn.lane(); j < c; j += GROUP) total += dy[j];
        total = sum<GROUP>(total);
        for (int64 j = turn.lane(); j < c; j += GROUP) dx[j] = dy[j] - exp(y[j]) * total;
#else
        for (int64 j = turn.lane(); j < c; j += GROUP) total += dy[j] * y[j];
        total = sum<GROUP>(total);
        for (int64 j = turn.lane(); j < c; j += GROUP) dx[j] = y[j] * (dy[j] - total);
#endif
    }
}
