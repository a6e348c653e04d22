// The parametric rectified linear unit of samples x (n, m) with slopes alpha (m,).
//
// forward: y = x where x > 0, else alpha * x. backward: dx = dy where x > 0, else alpha * dy.
// slopes: part[chunk] (m,) = the sums of dy * x over those rows of a chunk where x <= 0, columns side by side in a
// block. columns: dalpha = the sums of the parts, in their order. CHUNK, the rows of a chunk, comes before.

extern "C" __global__ void forward(const Slopes given) {
    for (int64 i = first_of_grid(); i < given.n * given.m; i += grid_stride()) {
        const real x = given.x[i];
        given.y[i] = x > 0 ? x : given.alpha[i % given.m] * x;
    }
}

extern "C" __global__ void backward(const Slopes given) {
    for (int64 i = first_of_grid(); i < given.n * given.m; i += grid_stride()) {
        const real dy = given.dy[i];
        given.y[i] = given.x[i] > 0 ? dy : given.alpha[i % given.m] * dy;
    }
}

extern "C" __global__ void slopes(const Slopes given) {
    const int64 chunks = (given.n + CHUNK - 1) / CHUNK;
    for (int64 i = first_of_grid(); i < chunks * given.m; i += grid_stride()) {
        const int64 chunk = i / given.m, column = i % given.m;
        const int64 end = (chunk + 1) * CHUNK < given.n ? (chunk + 1) * CHUNK : given.n;
        real part = 0;
        for (int64 row = chunk * CHUNK; row < end; row++) {
            const int64 at = row * given.m + column;
            part += given.x[at] > 0 ? real(0) : given.dy[at] * given.x[at];
        }
        given.parts[i] = part;
    }
}

extern "C" __global__ void columns(const Slopes given) {
    for (int64 column = first_of_grid(); column < given.m; column += grid_stride()) {
        real sum = 0;
        for (int64 chunk = 0; chunk * CHUNK < given.n; chunk++) sum += given.parts[chunk * given.m + column];
        given.dalpha[column] = sum;
    }
}
