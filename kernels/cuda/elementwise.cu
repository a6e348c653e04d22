// c[i] = APPLY(a[i], b[i]) for every number i; with INPUTS of 1 there is no b. The formula and APPLY come before.
//
// flat: arrays without gaps, in one order; 16 bytes an access where `aligned` says that all begin at multiples of that.
// strided: any strides, in numbers, 0 where an input is broadcast; c's shape has `rank` dimensions.
// c may be a or b itself, as an element is read before it is written by the same thread.

FUNCTION real applied(const Elementwise& given, const ElementwiseNumbers& chosen, int64 at_a, int64 at_b) {
#if INPUTS == 1
    return APPLY(given.a[at_a], real(0), chosen.numbers);
#else
    return APPLY(given.a[at_a], given.b[at_b], chosen.numbers);
#endif
}

extern "C" __global__ void flat(const Elementwise given) {
    [[maybe_unused]] const ElementwiseNumbers chosen = numbers_of(given);
    const int64 packs = given.aligned ? given.n / Pack::SIZE : 0;
    for (int64 i = first_of_grid(); i < packs; i += grid_stride()) {
        const Pack a = reinterpret_cast<const Pack*>(given.a)[i];
#if INPUTS == 1
        const Pack b = {};
#else
        const Pack b = reinterpret_cast<const Pack*>(given.b)[i];
#endif
        Pack c;
        for (int j = 0; j < Pack::SIZE; j++) c.at[j] = APPLY(a.at[j], b.at[j], chosen.numbers);
        reinterpret_cast<Pack*>(given.c)[i] = c;
    }
    for (int64 i = packs * Pack::SIZE + first_of_grid(); i < given.n; i += grid_stride())
        given.c[i] = applied(given, chosen, i, i);
}

extern "C" __global__ void strided(const Elementwise given) {
    [[maybe_unused]] const ElementwiseNumbers chosen = numbers_of(given);
    for (int64 i = first_of_grid(); i < given.n; i += grid_stride()) {
        int64 rest = i, at_a = 0, at_b = 0, at_c = 0;
        for (int dimension = given.rank - 1; dimension >= 0; dimension--) {
            const int64 place = rest % given.shape[dimension];
            rest /= given.shape[dimension];
            at_a += place * given.strides_a[dimension];
            at_b += place * given.strides_b[dimension];
            at_c += place * given.strides_c[dimension];
        }
        given.c[at_c] = applied(given, chosen, at_a, at_b);
    }
}
