// Recurrent cells through all steps, a block for a sample: n samples of t steps, u units, g sums of their gates.
//
// CELL is SIMPLE, LSTM or GRU; `backwards` begins with the last step. forward: gates (n, t, g) hold the inputs' sums and
// become gates, in the order of the inputs' steps; y (n, t, u) and kept (n, t, u), cells or the state's sums for the
// candidates, are in that of the making; h and c (n, u) are the last states. w is recurrent_kernel (u, g), bias (g,) or
// none what the state's sums begin with, sums (n, g) room for them. backward: dsums (n, t, g) and of a GRU dstate, the
// gradients by the sums of the inputs and of the state; before (n, t, u) the states that the steps were made with; dh
// and dc (n, u) go from the last states' to the first ones'; w is the transpose (g, u). A step whose mask (n, t) is 0
// leaves the state as it is. h0 and c0 may be none: zeros.

FUNCTION bool counts(const Cells& given, int64 step) { return !given.mask || given.mask[step] != 0; }
FUNCTION real first_of(const real* start, int64 at) { return start ? start[at] : real(0); }

extern "C" __global__ void forward(const Cells given) {
    const int64 t = given.t, u = given.u, g = given.g;
    for (int64 i = blockIdx.x; i < given.n; i += gridDim.x) {
        for (int64 s = 0; s < t; s++) {
            const int64 step = i * t + (given.backwards ? t - 1 - s : s), place = (i * t + s) * u;
            const bool counted = counts(given, step);
            real* gates = given.gates + step * g;
            for (int64 j = threadIdx.x; j < g; j += blockDim.x) {
                real total = 0;
                for (int64 k = 0; k < u; k++) {
                    const real h = s ? given.y[place - u + k] : first_of(given.h0, i * u + k);
                    total = multiply_add(h, given.w[k * g + j], total);
                }
                if (CELL == GRU)
                    given.sums[i * g + j] = total + first_of(given.bias, j);
                else
                    gates[j] += total;
            }
            __syncthreads();
            for (int64 j = threadIdx.x; j < u; j += blockDim.x) {
                const real old = s ? given.y[place - u + j] : first_of(given.h0, i * u + j);
                real h = old;
#if CELL == LSTM
                const real last = s ? given.kept[place - u + j] : first_of(given.c0, i * u + j);
                real c = last, a[4] = {};
                if (counted)
                    lstm_cell(gates[j], gates[u + j], gates[2 * u + j], gates[3 * u + j], last, a, a + 1, a + 2, a + 3, &c, &h);
                for (int gate = 0; gate < 4; gate++) gates[gate * u + j] = a[gate];
                given.kept[place + j] = c;
#elif CELL == GRU
                const real* sums = given.sums + i * g;
                real a[3] = {};
                if (counted)
                    gru_cell(gates[j], gates[u + j], gates[2 * u + j], sums[j], sums[u + j], sums[2 * u + j], old, a, a + 1, a + 2, &h);
                for (int gate = 0; gate < 3; gate++) gates[gate * u + j] = a[gate];
                given.kept[place + j] = counted ? sums[2 * u + j] : real(0);
#else
                if (counted) activate(gates[j], &h);
#endif
                given.y[place + j] = h;
            }
            __syncthreads();
        }
        for (int64 j = threadIdx.x; j < u; j += blockDim.x) {
            const int64 last = (i * t + t - 1) * u + j;
            given.h[i * u + j] = t ? given.y[last] : first_of(given.h0, i * u + j);
#if CELL == LSTM
            given.c[i * u + j] = t ? given.kept[last] : first_of(given.c0, i * u + j);
#endif
        }
    }
}

extern "C" __global__ void backward(const Cells given) {
    const int64 t = given.t, u = given.u, g = given.g;
    for (int64 i = blockIdx.x; i < given.n; i += gridDim.x) {
        for (int64 s = t - 1; s >= 0; s--) {
            const int64 step = i * t + (given.backwards ? t - 1 - s : s), place = (i * t + s) * u;
            real* dsums = given.dsums + step * g;
            real* dstate = given.dstate + step * g;
            [[maybe_unused]] const real* gates = given.gates + step * g;
            for (int64 j = threadIdx.x; j < u; j += blockDim.x) {
                const real old = s ? given.y[place - u + j] : first_of(given.h0, i * u + j);
                given.before[step * u + j] = old;
                real dh = given.dh[i * u + j];
                if (given.dy) dh += given.dy[place + j];
                real a[4] = {}, direct = dh;
                if (counts(given, step)) {
#if CELL == LSTM
                    const real last = s ? given.kept[place - u + j] : first_of(given.c0, i * u + j);
                    lstm_cell_backward(dh, given.dc[i * u + j], gates[j], gates[u + j], gates[2 * u + j], gates[3 * u + j], last,
                                       given.kept[place + j], a, a + 1, a + 2, a + 3, given.dc + i * u + j);
                    direct = 0;
#elif CELL == GRU
                    gru_cell_backward(dh, gates[j], gates[u + j], gates[2 * u + j], given.kept[place + j], old, a, a + 1, a + 2,
                                      a + 3, &direct);
#else
                    activate_backward(dh, given.y[place + j], a);
                    direct = 0;
#endif
                }
#if CELL == GRU
                for (int gate = 0; gate < 3; gate++) {
                    dsums[gate * u + j] = a[gate];
                    dstate[gate * u + j] = a[gate < 2 ? gate : 3];
                }
#else
                for (int64 gate = 0; gate * u < g; gate++) dsums[gate * u + j] = a[gate];
#endif
                given.dh[i * u + j] = direct;
            }
            __syncthreads();
            for (int64 j = threadIdx.x; j < u; j += blockDim.x) {
                real total = 0;
                for (int64 k = 0; k < g; k++) total = multiply_add(dstate[k], given.w[k * u + j], total);
                given.dh[i * u + j] += total;
            }
            __syncthreads();
        }
    }
}
