// Convolutions of images x (n, h, w, c) with a kernel (kh, kw, share, f), and of what has their sums: y (n, oh, ow, f).
//
// forward: y = the sums over windows of x, or what a bias adds to them. by_x: the sums over the y that an x went into,
// of y times the kernel; with a bias for each channel of x. by_kernel: part[chunk] (kh, kw, share, f) = the sums over a
// chunk of the places of y, of x times y. A thread has one number, its neighbours those of the next channels or maps;
// each sum is in one order. Of groups, each has its share of the channels of x and of the f maps.

extern "C" __global__ void forward(const Windows given) {
    const int64 size = given.n * given.oh * given.ow * given.f, maps = given.f / given.groups;
    for (int64 i = first_of_grid(); i < size; i += grid_stride()) {
        const int64 map = i % given.f, place = i / given.f;
        const int64 column = place % given.ow, row = place / given.ow % given.oh, image = place / given.ow / given.oh;
        real sum = given.bias ? given.bias[map] : real(0);
        for (int64 k = 0; k < given.kh; k++) {
            const int64 down = row * given.down + k * given.tall - given.top;
            if (down < 0 || down >= given.h) continue;
            for (int64 m = 0; m < given.kw; m++) {
                const int64 across = column * given.across + m * given.wide - given.left;
                if (across < 0 || across >= given.w) continue;
                const int64 pixel = (image * given.h + down) * given.w + across;
                const real* x = given.x + pixel * given.c + map / maps * given.share;
                const real* kernel = given.kernel + (k * given.kw + m) * given.share * given.f + map;
                for (int64 c = 0; c < given.share; c++) sum = multiply_add(x[c], kernel[c * given.f], sum);
            }
        }
        given.result[i] = sum;
    }
}

extern "C" __global__ void by_x(const Windows given) {
    const int64 size = given.n * given.h * given.w * given.c, maps = given.f / given.groups;
    for (int64 i = first_of_grid(); i < size; i += grid_stride()) {
        const int64 channel = i % given.c, place = i / given.c, first = channel / given.share * maps;
        const int64 across = place % given.w + given.left, down = place / given.w % given.h + given.top;
        const int64 image = place / given.w / given.h;
        real sum = given.bias ? given.bias[channel] : real(0);
        for (int64 k = 0; k < given.kh; k++) {
            const int64 below = down - k * given.tall, row = below / given.down;
            if (below < 0 || row * given.down != below || row >= given.oh) continue;
            for (int64 m = 0; m < given.kw; m++) {
                const int64 behind = across - m * given.wide, column = behind / given.across;
                if (behind < 0 || column * given.across != behind || column >= given.ow) continue;
                const int64 tap = (k * given.kw + m) * given.share + channel % given.share;
                const real* y = given.y + ((image * given.oh + row) * given.ow + column) * given.f + first;
                const real* kernel = given.kernel + tap * given.f + first;
                for (int64 f = 0; f < maps; f++) sum = multiply_add(y[f], kernel[f], sum);
            }
        }
        given.result[i] = sum;
    }
}

extern "C" __global__ void by_kernel(const Windows given) {
    const int64 size = given.kh * given.kw * given.share * given.f, maps = given.f / given.groups;
    const int64 places = given.n * given.oh * given.ow;
    for (int64 i = first_of_grid(); i < size * given.chunks; i += grid_stride()) {
        const int64 chunk = i / size, map = i % given.f, channel = i / given.f % given.share;
        const int64 tap = i % size / given.f / given.share, k = tap / given.kw, m = tap % given.kw;
        real sum = 0;
        for (int64 place = chunk * places / given.chunks; place < (chunk + 1) * places / given.chunks; place++) {
            const int64 down = place / given.ow % given.oh * given.down + k * given.tall - given.top;
            const int64 across = place % given.ow * given.across + m * given.wide - given.left;
            if (down < 0 || down >= given.h || across < 0 || across >= given.w) continue;
            const int64 pixel = (place / given.ow / given.oh * given.h + down) * given.w + across;
            const real x = given.x[pixel * given.c + map / maps * given.share + channel];
            sum = multiply_add(x, given.y[place * given.f + map], sum);
        }
        given.result[i] = sum;
    }
}
