// What rows of weights C (n, m) have missed that waited for non-zeros, see csr.cuh: all are stepped as far as `made`.

extern "C" __global__ void caught_up(const Product given) {
    const ProductNumbers chosen = numbers_of(given);
    for (int64 warp = first_of_grid() / LANES; warp < places(given); warp += grid_stride() / LANES)
        catch_up(given, chosen, place_of(given, warp), *given.made);
}
