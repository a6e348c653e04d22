// Normalisation of the columns of x (n, c), and of its rows.
//
// moments, slopes: for each chunk of CHUNK rows, columns side by side in a block, two figures: part[chunk] (2, c) = the
// mean and the squares of what is off it; the sums of dy and of dy * (x - mean). join_moments, join_slopes: those of all
// chunks, in their order, in doubles. normalize, slope: number by number. Where there is a variance, rstd follows from it.
//
// Rows: GROUP threads share one. layer_weights: as slopes, by the figures of each row. CHUNK and GROUP come before.

FUNCTION double rstd_of(const Columns& given, double epsilon, int64 j) {
    return given.variance ? 1.0 / sqrt(double(given.variance[j]) + epsilon) : double(given.rstd[j]);
}

FUNCTION real scale_of(const Columns& given, int64 j) { return given.gamma ? given.gamma[j] : real(1); }
FUNCTION real shift_of(const Columns& given, int64 j) { return given.beta ? given.beta[j] : real(0); }
FUNCTION int64 chunks_of(const Columns& given) { return (given.n + CHUNK - 1) / CHUNK; }

extern "C" __global__ void moments(const Columns given) {
    const int64 c = given.c;
    for (int64 i = first_of_grid(); i < chunks_of(given) * c; i += grid_stride()) {
        const int64 chunk = i / c, j = i % c, first = chunk * CHUNK, end = least(given.n, first + CHUNK);
        real total = 0, squares = 0;
        for (int64 row = first; row < end; row++) total += given.x[row * c + j];
        const real mean = total / real(end - first);
        for (int64 row = first; row < end; row++) {
            const real off = given.x[row * c + j] - mean;
            squares += off * off;
        }
        given.parts[2 * chunk * c + j] = mean;
        given.parts[(2 * chunk + 1) * c + j] = squares;
    }
}

extern "C" __global__ void join_moments(const Columns given) {
    const ColumnsNumbers chosen = numbers_of(given);
    const int64 c = given.c;
    for (int64 j = first_of_grid(); j < c; j += grid_stride()) {
        double mean = 0, squares = 0;
        for (int64 chunk = 0; chunk < chunks_of(given); chunk++) {
            const int64 first = chunk * CHUNK, count = least(given.n, first + CHUNK) - first;
            const double off = double(given.parts[2 * chunk * c + j]) - mean, share = double(count) / double(first + count);
            mean += off * share;
            squares += double(given.parts[(2 * chunk + 1) * c + j]) + off * off * double(first) * share;
        }
        const double variance = squares / double(given.n > 0 ? given.n : 1), kept = chosen.momentum;
        given.made_mean[j] = real(mean);
        given.made_rstd[j] = real(1.0 / sqrt(variance + chosen.epsilon));
        if (given.moving_mean && given.n > 0)
            given.moving_mean[j] = real(kept * double(given.moving_mean[j]) + (1.0 - kept) * mean);
        if (given.moving_variance && given.n > 0)
            given.moving_variance[j] = real(kept * double(given.moving_variance[j]) + (1.0 - kept) * variance);
    }
}

extern "C" __global__ void normalize(const Columns given) {
    const ColumnsNumbers chosen = numbers_of(given);
    for (int64 i = first_of_grid(); i < given.n * given.c; i += grid_stride()) {
        const int64 j = i % given.c;
        const real scale = scale_of(given, j) * real(rstd_of(given, chosen.epsilon, j));
        given.y[i] = multiply_add(given.x[i] - given.mean[j], scale, shift_of(given, j));
    }
}

extern "C" __global__ void slopes(const Columns given) {
    const int64 c = given.c;
    for (int64 i = first_of_grid(); i < chunks_of(given) * c; i += grid_stride()) {
        const int64 chunk = i / c, j = i % c, first = chunk * CHUNK, end = least(given.n, first + CHUNK);
        real total = 0, dots = 0;
        for (int64 row = first; row < end; row++) {
            const real dy = given.dy[row * c + j];
            total += dy;
            dots += dy * (given.x[row * c + j] - given.mean[j]);
        }
        given.parts[2 * chunk * c + j] = total;
        given.parts[(2 * chunk + 1) * c + j] = dots;
    }
}

extern "C" __global__ void join_slopes(const Columns given) {
    const ColumnsNumbers chosen = numbers_of(given);
    const int64 c = given.c;
    for (int64 j = first_of_grid(); j < c; j += grid_stride()) {
        double total = 0, dots = 0;
        for (int64 chunk = 0; chunk < chunks_of(given); chunk++) {
            total += double(given.parts[2 * chunk * c + j]);
            dots += double(given.parts[(2 * chunk + 1) * c + j]);
        }
        const double rstd = given.of_rows ? 1.0 : rstd_of(given, chosen.epsilon, j);
        const double share = given.moved && given.n > 0 ? 1.0 / double(given.n) : 0.0;
        given.dbeta[j] = real(total);
        given.dgamma[j] = real(dots * rstd);
        if (given.shift) given.shift[j] = real(total * share), given.slant[j] = real(dots * rstd * rstd * share);
    }
}

extern "C" __global__ void slope(const Columns given) {
    const ColumnsNumbers chosen = numbers_of(given);
    for (int64 i = first_of_grid(); i < given.n * given.c; i += grid_stride()) {
        const int64 j = i % given.c;
        const real scale = scale_of(given, j) * real(rstd_of(given, chosen.epsilon, j));
        const real moved = multiply_add(given.slant[j], given.x[i] - given.mean[j], given.shift[j]);
        given.y[i] = scale * (given.dy[i] - moved);
    }
}

// Mean and 1 / sqrt(variance + epsilon) of a row, which all threads of its group get.
FUNCTION void figures_of(const real* x, int64 lane, int64 c, int64 count, double epsilon, real* mean, real* rstd) {
    real total = 0, squares = 0;
    for (int64 j = lane; j < c; j += GROUP) total += x[j];
    *mean = sum<GROUP>(total) / real(count);
    for (int64 j = lane; j < c; j += GROUP) squares += (x[j] - *mean) * (x[j] - *mean);
    squares = sum<GROUP>(squares);
    *rstd = real(1.0 / sqrt(double(squares) / double(count) + epsilon));
}

extern "C" __global__ void layer_norm(const Columns given) {
    const ColumnsNumbers chosen = numbers_of(given);
    for (Turn<GROUP> turn(given.n); turn.any(); turn.next()) {
        const int64 c = turn.is_row() ? given.c : 0, at = turn.row * given.c;
        real mean, rstd;
        figures_of(given.x + at, turn.lane(), c, given.c, chosen.epsilon, &mean, &rstd);
        for (int64 j = turn.lane(); j < c; j += GROUP) {
            const real z = (given.x[at + j] - mean) * rstd;
            given.y[at + j] = multiply_add(z, scale_of(given, j), shift_of(given, j));
        }
    }
}

extern "C" __global__ void layer_slope(const Columns given) {
    const ColumnsNumbers chosen = numbers_of(given);
    for (Turn<GROUP> turn(given.n); turn.any(); turn.next()) {
        const int64 c = turn.is_row() ? given.c : 0, at = turn.row * given.c;
        real mean, rstd, total = 0, dots = 0;
        figures_of(given.x + at, turn.lane(), c, given.c, chosen.epsilon, &mean, &rstd);
        for (int64 j = turn.lane(); j < c; j += GROUP) {
            const real g = given.dy[at + j] * scale_of(given, j);
            total += g;
            dots += g * ((given.x[at + j] - mean) * rstd);
        }
        total = sum<GROUP>(total) / real(given.c);
        dots = sum<GROUP>(dots) / real(given.c);
        for (int64 j = turn.lane(); given.y && j < c; j += GROUP) {
            const real z = (given.x[at + j] - mean) * rstd;
            given.y[at + j] = rstd * (given.dy[at + j] * scale_of(given, j) - total - z * dots);
        }
        if (turn.is_row() && turn.lane() == 0) given.made_mean[turn.row] = mean, given.made_rstd[turn.row] = rstd;
    }
}

extern "C" __global__ void layer_weights(const Columns given) {
    const int64 c = given.c;
    for (int64 i = first_of_grid(); i < chunks_of(given) * c; i += grid_stride()) {
        const int64 chunk = i / c, j = i % c, first = chunk * CHUNK, end = least(given.n, first + CHUNK);
        real total = 0, dots = 0;
        for (int64 row = first; row < end; row++) {
            const real dy = given.dy[row * c + j];
            total += dy;
            dots += dy * ((given.x[row * c + j] - given.made_mean[row]) * given.made_rstd[row]);
        }
        given.parts[2 * chunk * c + j] = total;
        given.parts[(2 * chunk + 1) * c + j] = dots;
    }
}
