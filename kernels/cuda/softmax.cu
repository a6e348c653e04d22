// Activations of rows, (n, c), as softmax.cuh has them, which comes before: y of x, and dx of dy and y. GROUP threads
// share a row, which comes from memory once and from the caches then.

extern "C" __global__ void forward(const Rows given) {
    for (Turn<GROUP> turn(given.n); turn.any(); turn.next()) {
        const int64 at = turn.row * given.c;
        outputs_of(given.a + at, turn.is_row() ? given.c : 0, given.y + at);
    }
}

extern "C" __global__ void backward(const Rows given) {
    for (Turn<GROUP> turn(given.n); turn.any(); turn.next()) {
        const int64 at = turn.row * given.c;
        slopes_of(given.a + at, given.b + at, turn.is_row() ? given.c : 0, given.y + at);
    }
}
