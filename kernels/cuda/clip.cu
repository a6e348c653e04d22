// Gradients of many parameters clipped in place: number by number, or by the norm of each parameter's or of all together.
// Parameter p has sizes[p] numbers at arrays[p]; its units, of UNIT neighbouring numbers each, are those from units[p]
// to units[p + 1] - 1 of all. A block takes a unit at a time.
//
// clip_values: |g| <= limit, see clip.cuh.
// unit_squares: squares[unit] = the sum of a unit's squares.
// norm_factors: a block adds up the squares of a parameter's units, or where `together` is not 0 of so many in all, in an
// order that does not depend on the device; factors[norm] = limit / norm where the norm is above the limit, else 1.
// scale_values: g *= the factor of its norm.

// The parameter of a unit, and the range of its numbers.
struct Unit {
    real* g;
    int parameter;
    int64 begin, end;
};

FUNCTION Unit unit_of(const Clipped& given, int64 unit) {
    int p = 0;
    while (unit >= given.units[p + 1]) p++;
    const int64 begin = (unit - given.units[p]) * UNIT;
    return {given.arrays[p], p, begin, least(given.sizes[p], begin + UNIT)};
}

#define UNITS int64 u = blockIdx.x; u < given.units[given.count]; u += gridDim.x
#define NUMBERS int64 i = unit.begin + threadIdx.x; i < unit.end; i += BLOCK

extern "C" __global__ void clip_values(const Clipped given) {
    const real most = real(given.limit);
    for (UNITS) {
        const Unit unit = unit_of(given, u);
        for (NUMBERS) unit.g[i] = clipped(unit.g[i], most);
    }
}

extern "C" __global__ void unit_squares(const Clipped given) {
    for (UNITS) {
        const Unit unit = unit_of(given, u);
        double part = 0;
        for (NUMBERS) part += double(unit.g[i]) * unit.g[i];
        part = sum<BLOCK>(part);
        if (threadIdx.x == 0) given.squares[u] = part;
    }
}

extern "C" __global__ void norm_factors(const Clipped given) {
    const int norm = blockIdx.x;
    const int64 begin = given.together ? 0 : given.units[norm];
    const int64 end = given.together ? given.together : given.units[norm + 1];
    double total = 0;
    for (int64 u = begin + threadIdx.x; u < end; u += BLOCK) total += given.squares[u];
    total = sqrt(sum<BLOCK>(total));
    if (threadIdx.x == 0) given.factors[norm] = total > given.limit ? given.limit / total : 1;
}

extern "C" __global__ void scale_values(const Clipped given) {
    for (UNITS) {
        const Unit unit = unit_of(given, u);
        const double factor = given.factors[given.together ? 0 : unit.parameter];
        if (factor != 1)
            for (NUMBERS) unit.g[i] *= real(factor);
    }
}
