// How the kernels of optimizers' steps share all parameters out: w and its state are changed in place, by the gradient.
// The formula, STATES (how many parts a state has) and STEP(h, w, g, s), which changes w and s, come before.
//
// Threads take packs of 16 bytes; those of parameter p are the numbers packs[p] to packs[p + 1] - 1 of all. A parameter
// whose arrays do not all begin at multiples of 16 bytes, and the numbers behind the last whole pack, go one by one.
// `change` (p, w, g) comes before each number's step.

template <class Given, class Numbers, class Change>
FUNCTION void step_one(const Given& given, const Numbers& chosen, Change change, int p, int64 i) {
    real* const* at = given.arrays[p];
    real w = at[0][i], g = at[1][i], state[STATES + 1];
    for (int part = 0; part < STATES; part++) state[part] = at[2 + part][i];
    change(p, w, g);
    STEP(chosen.numbers, w, g, state);
    at[0][i] = w;
    for (int part = 0; part < STATES; part++) at[2 + part][i] = state[part];
}

template <class Given, class Numbers, class Change>
FUNCTION void step_pack(const Given& given, const Numbers& chosen, Change change, int p, int64 pack) {
    Pack* part[2 + STATES];
    Pack held[2 + STATES];
    for (int k = 0; k < 2 + STATES; k++) {
        part[k] = reinterpret_cast<Pack*>(given.arrays[p][k]) + pack;
        held[k] = *part[k];
    }
    for (int j = 0; j < Pack::SIZE; j++) {
        real w = held[0].at[j], g = held[1].at[j], state[STATES + 1];
        for (int k = 0; k < STATES; k++) state[k] = held[2 + k].at[j];
        change(p, w, g);
        STEP(chosen.numbers, w, g, state);
        held[0].at[j] = w;
        for (int k = 0; k < STATES; k++) held[2 + k].at[j] = state[k];
    }
    for (int k = 0; k < 2 + STATES; k++)
        if (k != 1) *part[k] = held[k];
}

// The packs from `first` on, `stride` apart.
template <class Given, class Numbers, class Change>
FUNCTION void step_all(const Given& given, const Numbers& chosen, Change change, int64 first, int64 stride) {
    int p = 0;
    for (int64 pack = first; pack < given.packs[given.count]; pack += stride) {
        while (pack >= given.packs[p + 1]) p++;
        const int64 begin = (pack - given.packs[p]) * Pack::SIZE, size = given.sizes[p];
        if (given.aligned[p] && begin + Pack::SIZE <= size)
            step_pack(given, chosen, change, p, pack - given.packs[p]);
        else
            for (int64 i = begin; i < begin + Pack::SIZE && i < size; i++) step_one(given, chosen, change, p, i);
    }
}
