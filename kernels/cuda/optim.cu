// A step of an optimizer on all parameters of a model in one launch: w and its state in place, from the gradient. The
// formula, STATES (how many parts a state has) and STEP(h, w, g, s), which changes w and s, come before.
//
// Threads take packs of 16 bytes; those of parameter p are the numbers packs[p] to packs[p + 1] - 1 of all. A parameter
// whose arrays do not all begin at multiples of 16 bytes, and the numbers behind the last whole pack, go one by one.

FUNCTION void step_one(const Steps& given, const StepsNumbers& chosen, int p, int64 i) {
    real* const* at = given.arrays[p];
    real w = at[0][i], state[STATES + 1];
    const real g = at[1][i];
    for (int part = 0; part < STATES; part++) state[part] = at[2 + part][i];
    STEP(chosen.hyper, w, g, state);
    at[0][i] = w;
    for (int part = 0; part < STATES; part++) at[2 + part][i] = state[part];
}

FUNCTION void step_pack(const Steps& given, const StepsNumbers& chosen, int p, int64 pack) {
    Pack* part[2 + STATES];
    Pack held[2 + STATES];
    for (int k = 0; k < 2 + STATES; k++) {
        part[k] = reinterpret_cast<Pack*>(given.arrays[p][k]) + pack;
        held[k] = *part[k];
    }
    for (int j = 0; j < Pack::SIZE; j++) {
        real w = held[0].at[j], state[STATES + 1];
        for (int k = 0; k < STATES; k++) state[k] = held[2 + k].at[j];
        STEP(chosen.hyper, w, held[1].at[j], state);
        held[0].at[j] = w;
        for (int k = 0; k < STATES; k++) held[2 + k].at[j] = state[k];
    }
    for (int k = 0; k < 2 + STATES; k++)
        if (k != 1) *part[k] = held[k];
}

extern "C" __global__ void step(const Steps given) {
    const StepsNumbers chosen = numbers_of(given);
    int p = 0;
    for (int64 pack = first_of_grid(); pack < given.packs[given.count]; pack += grid_stride()) {
        while (pack >= given.packs[p + 1]) p++;
        const int64 first = (pack - given.packs[p]) * Pack::SIZE, size = given.sizes[p];
        if (given.aligned[p] && first + Pack::SIZE <= size)
            step_pack(given, chosen, p, pack - given.packs[p]);
        else
            for (int64 i = first; i < first + Pack::SIZE && i < size; i++) step_one(given, chosen, p, i);
    }
}
