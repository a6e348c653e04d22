// Philox4x32-10 (Salmon et al. 2011): a thread makes the four words of a counter, which are those of the columns j, j + 16,
// j + 32 and j + 48 of a run of 64; the same counters as on the CPU.

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

// Counters of a row of c columns.
FUNCTION int64 counters_of(int64 c) { return (c + 63) / 64 * 16; }

// The words of a row's counter, for the numbers that a launch has of them.
template <typename Numbers> FUNCTION Words words_of(int64 row, int64 counter, const Numbers& chosen) {
    const Words from = {{unsigned(counter), unsigned(row), chosen.step, chosen.stream}};
    return philox(from, unsigned(chosen.seed), unsigned(chosen.seed >> 32));
}

// The column of a counter's word.
FUNCTION int64 column_of(int64 counter, int word) { return counter / 16 * 64 + word * 16 + counter % 16; }
