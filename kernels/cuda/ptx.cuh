// What CUDA C++ has no name for: copies into shared memory that a thread does not wait for, and products of fragments on
// tensor cores; for compute capability 8.0 on. Beside each stands what it does, for the host.
//
// A fragment is a small matrix in the registers of a warp's lanes, by the PTX ISA's tables for mma.m16n8k8 (tf32) and
// mma.m16n8k16 (bf16). A word holds PER_WORD numbers, number q of them above those before it. With g = lane / 4 and
// t = lane % 4,
//
// - A (16 x DEPTH), 4 words: row g + 8 (word % 2), column PER_WORD t + q + DEPTH / 2 (word / 2)
// - B (DEPTH x 8), 2 words: row PER_WORD t + q + DEPTH / 2 word, column g
// - C (16 x 8), 4 floats: row g + 8 (place / 2), column 2 t + place % 2

#ifndef FASTNN_HOST

// 16 bytes from global to shared memory, some time before what waits for them goes on.
FUNCTION void copy_later(uint4* shared, const uint4* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(shared))), "l"(global)
                 : "memory");
}

// All copies asked for since the last group are one group.
FUNCTION void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait for this thread's copies, but for the last PENDING groups.
template <int PENDING> FUNCTION void wait_for_groups() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// Numbers of 11 bits in the upper 19 bits of a word; those below are of no account.
struct Tf32 {
    static constexpr int DEPTH = 8, PER_WORD = 1;

    // Rounded to the nearest, ties away from zero.
    FUNCTION unsigned word(const float (&numbers)[PER_WORD]) {
        unsigned bits;
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(numbers[0]));
        return bits;
    }

    FUNCTION float rounded(float number) {
        const float numbers[] = {number};
        return __uint_as_float(word(numbers) & 0xffffe000u);
    }

    // C += A B.
    FUNCTION void multiply(float (&c)[4], const uint4& a, unsigned b0, unsigned b1) {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
    }
};

// Numbers of 8 bits: the upper halves of floats.
struct Bf16 {
    static constexpr int DEPTH = 16, PER_WORD = 2;

    // Rounded to the nearest, ties to even.
    FUNCTION unsigned word(const float (&numbers)[PER_WORD]) {
        unsigned bits;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(numbers[1]), "f"(numbers[0]));
        return bits;
    }

    FUNCTION float rounded(float number) {
        const float numbers[] = {number, 0};
        return __uint_as_float(word(numbers) << 16);
    }

    // C += A B.
    FUNCTION void multiply(float (&c)[4], const uint4& a, unsigned b0, unsigned b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
    }
};

#else

FUNCTION void copy_later(uint4* shared, const uint4* global) { host::copy_later(shared, global, __LINE__); }
FUNCTION void end_group() { host::end_group(); }
template <int PENDING> FUNCTION void wait_for_groups() { host::wait_for_groups(PENDING); }

FUNCTION unsigned bits_of(float number) { return unsigned(host::bits_of(number)); }

FUNCTION float float_of(unsigned bits) {
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

// C += A B, each number's sum rounded once: what the lanes hold, found by where the matrices' numbers are.
template <class Format> FUNCTION void multiply_fragments(float (&c)[4], const uint4& a, unsigned b0, unsigned b1) {
    constexpr int HALF = Format::DEPTH / 2;
    const host::Fragment* held = host::gather({{a.x, a.y, a.z, a.w, b0, b1}}, __LINE__);
    for (int place = 0; place < 4; place++) {
        const int i = host::lane() / 4 + 8 * (place / 2), j = host::lane() % 4 * 2 + place % 2;
        double sum = c[place];
        for (int k = 0; k < Format::DEPTH; k++) {
            const int t = k % HALF / Format::PER_WORD, half = k / HALF, q = k % Format::PER_WORD;
            const unsigned of_a = held[i % 8 * 4 + t].word[i / 8 + 2 * half], of_b = held[j * 4 + t].word[4 + half];
            sum += double(Format::number(of_a, q)) * Format::number(of_b, q);
        }
        c[place] = float(sum);
    }
}

struct Tf32 {
    static constexpr int DEPTH = 8, PER_WORD = 1;

    FUNCTION float number(unsigned word, int) { return float_of(word & 0xffffe000u); }

    FUNCTION unsigned word(const float (&numbers)[PER_WORD]) {
        return numbers[0] == numbers[0] ? (bits_of(numbers[0]) + 0x1000u) & 0xffffe000u : 0x7fffe000u;
    }
    FUNCTION float rounded(float number) { return float_of(word({number})); }

    FUNCTION void multiply(float (&c)[4], const uint4& a, unsigned b0, unsigned b1) {
        multiply_fragments<Tf32>(c, a, b0, b1);
    }
};

struct Bf16 {
    static constexpr int DEPTH = 16, PER_WORD = 2;

    FUNCTION float number(unsigned word, int q) { return float_of(word >> 16 * q << 16); }

    FUNCTION unsigned upper(float number) {
        const unsigned bits = bits_of(number);
        return number == number ? (bits + 0x7fffu + (bits >> 16 & 1)) >> 16 : 0x7fffu;
    }
    FUNCTION unsigned word(const float (&numbers)[PER_WORD]) { return upper(numbers[0]) | upper(numbers[1]) << 16; }
    FUNCTION float rounded(float number) { return float_of(upper(number) << 16); }

    FUNCTION void multiply(float (&c)[4], const uint4& a, unsigned b0, unsigned b1) {
        multiply_fragments<Bf16>(c, a, b0, b1);
    }
};

#endif
