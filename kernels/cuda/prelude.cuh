// What every kernel's source begins with: types, shared memory, sums of a warp, packs of 16 bytes.
//
// `real` is the dtype of the kernel's numbers, which launch.py defines. tests/cuda_host gives the same names on a CPU.

typedef long long int64;
typedef unsigned long long uint64;

#ifndef FASTNN_HOST
#define SHARED(type, name, dimensions) __shared__ type name dimensions
#define DYNAMIC_SHARED(type, name)                                                                                     \
    extern __shared__ __align__(16) unsigned char dynamic_shared[];                                                    \
    type* name = reinterpret_cast<type*>(dynamic_shared)
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fc00000)
#endif

#define FUNCTION static __device__ __forceinline__
#define FUNCTION_OF_CLASS __device__ __forceinline__

#define EVERY_LANE 0xffffffffu

// As many numbers as 16 bytes hold: one access of a thread.
struct __align__(16) Pack {
    static constexpr int SIZE = 16 / sizeof(real);
    real at[SIZE];
};

FUNCTION int64 least(int64 a, int64 b) { return a < b ? a : b; }

// a * b + c, rounded once.
FUNCTION float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
FUNCTION double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// The number of this thread among all of a grid in one dimension, and how many there are: a loop's start and stride.
FUNCTION int64 first_of_grid() { return int64(blockIdx.x) * blockDim.x + threadIdx.x; }
FUNCTION int64 grid_stride() { return int64(gridDim.x) * blockDim.x; }

// A join of the values of GROUP threads, a power of two: neighbours in a warp, or all threads of a block. All get the
// result, and its bits are the same each time: neighbours join in pairs, warps in their order. All threads of a block
// have to call it.
template <int GROUP, class T, class Join> FUNCTION T joined(T value, Join join) {
    constexpr int lanes = GROUP < 32 ? GROUP : 32;
    for (int step = lanes / 2; step > 0; step /= 2) value = join(value, __shfl_xor_sync(EVERY_LANE, value, step));
    if constexpr (GROUP > 32) {
        SHARED(T, warps, [GROUP / 32]);
        __syncthreads(); // everybody has read what the time before has left
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
        __syncthreads();
        value = warps[0];
        for (int warp = 1; warp < GROUP / 32; warp++) value = join(value, warps[warp]);
    }
    return value;
}

template <int GROUP, class T> FUNCTION T sum(T value) {
    return joined<GROUP>(value, [](T a, T b) { return a + b; });
}

// NaN in any of them is the result.
template <int GROUP, class T> FUNCTION T largest(T value) {
    return joined<GROUP>(value, [](T a, T b) { return a > b || a != a ? a : b; });
}

template <int GROUP, class T> FUNCTION T smallest(T value) {
    return joined<GROUP>(value, [](T a, T b) { return a < b ? a : b; });
}

// Whether this block is the last of `count` to come here: what the others wrote before is there for its threads then.
// `counter` is 0 before the first and behind the last. All threads of a block have to call it, with shared memory for a
// number, which may have held something else until then.
FUNCTION bool is_last(int* counter, int64 count, int* came) {
    __threadfence(); // what this thread has written is there before its block counts
    __syncthreads();
    if (threadIdx.x == 0) {
        came[0] = atomicAdd(counter, 1);
        __threadfence(); // and what others have, before this block reads it
        if (came[0] + 1 == count) atomicExch(counter, 0);
    }
    __syncthreads();
    return came[0] + 1 == count;
}

FUNCTION bool is_last(int* counter, int64 count) {
    SHARED(int, came, [1]);
    return is_last(counter, count, &came[0]);
}

// The rows of a grid, GROUP threads each. All threads of a block make as many turns, since they meet in sums; a row from
// n on has no columns.
template <int GROUP> struct Turn {
    int64 first, n, row;

    FUNCTION_OF_CLASS Turn(int64 rows) : first(int64(blockIdx.x) * groups()), n(rows) { row = first + threadIdx.x / GROUP; }
    FUNCTION_OF_CLASS static int64 groups() { return blockDim.x / GROUP; }
    FUNCTION_OF_CLASS static int64 lane() { return threadIdx.x % GROUP; }
    FUNCTION_OF_CLASS bool any() const { return first < n; }
    FUNCTION_OF_CLASS bool is_row() const { return row < n; }
    FUNCTION_OF_CLASS void next() { first += gridDim.x * groups(), row += gridDim.x * groups(); }
};
