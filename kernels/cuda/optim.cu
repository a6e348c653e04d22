// A step of an optimizer on all parameters of a model in one launch, see optim.cuh.

extern "C" __global__ void step(const Steps given) {
    step_all(given, numbers_of(given), [](int, real&, real&) {}, first_of_grid(), grid_stride());
}
