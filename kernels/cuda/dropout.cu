// y = x / (1 - rate) where a mask keeps, 0 where it drops, (n, c): a number is dropped where its word of Philox4x32-10 is
// below `threshold` = rate * 2^32. A thread makes the four words of a counter, which are those of the columns j, j + 16,
// j + 32 and j + 48 of a run of 64 (Salmon et al. 2011; the same counters as on the CPU).

struct Words {
    unsigned at[4];
};

FUNCTION Words philox(Words counter, unsigned key, unsigned key_high) {
    for (int round = 0; round < 10; round++) {
        const uint64 first = uint64(0xD2511F53u) * counter.at[0], second = uint64(0xCD9E8D57u) * counter.at[2];
        counter = {{unsigned(second >> 32) ^ counter.at[1] ^ key, unsigned(second),
                    unsigned(first >> 32) ^ counter.at[3] ^ key_high, unsigned(first)}};
        key += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return counter;
}

extern "C" __global__ void drop(const Masked given) {
    const MaskedNumbers chosen = numbers_of(given);
    const int64 counters = (given.c + 63) / 64 * 16;
    for (int64 i = first_of_grid(); i < given.n * counters; i += grid_stride()) {
        const int64 row = i / counters, counter = i % counters;
        const Words from = {{unsigned(counter), unsigned(row), chosen.step, chosen.stream}};
        const Words words = philox(from, unsigned(chosen.seed), unsigned(chosen.seed >> 32));
        for (int word = 0; word < 4; word++) {
            const int64 column = counter / 16 * 64 + word * 16 + counter % 16;
            if (column >= given.c) break;
            const int64 at = row * given.c + column;
            given.y[at] = int64(words.at[word]) < chosen.threshold ? real(0) : given.x[at] * chosen.scale;
        }
    }
}
