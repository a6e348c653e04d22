// Batches of data, turn after turn, with nobody on the host to tell which. `control` says it: where the row numbers of
// all turns are, where the numbers of turns from FIRST on are, the turn that is now, and the one behind the last; and
// where it says what is added to the numbers from turn to turn, as words of 32 bits: counters of masks advance by 1.
//
// At the end of a turn what is wanted of its results is put where that is, `bytes` for each turn; then comes the next
// turn, if there is one: its row numbers go to rows (batch,), its numbers to numbers (words,), its rows of data to `into`.
// When all blocks have read which turn it is, the last launch of a turn `moves` on.
//
// Of a row that data do not have all bits are set: NaN, or -1. Bytes are moved in words of 1, 4 or 16; where the word is 0
// they become float32 numbers.

// A thread's share of what many do: from its first on, so many apart.
struct Share {
    int64 first, stride;
};

enum Control { ORDER, NUMBERS, FIRST, NOW, END, ADVANCES };

FUNCTION void set_all_bits(unsigned char& word) { word = 0xff; }
FUNCTION void set_all_bits(unsigned& word) { word = ~0u; }
FUNCTION void set_all_bits(uint4& word) { word = {~0u, ~0u, ~0u, ~0u}; }

// What is read of `rows` rows by their numbers `index`, `bytes` each, written one behind the other.
template <class Word>
FUNCTION void take(Share share, const void* data, const int64* index, void* y, int64 rows, int64 bytes, int64 count) {
    const int64 words = bytes / sizeof(Word);
    for (int64 i = share.first; i < rows * words; i += share.stride) {
        const int64 row = index[i / words];
        const bool has = row >= 0 && row < count;
        Word word;
        if (has)
            word = static_cast<const Word*>(data)[row * words + i % words];
        else
            set_all_bits(word);
        static_cast<Word*>(y)[i] = word;
    }
}

template <class Word> FUNCTION void put(Share share, const void* x, void* into, int64 bytes) {
    for (int64 i = share.first; i < bytes / int64(sizeof(Word)); i += share.stride)
        static_cast<Word*>(into)[i] = static_cast<const Word*>(x)[i];
}

// The same of bytes that become numbers.
FUNCTION void take_numbered(Share share, const unsigned char* data, const int64* index, float* y, int64 rows, int64 bytes,
                            int64 count) {
    for (int64 i = share.first; i < rows * bytes; i += share.stride) {
        const int64 row = index[i / bytes];
        y[i] = row >= 0 && row < count ? float(data[row * bytes + i % bytes]) : NAN;
    }
}

// A call of a function for words of so many bytes.
#define BY_WORD(word, function, ...)                                                                                   \
    if (word == 16)                                                                                                    \
        function<uint4>(__VA_ARGS__);                                                                                  \
    else if (word == 4)                                                                                                \
        function<unsigned>(__VA_ARGS__);                                                                               \
    else                                                                                                               \
        function<unsigned char>(__VA_ARGS__)

template <class Given> FUNCTION bool has_next(const Given& given) { return given.control[NOW] + 1 < given.control[END]; }

// All but the next turn's numbers.
template <class Given> FUNCTION void end_turn(const Given& given, Share share) {
    const int64 now = given.control[NOW];
    for (int p = 0; p < given.puts; p++) {
        BY_WORD(given.put_word[p], put, share, given.results[p], given.places[p] + now * given.bytes[p], given.bytes[p]);
    }
    if (!has_next(given)) return;
    const int64* order = reinterpret_cast<const int64*>(given.control[ORDER]) + (now + 1) * given.batch;
    for (int64 i = share.first; i < given.batch; i += share.stride) given.rows[i] = order[i];
    for (int p = 0; p < given.takes; p++) {
        const int64 size = given.row_bytes[p], count = given.lengths[p];
        if (given.take_word[p] == 0)
            take_numbered(share, given.data[p], order, reinterpret_cast<float*>(given.into[p]), given.batch, size, count);
        else
            BY_WORD(given.take_word[p], take, share, given.data[p], order, given.into[p], given.batch, size, count);
    }
}

template <class Given> FUNCTION void take_numbers(const Given& given, Share share) {
    if (!has_next(given)) return;
    const unsigned turn = given.control[NOW] + 1 - given.control[FIRST];
    const unsigned* numbers = reinterpret_cast<const unsigned*>(given.control[NUMBERS]) + turn * given.words;
    const unsigned* advances = reinterpret_cast<const unsigned*>(given.control[ADVANCES]);
    for (int64 i = share.first; i < given.words; i += share.stride) given.turn_numbers[i] = numbers[i] + turn * advances[i];
}
