// Batches of data, turn after turn, with nobody on the host to tell which. `control` says it: where the row numbers of
// all turns are, where the numbers of turns from FIRST on are, the turn that comes next, and the one that is now. WORD
// comes before: the bytes that a thread moves at a time.
//
// advance, by one block: the next turn is now; its row numbers go to rows (batch,), its numbers to numbers (words,).
// rows: y[i] = data[index[i]], n rows of `words` words. Of a row that data do not have all bits are set: NaN, or -1.
// put: x, of `words` words, is what `into` has of this turn.

enum Control { ORDER, NUMBERS, FIRST, NEXT, NOW };

#if WORD == 16
typedef uint4 word;
#define NOTHING {~0u, ~0u, ~0u, ~0u}
#elif WORD == 4
typedef unsigned word;
#define NOTHING ~0u
#else
typedef unsigned char word;
#define NOTHING 0xff
#endif

extern "C" __global__ void advance(const Advanced given) {
    const int64 turn = given.control[NEXT];
    const int64* order = reinterpret_cast<const int64*>(given.control[ORDER]) + turn * given.batch;
    const int64* numbers = reinterpret_cast<const int64*>(given.control[NUMBERS]);
    numbers += (turn - given.control[FIRST]) * given.words;
    for (int64 i = threadIdx.x; i < given.batch; i += BLOCK) given.rows[i] = order[i];
    for (int64 i = threadIdx.x; i < given.words; i += BLOCK) given.numbers[i] = numbers[i];
    __syncthreads(); // everybody has read what turn it is
    if (threadIdx.x == 0) given.control[NOW] = turn, given.control[NEXT] = turn + 1;
}

extern "C" __global__ void rows(const Taken given) {
    const word *data = reinterpret_cast<const word*>(given.data), nothing = NOTHING;
    for (int64 i = first_of_grid(); i < given.n * given.words; i += grid_stride()) {
        const int64 row = given.index[i / given.words];
        const bool has = row >= 0 && row < given.count;
        reinterpret_cast<word*>(given.y)[i] = has ? data[row * given.words + i % given.words] : nothing;
    }
}

extern "C" __global__ void put(const Kept given) {
    word* into = reinterpret_cast<word*>(given.into) + given.control[NOW] * given.words;
    for (int64 i = first_of_grid(); i < given.words; i += grid_stride()) into[i] = reinterpret_cast<const word*>(given.x)[i];
}
