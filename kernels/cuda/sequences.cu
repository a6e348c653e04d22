// Steps of sequences, n samples of t steps of f numbers, of which those count whose mask (n, t) is not 0: all without one.
//
// index_mask, step_mask: y (n, t) = 1 where an index is not 0, where a step has another number than `value`, else 0.
// mask_steps: y = x, zeros in steps that do not count. mean, largest: y (n, f) over the steps that count, 0 where none
// does. mean_backward, largest_backward: y (n, t, f) = dy (n, f) by how many count, or dy in the first step that has the
// largest number, which `top` (n, f) says. A thread has a column of a sample, or a number.

FUNCTION bool counts(const Steps& given, int64 step) { return !given.mask || given.mask[step] != 0; }

extern "C" __global__ void index_mask(const Steps given) {
    for (int64 i = first_of_grid(); i < given.n * given.t; i += grid_stride()) given.y[i] = given.index[i] != 0;
}

extern "C" __global__ void step_mask(const Steps given) {
    const real value = numbers_of(given).value;
    for (int64 i = first_of_grid(); i < given.n * given.t; i += grid_stride()) {
        bool other = false;
        for (int64 j = 0; j < given.f; j++) other = other || given.x[i * given.f + j] != value;
        given.y[i] = other;
    }
}

extern "C" __global__ void mask_steps(const Steps given) {
    for (int64 i = first_of_grid(); i < given.n * given.t * given.f; i += grid_stride())
        given.y[i] = counts(given, i / given.f) ? given.x[i] : real(0);
}

extern "C" __global__ void mean(const Steps given) {
    for (int64 i = first_of_grid(); i < given.n * given.f; i += grid_stride()) {
        const int64 first = i / given.f * given.t, j = i % given.f;
        real total = 0;
        int64 count = 0;
        for (int64 step = first; step < first + given.t; step++)
            if (counts(given, step)) total += given.x[step * given.f + j], count++;
        given.y[i] = count ? total / real(count) : real(0);
    }
}

extern "C" __global__ void mean_backward(const Steps given) {
    for (int64 i = first_of_grid(); i < given.n * given.f; i += grid_stride()) {
        const int64 first = i / given.f * given.t, j = i % given.f;
        int64 count = 0;
        for (int64 step = first; step < first + given.t; step++) count += counts(given, step);
        for (int64 step = first; step < first + given.t; step++)
            given.y[step * given.f + j] = counts(given, step) ? given.dy[i] / real(count) : real(0);
    }
}

extern "C" __global__ void largest_steps(const Steps given) {
    for (int64 i = first_of_grid(); i < given.n * given.f; i += grid_stride()) {
        const int64 first = i / given.f * given.t, j = i % given.f;
        real top = 0;
        bool found = false;
        for (int64 step = first; step < first + given.t; step++) {
            if (!counts(given, step)) continue;
            const real x = given.x[step * given.f + j];
            if (!found || x > top || x != x) top = x == x && top != top ? top : x;
            found = true;
        }
        given.y[i] = top;
    }
}

extern "C" __global__ void largest_backward(const Steps given) {
    for (int64 i = first_of_grid(); i < given.n * given.f; i += grid_stride()) {
        const int64 first = i / given.f * given.t, j = i % given.f;
        bool found = false;
        for (int64 step = first; step < first + given.t; step++) {
            const int64 at = step * given.f + j;
            const bool is = !found && counts(given, step) && given.x[at] == given.top[i];
            given.y[at] = is ? given.dy[i] : real(0);
            found = found || is;
        }
    }
}
