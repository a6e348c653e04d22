// A step of resilient propagation without weight backtracking, in place: sizes of changes from the derivatives of this
// step and the one before, then w -= sign(dw) * step_size. With a balance, by BY_GRADIENT or by step_size, a launch has
// one block, and one weight's size makes up for all others' changes.

FUNCTION void resize(const Resilient& given, const ResilientNumbers& chosen, int64 i) {
    const real turned = given.dw[i] * given.gradient[i], size = given.step_size[i];
    if (turned > 0) {
        const double grown = size * chosen.eta_plus;
        given.step_size[i] = real(grown < chosen.step_max ? grown : chosen.step_max);
    } else if (turned < 0) {
        const double shrunk = size * chosen.eta_minus;
        given.step_size[i] = real(shrunk > chosen.step_min ? shrunk : chosen.step_min);
    }
}

// What the weight is chosen by: of those with a derivative the first with the least.
FUNCTION double key(const Resilient& given, int64 i) {
    return given.balance == BY_GRADIENT ? fabs(double(given.dw[i])) : double(given.step_size[i]);
}

#define WEIGHTS int64 i = threadIdx.x; i < given.size; i += BLOCK

FUNCTION void balance(const Resilient& given, const ResilientNumbers& chosen) {
    double least_key = INFINITY, part = 0;
    int64 first = given.size;
    for (WEIGHTS)
        if (given.dw[i] != 0 && (first == given.size || key(given, i) < least_key)) first = i, least_key = key(given, i);
    const double smallest_key = smallest<BLOCK>(least_key);
    const int64 weight = smallest<BLOCK>(least_key == smallest_key ? first : given.size);
    for (WEIGHTS)
        if (i != weight) part += double(given.step_size[i]) * double(given.dw[i]);
    const double total = sum<BLOCK>(part) + chosen.delta;
    if (threadIdx.x == 0 && weight < given.size) {
        const double size = -total / double(given.dw[weight]);
        const double bounded = size < chosen.step_min ? chosen.step_min : size;
        given.step_size[weight] = real(bounded > chosen.step_max ? chosen.step_max : bounded);
    }
    __syncthreads();
}

extern "C" __global__ void step(const Resilient given) {
    const ResilientNumbers chosen = numbers_of(given);
    for (int64 i = first_of_grid(); i < given.size; i += grid_stride()) resize(given, chosen, i);
    if (given.balance != ALONE) balance(given, chosen);
    for (int64 i = first_of_grid(); i < given.size; i += grid_stride()) {
        const real slope = given.dw[i], size = given.step_size[i];
        given.w[i] -= slope > 0 ? size : slope < 0 ? -size : real(0);
        given.gradient[i] = slope;
    }
}
