// Rows of a (n, first) and b (n, second) side by side in y (n, first + second).
//
// join: y of a and b. part: a and b of y.

extern "C" __global__ void join(const Sides given) {
    const int64 wide = given.first + given.second;
    for (int64 i = first_of_grid(); i < given.n * wide; i += grid_stride()) {
        const int64 row = i / wide, column = i % wide;
        const bool in_a = column < given.first;
        given.y[i] = in_a ? given.a[row * given.first + column] : given.b[row * given.second + column - given.first];
    }
}

extern "C" __global__ void part(const Sides given) {
    const int64 wide = given.first + given.second;
    for (int64 i = first_of_grid(); i < given.n * wide; i += grid_stride()) {
        const int64 row = i / wide, column = i % wide;
        real* target = column < given.first ? given.a + row * given.first : given.b + row * given.second - given.first;
        target[column] = given.y[i];
    }
}
