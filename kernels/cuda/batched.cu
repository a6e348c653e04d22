// y[s] = a[s] @ b[s] of a (samples, n, k) and b (samples, k, m) with any strides; y is in order.
//
// batch_matmul: a thread a number of y, one chain of multiply-adds in the order of k.

extern "C" __global__ void batch_matmul(const Products given) {
    for (int64 at = first_of_grid(); at < given.samples * given.n * given.m; at += grid_stride()) {
        const int64 column = at % given.m, row = at / given.m % given.n, sample = at / given.m / given.n;
        const real* a = given.a + sample * given.a_sample + row * given.a_row;
        const real* b = given.b + sample * given.b_sample + column * given.b_column;
        real sum = 0;
        for (int64 k = 0; k < given.k; ++k) sum += a[k * given.a_column] * b[k * given.b_row];
        given.y[at] = sum;
    }
}
