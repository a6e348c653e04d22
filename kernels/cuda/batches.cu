// Batches of data, turn after turn, with nobody on the host to tell which. `control` says it: where the row numbers of
// all turns are, where the numbers of turns from FIRST on are, the turn that is now, and the one behind the last.
//
// next: what is wanted of the results of now is put where that is, `bytes` for each turn; then comes the next turn, if
// there is one: its row numbers go to rows (batch,), its numbers to numbers (words,), its rows of data to `into`. Of
// several launches for more arrays than one has room for, the last one `moves` on.
// rows: y[i] = data[index[i]], n rows.
//
// Of a row that data do not have all bits are set: NaN, or -1. Bytes are moved in words of 1, 4 or 16.

enum Control { ORDER, NUMBERS, FIRST, NOW, END };

FUNCTION void set_all_bits(unsigned char& word) { word = 0xff; }
FUNCTION void set_all_bits(unsigned& word) { word = ~0u; }
FUNCTION void set_all_bits(uint4& word) { word = {~0u, ~0u, ~0u, ~0u}; }

// What is read of `rows` rows by their numbers `index`, `bytes` each, written one behind the other.
template <class Word>
FUNCTION void take(const void* data, const int64* index, void* y, int64 rows, int64 bytes, int64 count) {
    const int64 words = bytes / sizeof(Word);
    for (int64 i = first_of_grid(); i < rows * words; i += grid_stride()) {
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

template <class Word> FUNCTION void put(const void* x, void* into, int64 bytes) {
    for (int64 i = first_of_grid(); i < bytes / int64(sizeof(Word)); i += grid_stride())
        static_cast<Word*>(into)[i] = static_cast<const Word*>(x)[i];
}

// A call of a function for words of so many bytes.
#define BY_WORD(word, function, ...)                                                                                   \
    if (word == 16)                                                                                                    \
        function<uint4>(__VA_ARGS__);                                                                                  \
    else if (word == 4)                                                                                                \
        function<unsigned>(__VA_ARGS__);                                                                               \
    else                                                                                                               \
        function<unsigned char>(__VA_ARGS__)

extern "C" __global__ void next(const Batches given) {
    const int64 now = given.control[NOW], turn = now + 1;
    for (int p = 0; p < given.puts; p++) {
        BY_WORD(given.put_word[p], put, given.results[p], given.places[p] + now * given.bytes[p], given.bytes[p]);
    }
    if (turn < given.control[END]) {
        const int64* order = reinterpret_cast<const int64*>(given.control[ORDER]) + turn * given.batch;
        const int64* numbers = reinterpret_cast<const int64*>(given.control[NUMBERS]);
        numbers += (turn - given.control[FIRST]) * given.words;
        for (int64 i = first_of_grid(); i < given.batch; i += grid_stride()) given.rows[i] = order[i];
        for (int64 i = first_of_grid(); i < given.words; i += grid_stride()) given.numbers[i] = numbers[i];
        for (int p = 0; p < given.takes; p++) {
            const int64 size = given.row_bytes[p], count = given.count[p];
            BY_WORD(given.take_word[p], take, given.data[p], order, given.into[p], given.batch, size, count);
        }
    }
    const bool all_have_read_it = is_last(given.counters, gridDim.x);
    if (all_have_read_it && threadIdx.x == 0 && given.moves) given.control[NOW] = turn;
}

extern "C" __global__ void rows(const Taken given) {
    BY_WORD(given.word, take, given.data, given.index, given.y, given.n, given.row_bytes, given.count);
}
