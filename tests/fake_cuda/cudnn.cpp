// cuDNN by its documentation, in plain loops over channels-last maps.
#include "real.h"

struct Tensor {
    bool brain;
    int n, c, h, w;
};
struct Conv {
    int pad[2], stride[2], dilation[2], groups, math;
};
struct Perf {
    int algo, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};
enum { NOT_SUPPORTED = 3000 };

FAKE size_t cudnnGetVersion() { return 91900; }
FAKE int cudnnCreate(void** handle) { return *handle = (void*)5, 0; }
FAKE int cudnnSetStream(void*, void* stream) { return stream == (void*)2 ? 0 : 2000; }
FAKE int cudnnCreateTensorDescriptor(Tensor** to) { return *to = new Tensor{}, 0; }
FAKE int cudnnSetTensor4dDescriptor(Tensor* t, int format, int type, int n, int c, int h, int w) {
    REQUIRE(format == 1 && (type == 0 || type == 9) && n > 0 && c > 0 && h > 0 && w > 0);
    return *t = Tensor{type == 9, n, c, h, w}, 0;
}
FAKE int cudnnCreateFilterDescriptor(Tensor** to) { return *to = new Tensor{}, 0; }
FAKE int cudnnSetFilter4dDescriptor(Tensor* t, int type, int format, int k, int c, int h, int w) {
    REQUIRE(format == 1 && (type == 0 || type == 9));
    return *t = Tensor{type == 9, k, c, h, w}, 0;
}
FAKE int cudnnCreateConvolutionDescriptor(Conv** to) { return *to = new Conv{}, 0; }
FAKE int cudnnSetConvolution2dDescriptor(Conv* c, int top, int left, int down, int across, int deep, int wide, int mode, int type) {
    REQUIRE(mode == 1 && type == 0);
    *c = Conv{{top, left}, {down, across}, {deep, wide}, 1, 0};
    return 0;
}
FAKE int cudnnSetConvolutionGroupCount(Conv* c, int groups) { return c->groups = groups, 0; }
FAKE int cudnnSetConvolutionMathType(Conv* c, int math) { return c->math = math, 0; }
FAKE int cudnnCreateActivationDescriptor(int** to) { return *to = new int(-1), 0; }
FAKE int cudnnSetActivationDescriptor(int* activation, int mode, int, double) { return *activation = mode, 0; }

static int fits(const Tensor* x, const Tensor* w, const Conv* c, const Tensor* y) {
    auto out = [&](int size, int axis, int kernel) {
        return (size + 2 * c->pad[axis] - c->dilation[axis] * (kernel - 1) - 1) / c->stride[axis] + 1;
    };
    REQUIRE(x->n == y->n && x->c == w->c * c->groups && y->c == w->n && w->n % c->groups == 0);
    REQUIRE(y->h == out(x->h, 0, w->h) && y->w == out(x->w, 1, w->w));
    REQUIRE(x->brain == w->brain && x->brain == y->brain);
    return 0;
}

// Calls f(picture, output row, column, tap row, column, input row, column).
template <class F> static void taps(const Tensor* x, const Tensor* w, const Conv* c, const Tensor* y, F f) {
    for (int n = 0; n < y->n; n++)
        for (int oy = 0; oy < y->h; oy++)
            for (int ox = 0; ox < y->w; ox++)
                for (int ky = 0; ky < w->h; ky++)
                    for (int kx = 0; kx < w->w; kx++) {
                        int iy = oy * c->stride[0] + ky * c->dilation[0] - c->pad[0];
                        int ix = ox * c->stride[1] + kx * c->dilation[1] - c->pad[1];
                        if (iy >= 0 && iy < x->h && ix >= 0 && ix < x->w)
                            f(((int64_t)n * y->h + oy) * y->w + ox, (int64_t)ky * w->w + kx, ((int64_t)n * x->h + iy) * x->w + ix);
                    }
}

static std::vector<float> read(const Tensor* t, const void* from) {
    std::vector<float> values((size_t)t->n * t->c * t->h * t->w);
    for (size_t i = 0; i < values.size(); i++) values[i] = value(from, i, t->brain);
    return values;
}

static std::vector<float> forward(const Tensor* x, const void* xs, const Tensor* w, const void* ws, const Conv* c, const Tensor* y) {
    auto in = read(x, xs), kernel = read(w, ws);
    std::vector<float> out((size_t)y->n * y->c * y->h * y->w, 0.0f);
    int area = w->h * w->w, per_group = w->n / c->groups;
    taps(x, w, c, y, [&](int64_t to, int64_t tap, int64_t from) {
        for (int k = 0; k < w->n; k++) {
            const float* a = &in[from * x->c + k / per_group * w->c];
            const float* b = &kernel[((int64_t)k * area + tap) * w->c];
            float sum = 0;
            for (int i = 0; i < w->c; i++) sum += a[i] * b[i];
            out[to * y->c + k] += sum;
        }
    });
    return out;
}

FAKE int cudnnConvolutionForward(void*, const float* alpha, const Tensor* x, const void* xs, const Tensor* w, const void* ws, const Conv* c, int, void*, size_t, const float* beta, const Tensor* y, void* ys) {
    REQUIRE(*alpha == 1 && *beta == 0);
    if (int error = fits(x, w, c, y)) return error;
    auto out = forward(x, xs, w, ws, c, y);
    for (size_t i = 0; i < out.size(); i++) put(ys, i, out[i], y->brain);
    return 0;
}
FAKE int cudnnConvolutionBiasActivationForward(void*, const float* alpha, const Tensor* x, const void* xs, const Tensor* w, const void* ws, const Conv* c, int algo, void*, size_t, const float* scale, const Tensor* z, const void* zs, const Tensor* bias, const void* biases, const int* activation, const Tensor* y, void* ys) {
    REQUIRE(*alpha == 1 && bias->c == y->c && bias->n == 1 && bias->h == 1 && z->c == y->c);
    if (int error = fits(x, w, c, y)) return error;
    // As if some shapes were not known, so that both ways are gone.
    if (w->n % 3 == 0) return NOT_SUPPORTED;
    bool relu = *activation == 1;
    REQUIRE(relu || (*activation == 5 && algo == 1));
    auto out = forward(x, xs, w, ws, c, y);
    for (size_t i = 0; i < out.size(); i++) {
        float sum = out[i] + value(biases, i % y->c, bias->brain);
        if (*scale != 0) sum += *scale * value(zs, i, z->brain);
        put(ys, i, relu && sum < 0 ? 0 : sum, y->brain);
    }
    return 0;
}
FAKE int cudnnConvolutionBackwardData(void*, const float* alpha, const Tensor* w, const void* ws, const Tensor* y, const void* dys, const Conv* c, int, void*, size_t, const float* beta, const Tensor* x, void* dxs) {
    REQUIRE(*alpha == 1);
    if (int error = fits(x, w, c, y)) return error;
    auto dy = read(y, dys), kernel = read(w, ws);
    std::vector<float> dx((size_t)x->n * x->c * x->h * x->w, 0.0f);
    int area = w->h * w->w, per_group = w->n / c->groups;
    taps(x, w, c, y, [&](int64_t out, int64_t tap, int64_t in) {
        for (int k = 0; k < w->n; k++) {
            float* to = &dx[in * x->c + k / per_group * w->c];
            const float* b = &kernel[((int64_t)k * area + tap) * w->c];
            for (int i = 0; i < w->c; i++) to[i] += dy[out * y->c + k] * b[i];
        }
    });
    for (size_t i = 0; i < dx.size(); i++) {
        float sum = dx[i];
        if (*beta != 0) sum += *beta * value(dxs, i, x->brain);
        put(dxs, i, sum, x->brain);
    }
    return 0;
}
FAKE int cudnnConvolutionBackwardFilter(void*, const float* alpha, const Tensor* x, const void* xs, const Tensor* y, const void* dys, const Conv* c, int, void*, size_t, const float* beta, const Tensor* w, void* dws) {
    REQUIRE(*alpha == 1 && *beta == 0);
    if (int error = fits(x, w, c, y)) return error;
    auto in = read(x, xs), dy = read(y, dys);
    std::vector<float> dw((size_t)w->n * w->c * w->h * w->w, 0.0f);
    int area = w->h * w->w, per_group = w->n / c->groups;
    taps(x, w, c, y, [&](int64_t out, int64_t tap, int64_t from) {
        for (int k = 0; k < w->n; k++) {
            const float* a = &in[from * x->c + k / per_group * w->c];
            float* to = &dw[((int64_t)k * area + tap) * w->c];
            for (int i = 0; i < w->c; i++) to[i] += dy[out * y->c + k] * a[i];
        }
    });
    for (size_t i = 0; i < dw.size(); i++) put(dws, i, dw[i], w->brain);
    return 0;
}

static int told(int asked, int* count, Perf* to) {
    REQUIRE(asked >= 2);
    to[0] = Perf{0, NOT_SUPPORTED, -1, 0, 1, 0, {}};
    to[1] = Perf{1, 0, 1, 1024, 1, 0, {}};
    return *count = 2, 0;
}
FAKE int cudnnGetConvolutionForwardAlgorithm_v7(void*, const Tensor* x, const Tensor* w, const Conv* c, const Tensor* y, int asked, int* count, Perf* to) {
    return fits(x, w, c, y) ? 2000 : told(asked, count, to);
}
FAKE int cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, const Tensor* w, const Tensor* y, const Conv* c, const Tensor* x, int asked, int* count, Perf* to) {
    return fits(x, w, c, y) ? 2000 : told(asked, count, to);
}
FAKE int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, const Tensor* x, const Tensor* y, const Conv* c, const Tensor* w, int asked, int* count, Perf* to) {
    return fits(x, w, c, y) ? 2000 : told(asked, count, to);
}
FAKE int cudnnFindConvolutionForwardAlgorithmEx(void*, const Tensor* x, const void*, const Tensor* w, const void*, const Conv* c, const Tensor* y, void* ys, int asked, int* count, Perf* to, void*, size_t) {
    if (fits(x, w, c, y)) return 2000;
    put(ys, 0, 1e30f, y->brain);
    return told(asked, count, to);
}
FAKE int cudnnFindConvolutionBackwardDataAlgorithmEx(void*, const Tensor* w, const void*, const Tensor* y, const void*, const Conv* c, const Tensor* x, void* dxs, int asked, int* count, Perf* to, void*, size_t) {
    if (fits(x, w, c, y)) return 2000;
    put(dxs, 0, 1e30f, x->brain);
    return told(asked, count, to);
}
FAKE int cudnnFindConvolutionBackwardFilterAlgorithmEx(void*, const Tensor* x, const void*, const Tensor* y, const void*, const Conv* c, const Tensor* w, void* dws, int asked, int* count, Perf* to, void*, size_t) {
    if (fits(x, w, c, y)) return 2000;
    put(dws, 0, 1e30f, w->brain);
    return told(asked, count, to);
}
