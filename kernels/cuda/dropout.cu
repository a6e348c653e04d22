// y = x / (1 - rate) where a mask keeps, 0 where it drops, (n, c): a number is dropped where its word is below
// `threshold` = rate * 2^32. What x is multiplied with goes to `mask`, if that is there.

extern "C" __global__ void drop(const Masked given) {
    const MaskedNumbers chosen = numbers_of(given);
    const int64 counters = counters_of(given.c);
    for (int64 i = first_of_grid(); i < given.n * counters; i += grid_stride()) {
        const int64 row = i / counters, counter = i % counters;
        const Words words = words_of(row, counter, chosen);
        for (int word = 0; word < 4; word++) {
            const int64 column = column_of(counter, word);
            if (column >= given.c) break;
            const int64 at = row * given.c + column;
            const bool drops = int64(words.at[word]) < chosen.threshold;
            given.y[at] = drops ? real(0) : given.x[at] * chosen.scale;
            if (given.mask) given.mask[at] = drops ? real(0) : chosen.scale;
        }
    }
}
