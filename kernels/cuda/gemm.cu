// C (n, m) = f(A (n, k) @ B (k, m)) in the operands' own dtype, see simt.cuh: each block has a part of it.

extern "C" __global__ void __launch_bounds__(THREADS) product(const Product given) {
    compute(given, part_of_block(given, blockIdx.x), [&] { return numbers_of(given); });
}
