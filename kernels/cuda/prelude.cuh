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

#define EVERY_LANE 0xffffffffu

// As many numbers as 16 bytes hold: one access of a thread.
struct __align__(16) Pack {
    static constexpr int SIZE = 16 / sizeof(real);
    real at[SIZE];
};

// The number of this thread among all of a grid in one dimension, and how many there are: a loop's start and stride.
FUNCTION int64 first_of_grid() { return int64(blockIdx.x) * blockDim.x + threadIdx.x; }
FUNCTION int64 grid_stride() { return int64(gridDim.x) * blockDim.x; }
