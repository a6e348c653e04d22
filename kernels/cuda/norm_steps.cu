// A step of an optimizer on all parameters of a model, see optim.cuh, by gradients that are clipped by their norms: every
// gradient's, or with `together` not 0 that of all. `squares` holds sums of squares; those of parameter p are the numbers
// tiles[p] to tiles[p + 1] - 1, of all the first `together`. Each block adds them up, in an order that does not depend on
// the device. A gradient whose norm is above the limit is multiplied with limit / norm; where a weight decays, what is
// left of it is number HYPER.
//
// The first `blocks` blocks step; those behind them, if there are any, end a turn (batches.cuh), whose next numbers come
// when all blocks have read those of now.

constexpr int WARPS = BLOCK / 32;

FUNCTION double factor_of(const NormSteps& given, double squares) {
    const double norm = sqrt(squares);
    return norm > given.limit ? given.limit / norm : 1;
}

FUNCTION void find_factors(const NormSteps& given, real (&factors)[AT_ONCE]) {
    double part = 0;
    if (given.together) {
        for (int64 i = threadIdx.x; i < given.together; i += BLOCK) part += given.squares[i];
        part = sum<BLOCK>(part);
        if (int(threadIdx.x) < given.count) factors[threadIdx.x] = real(factor_of(given, part));
    } else {
        for (int p = threadIdx.x / 32; p < given.count; p += WARPS) {
            part = 0;
            for (int64 i = given.tiles[p] + threadIdx.x % 32; i < given.tiles[p + 1]; i += 32) part += given.squares[i];
            part = sum<32>(part);
            if (threadIdx.x % 32 == 0) factors[p] = real(factor_of(given, part));
        }
    }
    __syncthreads();
}

FUNCTION void step_by_norms(const NormSteps& given) {
    SHARED(real, factors, [AT_ONCE]);
    find_factors(given, factors);
    const NormStepsNumbers chosen = numbers_of(given);
    const auto change = [&](int p, real& w, real& g) {
        g *= factors[p];
        if (DECAYS && given.decays[p]) w *= chosen.numbers[HYPER];
    };
    step_all(given, chosen, change, first_of_grid(), int64(given.blocks) * BLOCK);
}

extern "C" __global__ void norm_steps(const NormSteps given) {
    if (int(blockIdx.x) < given.blocks)
        step_by_norms(given);
    else
        end_turn(given, {first_of_grid() - int64(given.blocks) * BLOCK, grid_stride() - int64(given.blocks) * BLOCK});
    if (int(gridDim.x) == given.blocks || !is_last(given.counters, gridDim.x)) return;
    take_numbers(given, {threadIdx.x, BLOCK});
    __syncthreads();
    if (threadIdx.x == 0) given.control[NOW]++;
}
