// CUDA's language for g++: what a .cu file needs of a device, on one thread of the CPU.
//
// A thread of a block is a fibre, and runs until it has to wait: at a barrier, or for the lanes of its warp. The fibres
// of some blocks take turns, in an order that a seed decides. What CUDA leaves undefined is an error that ends the
// launch: threads of a block at different barriers, a lane outside of its own mask, a mask with a lane that has
// returned or waits elsewhere, memory beside a shared array written to. See host.cpp.

#ifndef FASTNN_HOST
#define FASTNN_HOST 1

#include <math.h>

#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x, y, z;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
struct __align__(16) double2 {
    double x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};

#pragma GCC visibility push(default) // of the device, which is a library of its own
namespace host {

// Where a fibre is: what the device's built-in variables say.
struct Place {
    dim3 thread, block;
};

extern Place* here;
extern dim3 block_size, grid_size;

// End the launch with a message.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Wait for all threads of the block that have not returned.
void barrier(int line);

// What the lanes of a mask give one another: all give a value, and get that of a lane, a bit of each, or who has the same.
enum Exchange { SHUFFLE, BALLOT, MATCH, WAIT, GATHER };
uint64_t exchange(Exchange kind, unsigned mask, uint64_t value, int source, int line);

inline void wait_for_lanes(int line, unsigned mask = 0xffffffffu) { exchange(WAIT, mask, 0, 0, line); }

// What is written before it is there before what comes behind; `begin_atomic` comes before every atomic operation.
void fence();
void begin_atomic(void* at);

// The lane of the calling thread.
int lane();

// What a lane holds of a product's operands; `gather` gives every lane of the warp what all of them hold.
struct Fragment {
    unsigned word[6];
};
const Fragment* gather(const Fragment& own, int line);

// Copies of 16 bytes that a thread asks for and goes on: made as late as may be, when it waits for them.
struct Copy {
    uint4* to;
    const uint4* from;
};
void copy_later(uint4* to, const uint4* from, int line);
void end_group();
const Copy* copy_due(int pending); // the next one of all but the last `pending` groups, or null

inline void wait_for_groups(int pending) {
    while (const Copy* copy = copy_due(pending)) *copy->to = *copy->from;
}

// The block's memory of a site, guarded on both sides; dynamic memory has the site null.
void* shared(const void* site, uint64_t bytes, const char* name);

template <class T> uint64_t bits_of(T value) {
    static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T> T from_lane(unsigned mask, T value, int source, int line) {
    const uint64_t bits = exchange(SHUFFLE, mask, bits_of(value), source, line);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

// The lane that a shuffle reads: its own where the other is outside of its segment of `width` lanes.
inline int in_segment(int source, int width) { return source / width == lane() / width && source >= 0 ? source : lane(); }

} // namespace host
#pragma GCC visibility pop

#define threadIdx (host::here->thread)
#define blockIdx (host::here->block)
#define blockDim host::block_size
#define gridDim host::grid_size
constexpr int warpSize = 32;

#define __syncthreads() host::barrier(__LINE__)
#define __syncwarp(...) host::wait_for_lanes(__LINE__, ##__VA_ARGS__)
#define __ballot_sync(mask, bit) ((unsigned)host::exchange(host::BALLOT, mask, (bit) != 0, 0, __LINE__))
#define __any_sync(mask, bit) (__ballot_sync(mask, bit) != 0)
#define __all_sync(mask, bit) (__ballot_sync(mask, bit) == (mask))
#define __match_any_sync(mask, value) ((unsigned)host::exchange(host::MATCH, mask, host::bits_of(value), 0, __LINE__))
#define __shfl_sync(mask, value, source) host::from_lane(mask, value, (source) & 31, __LINE__)
#define __shfl_xor_sync(mask, value, bits) host::from_lane(mask, value, host::lane() ^ (bits), __LINE__)
#define __shfl_down_sync(mask, value, by) host::from_lane(mask, value, host::in_segment(host::lane() + (by), 32), __LINE__)
#define __shfl_up_sync(mask, value, by) host::from_lane(mask, value, host::in_segment(host::lane() - (by), 32), __LINE__)

#define SHARED(type, name, dimensions)                                                                                 \
    using name##_array = type dimensions;                                                                              \
    static const char name##_site = 0;                                                                                 \
    name##_array& name = *static_cast<name##_array*>(host::shared(&name##_site, sizeof(name##_array), #name))
#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(host::shared(nullptr, 0, #name))

// An atomic operation behind a fence publishes what was written before it, one before a fence lets in what others
// published there: so ThreadSanitizer sees both, for the operations themselves say nothing of an order.
#define __threadfence() host::fence()

template <class T> T loaded(T* at) {
    T value;
    __atomic_load(at, &value, __ATOMIC_RELAXED);
    return value;
}
template <class T> T atomicAdd(T* at, T value) {
    host::begin_atomic(at);
    T old = loaded(at), sum = old + value;
    while (!__atomic_compare_exchange(at, &old, &sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) sum = old + value;
    return old;
}
template <class T> T atomicExch(T* at, T value) {
    host::begin_atomic(at);
    T old;
    __atomic_exchange(at, &value, &old, __ATOMIC_RELAXED);
    return old;
}
template <class T> T atomicMax(T* at, T value) {
    T old = loaded(at);
    while (old < value && !__atomic_compare_exchange(at, &old, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }

// A kernel of one structure of arguments, for ctypes.
#define HOST_KERNEL(name, arguments)                                                                                   \
    static void name##_thread(const void* given) { name(*static_cast<const arguments*>(given)); }                      \
    extern "C" {                                                                                                       \
    __attribute__((visibility("default"))) void (*name##_entry)(const void*) = name##_thread;                          \
    }

#endif
