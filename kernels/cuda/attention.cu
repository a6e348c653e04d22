// Rows of scores (n, h, t, s) of attention, and of their derivatives, with the softmax of softmax.cuh, which comes before.
// GROUP threads share a row; FAR_BELOW is the score of a step that does not count for the row's query.

FUNCTION bool counts(const Scores& given, int64 row, int64 j) {
    const int64 i = row % given.t, sample = row / given.t / given.h;
    if (given.causal && j > i) return false;
    return !given.mask || given.mask[sample * given.mask_sample + i * given.mask_row + j * given.mask_column] != 0;
}

// The weights, in place of the scores.
extern "C" __global__ void weights_of(const Scores given) {
    const real scale = numbers_of(given).scale;
    for (Turn<GROUP> turn(given.n * given.h * given.t); turn.any(); turn.next()) {
        const int64 s = turn.is_row() ? given.s : 0;
        real* row = given.weights + turn.row * given.s;
        for (int64 j = Turn<GROUP>::lane(); j < s; j += GROUP)
            row[j] = counts(given, turn.row, j) ? scale * row[j] : real(FAR_BELOW);
        outputs_of(row, s, row);
    }
}

// The derivatives by the products of queries and keys, in place of those by the weights.
extern "C" __global__ void slopes_of_scores(const Scores given) {
    const real scale = numbers_of(given).scale;
    for (Turn<GROUP> turn(given.n * given.h * given.t); turn.any(); turn.next()) {
        const int64 s = turn.is_row() ? given.s : 0;
        real* row = given.slopes + turn.row * given.s;
        slopes_of(row, given.weights + turn.row * given.s, s, row);
        for (int64 j = Turn<GROUP>::lane(); j < s; j += GROUP)
            row[j] = counts(given, turn.row, j) ? scale * row[j] : real(0);
    }
}
