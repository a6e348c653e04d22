// An activation of a row of c numbers, y = softmax(x) or its logarithm where LOGARITHM is 1, and its derivative from dy
// and y. GROUP threads share the row, each has the same columns in all of this; dx may be dy.

FUNCTION void outputs_of(const real* x, int64 c, real* y) {
    real top = -INFINITY, mass = 0;
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) top = x[j] > top || x[j] != x[j] ? x[j] : top;
    top = largest<GROUP>(top);
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) mass += exp(x[j] - top);
    mass = sum<GROUP>(mass);
#if LOGARITHM
    const real log_mass = log(mass);
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) y[j] = x[j] - top - log_mass;
#else
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) y[j] = exp(x[j] - top) / mass;
#endif
}

FUNCTION void slopes_of(const real* dy, const real* y, int64 c, real* dx) {
    real total = 0;
#if LOGARITHM
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) total += dy[j];
    total = sum<GROUP>(total);
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) dx[j] = dy[j] - exp(y[j]) * total;
#else
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) total += dy[j] * y[j];
    total = sum<GROUP>(total);
    for (int64 j = Turn<GROUP>::lane(); j < c; j += GROUP) dx[j] = y[j] * (dy[j] - total);
#endif
}
