// Losses and penalties as sums over numbers, with their derivatives. The formula and LOSS(p, t, numbers, loss, slope)
// come before.
//
// Targets are what goal_of (goals.py) makes of those that are given.
//
// units: a block takes UNIT neighbouring numbers at a time (UNIT comes before, too) and leaves their sum, times the
// weights of their rows, in sums[unit], of which total is the sum / divisor * of_value; dpred = slope * weight * scale *
// of_slope, or what BACK makes of that, dy f'(s), where predictions are f's. A target that is not in [0, 1] where `unit_targets` says so makes
// NaN.

extern "C" __global__ void units(const Scored given) {
    const ScoredNumbers chosen = numbers_of(given);
    const int64 count = (given.n + UNIT - 1) / UNIT;
    const Goals goals = goals_of(given, chosen, given.n);
    for (int64 unit = blockIdx.x; unit < count; unit += gridDim.x) {
        const int64 end = (unit + 1) * UNIT < given.n ? (unit + 1) * UNIT : given.n;
        double part = 0;
        for (int64 i = unit * UNIT + threadIdx.x; i < end; i += BLOCK) {
            const real t = given.target ? goal_of(goals, given.target[i]) : real(0);
            const real weight = given.weights ? given.weights[i / given.width] : real(1);
            real loss, slope;
            LOSS(given.pred[i], t, chosen.numbers, &loss, &slope);
            if (given.unit_targets && !(t >= 0 && t <= 1)) loss = NAN;
            slope *= weight * given.scale * chosen.of_slope;
#ifdef BACK
            slope = BACK(slope, given.s[i], given.back);
#endif
            given.dpred[i] = slope;
            part += weight * loss;
        }
        part = sum<BLOCK>(part);
        if (threadIdx.x == 0) given.sums[unit] = part;
    }
    add_up(given, count, chosen.of_value);
}
