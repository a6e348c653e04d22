// y = low + scale times random numbers, (n, c): `uniform` ones are the upper 24 bits of words, `normal` ones come two of
// two words, the first of which tells a radius and the second an angle (`normal_pair`).

FUNCTION void put(const Drawn& given, const DrawnNumbers& chosen, int64 row, int64 column, real number) {
    if (column < given.c) given.y[row * given.c + column] = multiply_add(number, chosen.scale, chosen.low);
}

extern "C" __global__ void uniform(const Drawn given) {
    const DrawnNumbers chosen = numbers_of(given);
    const int64 counters = counters_of(given.c);
    for (int64 i = first_of_grid(); i < given.n * counters; i += grid_stride()) {
        const int64 row = i / counters, counter = i % counters;
        const Words words = words_of(row, counter, chosen);
        for (int word = 0; word < 4; word++) {
            put(given, chosen, row, column_of(counter, word), real(words.at[word] >> 8));
        }
    }
}

extern "C" __global__ void normal(const Drawn given) {
    const DrawnNumbers chosen = numbers_of(given);
    const int64 counters = counters_of(given.c);
    for (int64 i = first_of_grid(); i < given.n * counters; i += grid_stride()) {
        const int64 row = i / counters, counter = i % counters;
        const Words words = words_of(row, counter, chosen);
        for (int word = 0; word < 4; word += 2) {
            const real below = real(words.at[word]) + real(0.5), above = real(~words.at[word]) + real(0.5);
            real one, other;
            normal_pair(below, above, real(int(words.at[word + 1])) * real(0x1p-32), &one, &other);
            put(given, chosen, row, column_of(counter, word), one);
            put(given, chosen, row, column_of(counter, word + 1), other);
        }
    }
}
