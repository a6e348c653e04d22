// The device of host.h: fibres, barriers, warps, shared memory. Compiled without instrumentation, which its users have.

#include "host.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(FASTNN_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace host {

Place* here;
dim3 block_size, grid_size;

namespace {

constexpr uint64_t STACK = 128 << 10;
constexpr int RESIDENT_BLOCKS = 4;
constexpr uint64_t GUARD = 64;
constexpr unsigned char PAINT = 0xff; // of memory that nobody has written: NaN, in floats

// ---------------------------------------------------------------------------------------------------------- contexts

#if defined(__x86_64__)
// Push what a function has to preserve, leave the stack's pointer in *save, and go on with another stack.
extern "C" void fastnn_host_switch(void** save, void* load) __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden fastnn_host_switch
.globl fastnn_host_switch
.type fastnn_host_switch, @function
fastnn_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size fastnn_host_switch, .-fastnn_host_switch
)");

struct Context {
    void* stack = nullptr;

    void start(char* memory, void (*entry)()) {
        void** top = reinterpret_cast<void**>(memory + STACK);
        *--top = nullptr; // the entry returns to nowhere: it never does
        *--top = reinterpret_cast<void*>(entry);
        for (int preserved = 0; preserved < 6; preserved++) *--top = nullptr;
        stack = top;
    }
};
void go(Context& from, Context& to) { fastnn_host_switch(&from.stack, to.stack); }
#else
struct Context {
    ucontext_t registers;

    void start(char* memory, void (*entry)()) {
        getcontext(&registers);
        registers.uc_stack.ss_sp = memory;
        registers.uc_stack.ss_size = STACK;
        registers.uc_link = nullptr;
        makecontext(&registers, entry, 0);
    }
};
void go(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }
#endif

// ------------------------------------------------------------------------------------------------ threads and blocks

enum State { READY, WAITING, RETURNED };

struct Block;
struct Warp;

// A thread's copies to come, in the order asked for, each with the number of its group.
struct Copies {
    static constexpr int MOST = 64;
    Copy copy[MOST];
    int group[MOST];
    int first = 0, count = 0, current = 0;
};

struct Thread {
    Place place;
    Block* block;
    Warp* warp;
    int lane;
    State state = READY;
    Context context;
    char* stack;
    uint64_t result = 0;
    bool started = false;
    void* sanitizer = nullptr;
    bool fenced = false;
    void* counted = nullptr; // by its last atomic operation
    Copies copies;
};

// Lanes that have come to an exchange and wait for the rest of their mask.
struct Meeting {
    Exchange kind;
    unsigned mask, arrived;
    int line;
    uint64_t value[32];
    int source[32];
    char token[2];
};

struct Warp {
    Thread* lanes[32] = {};
    unsigned returned = ~0u; // lanes that there are not, or not any more
    std::vector<Meeting> meetings;
    char tokens[2];
    int turn = 0;
    Fragment fragments[2][32]; // by turns: a lane reads one gathering's while another gives its own to the next
    int gathers = 0;

    Warp() { meetings.reserve(32); } // no memory of a fibre's is another's to free: the sanitizer would take it for a race
};

struct Memory {
    const void* site;
    uint64_t bytes;
    const char* name;
    char* base;
};

struct Block {
    dim3 index;
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<Warp> warps;
    std::vector<Memory> memories;
    int alive, waiting = 0, line = 0, phase = 0;
    char tokens[2];

    Block() { memories.reserve(64); }
};

struct Launch {
    void (*entry)(const void*);
    const void* arguments;
    uint64_t shared_bytes;
    std::string error;
    char begun, ended, given;
};

Launch* launch;
Thread* current;
Context scheduler;
void* scheduler_sanitizer;
std::vector<char*> stacks;

// ------------------------------------------------------------------------------------------- what the sanitizer knows

// Only barriers and __syncwarp order what threads do; that a fibre ran before another does not. So the memory of a block
// that has ended is another's only after the launch.
#if defined(FASTNN_TSAN)
constexpr bool SANITIZED = true;

// Fibres of launches before: to make one takes as long as to run it. What they did then comes before all of this launch.
constexpr size_t MOST_FIBRES = 4096;
std::vector<void*> fibres;

void* new_fibre() {
    if (fibres.empty()) return __tsan_create_fiber(0);
    void* fibre = fibres.back();
    fibres.pop_back();
    return fibre;
}
void give_back(void* fibre) {
    if (fibres.size() < MOST_FIBRES)
        fibres.push_back(fibre);
    else
        __tsan_destroy_fiber(fibre);
}
void release(void* token) { __tsan_release(token); }
void acquire(void* token) { __tsan_acquire(token); }
void tell_switch(void* fiber) { __tsan_switch_to_fiber(fiber, __tsan_switch_to_fiber_no_sync); }
#else
constexpr bool SANITIZED = false;
void release(void*) {}
void acquire(void*) {}
void tell_switch(void*) {}
#endif

void leave() {
    tell_switch(scheduler_sanitizer);
    go(current->context, scheduler);
}

void wait() {
    current->state = WAITING;
    leave();
}

void wake(Block& block) {
    block.waiting = 0;
    block.phase++;
    for (auto& thread : block.threads)
        if (thread->state == WAITING) thread->state = READY;
}

void run() {
    Thread* thread = current;
    acquire(&launch->begun);
    launch->entry(launch->arguments);
    release(&launch->ended);
    Block& block = *thread->block;
    Warp& warp = *thread->warp;
    thread->state = RETURNED;
    block.alive--;
    warp.returned |= 1u << thread->lane;
    for (const Meeting& meeting : warp.meetings)
        if (meeting.mask & warp.returned)
            fail("line %d: lane %d has returned, and others wait for it", meeting.line, thread->lane);
    if (block.waiting && block.waiting == block.alive) wake(block);
    leave();
}

char* new_stack() {
    if (stacks.empty()) {
        void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) abort();
        return static_cast<char*>(memory);
    }
    char* stack = stacks.back();
    stacks.pop_back();
    return stack;
}

std::unique_ptr<Block> begun(uint64_t number) {
    auto block = std::make_unique<Block>();
    const uint64_t x = grid_size.x, y = grid_size.y;
    block->index = {unsigned(number % x), unsigned(number / x % y), unsigned(number / x / y)};
    const unsigned count = block_size.x * block_size.y * block_size.z;
    block->alive = count;
    block->warps.resize((count + 31) / 32);
    for (unsigned i = 0; i < count; i++) {
        auto thread = std::make_unique<Thread>();
        const unsigned bx = block_size.x, by = block_size.y;
        thread->place = {{i % bx, i / bx % by, i / bx / by}, block->index};
        thread->block = block.get();
        thread->warp = &block->warps[i / 32];
        thread->lane = i % 32;
        thread->warp->lanes[i % 32] = thread.get();
        thread->warp->returned &= ~(1u << (i % 32));
        thread->stack = new_stack();
        thread->context.start(thread->stack, run);
        block->threads.push_back(std::move(thread));
    }
    return block;
}

void check(const Block& block) {
    for (const Memory& memory : block.memories) {
        bool intact = true;
        for (uint64_t i = 0; i < GUARD; i++)
            intact = intact && (unsigned char)memory.base[i] == PAINT &&
                     (unsigned char)memory.base[GUARD + memory.bytes + i] == PAINT;
        if (!intact && launch->error.empty())
            launch->error = std::string("the memory beside the shared array ") + memory.name + " was written to";
    }
}

void clear(Block& block) {
    for (const Memory& memory : block.memories) free(memory.base);
    for (auto& thread : block.threads) {
#if defined(FASTNN_TSAN)
        if (thread->sanitizer) give_back(thread->sanitizer);
#endif
        stacks.push_back(thread->stack);
    }
}

void resume(Thread& thread) {
    current = &thread;
    here = &thread.place;
#if defined(FASTNN_TSAN)
    if (!thread.started) thread.sanitizer = new_fibre();
    thread.started = true;
    tell_switch(thread.sanitizer);
#endif
    go(scheduler, thread.context);
}

// The lanes that have come with the same value as one of them.
uint64_t same(const Meeting& meeting, int lane) {
    uint64_t lanes = 0;
    for (int i = 0; i < 32; i++)
        if (meeting.mask >> i & 1 && meeting.value[i] == meeting.value[lane]) lanes |= 1u << i;
    return lanes;
}

// What is wrong where no thread can go on.
std::string deadlock(const std::vector<std::unique_ptr<Block>>& blocks) {
    for (const auto& block : blocks) {
        for (const Warp& warp : block->warps)
            for (const Meeting& meeting : warp.meetings)
                return "line " + std::to_string(meeting.line) + ": lanes wait for others of their mask, which do not come";
        if (block->waiting)
            return "line " + std::to_string(block->line) + ": " + std::to_string(block->waiting) +
                   " threads wait at a barrier, and others of their block elsewhere";
    }
    return "no thread can go on";
}

} // namespace

void fail(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (launch->error.empty()) launch->error = text;
    current->state = RETURNED;
    leave();
    abort(); // nobody comes back to it
}

int lane() { return current->lane; }

void fence() {
    current->fenced = true;
    if (current->counted) acquire(current->counted);
}

void begin_atomic(void* at) {
    if (current->fenced) release(at);
    current->counted = at;
}

void barrier(int line) {
    Block& block = *current->block;
    if (block.waiting && block.line != line)
        fail("threads of a block wait at the barriers of line %d and of line %d", block.line, line);
    char* token = &block.tokens[block.phase % 2]; // by turns: who is early must not seem to wait for who is late
    release(token);
    block.line = line;
    block.waiting++;
    if (block.waiting == block.alive)
        wake(block);
    else
        wait();
    acquire(token);
}

uint64_t exchange(Exchange kind, unsigned mask, uint64_t value, int source, int line) {
    Thread* thread = current;
    Warp& warp = *thread->warp;
    const int lane = thread->lane;
    if (!(mask >> lane & 1)) fail("line %d: lane %d is not in its own mask %08x", line, lane, mask);
    if (mask & warp.returned) fail("line %d: the mask %08x has lanes that are not there or have returned", line, mask);
    if (kind == SHUFFLE && !(mask >> source & 1))
        fail("line %d: lane %d reads lane %d, which is not in its mask %08x", line, lane, source, mask);
    char* token = &warp.tokens[warp.turn % 2];
    if (kind == WAIT) release(token);
    auto meeting = std::find_if(warp.meetings.begin(), warp.meetings.end(), [&](const Meeting& m) { return m.mask & mask; });
    if (meeting == warp.meetings.end()) {
        warp.meetings.push_back({kind, mask, 0, line, {}, {}, {}});
        meeting = warp.meetings.end() - 1;
    }
    if (meeting->mask != mask || meeting->line != line || meeting->kind != kind)
        fail("lanes of a warp meet at line %d with the mask %08x and at line %d with %08x", meeting->line, meeting->mask,
             line, mask);
    meeting->arrived |= 1u << lane;
    meeting->value[lane] = value;
    meeting->source[lane] = source;
    if (meeting->arrived != mask) {
        wait();
    } else {
        uint64_t ballot = 0;
        for (int i = 0; i < 32; i++)
            if (mask >> i & 1) ballot |= (meeting->value[i] & 1) << i;
        for (int i = 0; i < 32; i++) {
            if (!(mask >> i & 1)) continue;
            warp.lanes[i]->result = kind == SHUFFLE ? meeting->value[meeting->source[i]]
                                    : kind == MATCH ? same(*meeting, i)
                                                    : ballot;
            warp.lanes[i]->state = READY;
        }
        warp.meetings.erase(meeting);
        warp.turn++;
        warp.gathers += kind == GATHER;
    }
    if (kind == WAIT) acquire(token);
    return thread->result;
}

const Fragment* gather(const Fragment& own, int line) {
    Warp& warp = *current->warp;
    Fragment* all = warp.fragments[warp.gathers % 2];
    all[current->lane] = own;
    exchange(GATHER, 0xffffffffu, 0, 0, line);
    return all;
}

void copy_later(uint4* to, const uint4* from, int line) {
    Copies& copies = current->copies;
    if ((uintptr_t(to) | uintptr_t(from)) % 16) fail("line %d: a copy of 16 bytes that is not aligned", line);
    if (copies.count == Copies::MOST) fail("line %d: a thread asks for more than %d copies", line, Copies::MOST);
    const int place = (copies.first + copies.count++) % Copies::MOST;
    copies.copy[place] = {to, from};
    copies.group[place] = copies.current;
}

void end_group() { current->copies.current++; }

const Copy* copy_due(int pending) {
    Copies& copies = current->copies;
    if (copies.count == 0 || copies.group[copies.first] >= copies.current - pending) return nullptr;
    const Copy* due = &copies.copy[copies.first];
    copies.first = (copies.first + 1) % Copies::MOST;
    copies.count--;
    return due;
}

void* shared(const void* site, uint64_t bytes, const char* name) {
    Block& block = *current->block;
    acquire(&launch->given);
    for (const Memory& memory : block.memories)
        if (memory.site == site) return memory.base + GUARD;
    if (site == nullptr) bytes = launch->shared_bytes;
    const uint64_t whole = (bytes + 2 * GUARD + GUARD - 1) / GUARD * GUARD;
    tell_switch(scheduler_sanitizer); // who gives memory has not written to it
    char* base = static_cast<char*>(aligned_alloc(GUARD, whole));
    release(&launch->given);
    tell_switch(current->sanitizer);
    acquire(&launch->given);
    for (uint64_t i = 0; i < whole; i++) ((volatile char*)base)[i] = (char)PAINT;
    block.memories.push_back({site, bytes, name, base});
    return base + GUARD;
}

} // namespace host

using namespace host;

// Run a kernel: null, or what went wrong. An order of turns by `seed`; 0 is that of the threads' numbers.
extern "C" __attribute__((visibility("default"))) const char* fastnn_host_launch(
    void (*entry)(const void*), const void* arguments, const unsigned* grid, const unsigned* block, uint64_t shared_bytes,
    unsigned seed) {
    static std::string said;
    Launch own{entry, arguments, shared_bytes, "", 0, 0, 0};
    launch = &own;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
#if defined(FASTNN_TSAN)
    scheduler_sanitizer = __tsan_get_current_fiber();
#endif
    std::mt19937 random(seed);
    const uint64_t count = uint64_t(grid_size.x) * grid_size.y * grid_size.z;
    std::vector<uint64_t> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0);
    if (seed) std::shuffle(numbers.begin(), numbers.end(), random);
    std::vector<std::unique_ptr<Block>> resident, gone, kept;
    uint64_t next = 0;
    while (own.error.empty() && (next < count || !resident.empty())) {
        while (next < count && resident.size() < RESIDENT_BLOCKS) resident.push_back(begun(numbers[next++]));
        release(&own.begun); // a fibre of an earlier launch has seen none of it
        std::vector<Thread*> ready;
        for (auto& each : resident)
            for (auto& thread : each->threads)
                if (thread->state == READY) ready.push_back(thread.get());
        if (ready.empty()) own.error = deadlock(resident);
        if (seed) std::shuffle(ready.begin(), ready.end(), random);
        for (Thread* thread : ready) {
            resume(*thread);
            if (!own.error.empty()) break;
        }
        for (auto& each : resident)
            if (each->alive == 0 || !own.error.empty()) {
                check(*each);
                (SANITIZED ? kept : gone).push_back(std::move(each));
            }
        resident.erase(std::remove(resident.begin(), resident.end(), nullptr), resident.end());
        for (auto& each : gone) clear(*each);
        gone.clear();
    }
    acquire(&own.ended);
    for (auto& each : kept) clear(*each);
    launch = nullptr;
    said = own.error;
    return said.empty() ? nullptr : said.c_str();
}

// Whether all bytes of pieces of memory, each a place and a size, are those of memory that nobody has written.
extern "C" __attribute__((visibility("default"))) bool fastnn_host_are_painted(const uint64_t (*pieces)[2], uint64_t count) {
    typedef uint64_t __attribute__((may_alias, aligned(1))) Word;
    uint64_t written = 0;
    for (uint64_t i = 0; i < count; i++) {
        const char* place = reinterpret_cast<const char*>(pieces[i][0]);
        const uint64_t size = pieces[i][1], words = size / sizeof(Word);
        for (uint64_t j = 0; j < words; j++) written |= ~reinterpret_cast<const Word*>(place)[j];
        for (uint64_t j = words * sizeof(Word); j < size; j++) written |= uint64_t((unsigned char)place[j] ^ PAINT);
    }
    return written == 0;
}
