// Depthwise convolutions, forward and back. Kernels lie by tap, [area, channels], in float.

struct Depthwise {
    const REAL* x;
    const float* kernel;
    const float* bias;
    const REAL* residual;
    // A norm and its clamp that are taken of `x` on the way, or null.
    const float* in_mean;
    const float* in_scale;
    const float* in_offset;
    REAL* y;
    Window window;
    int pictures;
    // What the norm of `x`, or `x` itself, is clamped to.
    float in_low, in_high;
    int activation;
    // Whether the kernel is turned around: the gradient to the input where strides are 1.
    int turned;
};

// What the window reads at a place of the map: `x`, or the norm and activation of it.
template <int V> struct Source {
    const REAL* x;
    float mean[V], scale[V], offset[V];
    float low, high;
    bool norm;

    __device__ inline void open(const REAL* from, const float* m, const float* s, const float* o, int channel, float l, float h) {
        x = from;
        low = l;
        high = h;
        norm = s != 0;
        if (norm) {
            read_floats<V>(m + channel, mean);
            read_floats<V>(s + channel, scale);
            read_floats<V>(o + channel, offset);
        }
    }

    __device__ inline void at(i64 position, float (&to)[V]) const {
        read<V>(x + position, to);
        if (norm) {
#pragma unroll
            for (int i = 0; i < V; i++) to[i] = (to[i] - mean[i]) * scale[i] + offset[i];
        }
#pragma unroll
        for (int i = 0; i < V; i++) to[i] = clamp(to[i], low, high);
    }
};

template <int V> __device__ inline void finish_pixel(const Depthwise& a, float (&sum)[V], i64 to) {
    if (a.residual) {
        float residual[V];
        read<V>(a.residual + to, residual);
#pragma unroll
        for (int i = 0; i < V; i++) sum[i] += residual[i];
    }
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = activate(sum[i], a.activation);
    write<V>(a.y + to, sum);
}

// A thread computes a vector of channels of one pixel.
template <int V> __device__ inline void depthwise(const Depthwise& a) {
    const Window& w = a.window;
    u32 at = (u32)position(), vectors = (u32)(w.channels / V);
    u32 pixel = at / vectors;
    int channel = (int)(at % vectors) * V;
    int column = (int)(pixel % (u32)w.out_width), row = (int)(pixel / (u32)w.out_width % (u32)w.out_height);
    int picture = (int)(pixel / (u32)w.out_width / (u32)w.out_height);
    if (picture >= a.pictures) return;
    Source<V> source;
    source.open(a.x + (i64)picture * w.height * w.width * w.channels, a.in_mean, a.in_scale, a.in_offset, channel, a.in_low, a.in_high);
    float sum[V];
    read_or<V>(a.bias, channel, 0.0f, sum);
    int area = w.kernel_height * w.kernel_width;
    for (int ky = 0; ky < w.kernel_height; ky++) {
        int y = row * w.stride_height + ky * w.dilation_height - w.top;
        if (y < 0 || y >= w.height) continue;
        for (int kx = 0; kx < w.kernel_width; kx++) {
            int x = column * w.stride_width + kx * w.dilation_width - w.left;
            if (x < 0 || x >= w.width) continue;
            int tap = ky * w.kernel_width + kx;
            if (a.turned) tap = area - 1 - tap;
            float value[V], weight[V];
            source.at(((i64)y * w.width + x) * w.channels + channel, value);
            read_floats<V>(a.kernel + (i64)tap * w.channels + channel, weight);
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += value[i] * weight[i];
        }
    }
    finish_pixel<V>(a, sum, (i64)pixel * w.channels + channel);
}
EACH(FLAT, depthwise, Depthwise)

// The same for square kernels of K without dilation: a thread computes a vector of channels of R
// pixels side by side, whose windows overlap, so that what they share is loaded once.
template <int V, int K, int S, int R> __device__ inline void depthwise_row(const Depthwise& a) {
    enum { SPAN = (R - 1) * S + K };
    const Window& w = a.window;
    u32 at = (u32)position(), vectors = (u32)(w.channels / V);
    u32 groups = (u32)((w.out_width + R - 1) / R);
    u32 group = at / vectors;
    int channel = (int)(at % vectors) * V;
    int column = (int)(group % groups) * R, row = (int)(group / groups % (u32)w.out_height);
    int picture = (int)(group / groups / (u32)w.out_height);
    if (picture >= a.pictures) return;
    Source<V> source;
    source.open(a.x + (i64)picture * w.height * w.width * w.channels, a.in_mean, a.in_scale, a.in_offset, channel, a.in_low, a.in_high);
    float sums[R][V];
#pragma unroll
    for (int r = 0; r < R; r++) read_or<V>(a.bias, channel, 0.0f, sums[r]);
#pragma unroll
    for (int ky = 0; ky < K; ky++) {
        int y = row * S + ky - w.top;
        if (y < 0 || y >= w.height) continue;
        float weights[K][V];
#pragma unroll
        for (int kx = 0; kx < K; kx++) {
            int tap = a.turned ? K * K - 1 - (ky * K + kx) : ky * K + kx;
            read_floats<V>(a.kernel + (i64)tap * w.channels + channel, weights[kx]);
        }
#pragma unroll
        for (int s = 0; s < SPAN; s++) {
            int x = column * S + s - w.left;
            if (x < 0 || x >= w.width) continue;
            float value[V];
            source.at(((i64)y * w.width + x) * w.channels + channel, value);
#pragma unroll
            for (int r = 0; r < R; r++) {
                int kx = s - r * S;
                if (kx >= 0 && kx < K) {
#pragma unroll
                    for (int i = 0; i < V; i++) sums[r][i] += value[i] * weights[kx][i];
                }
            }
        }
    }
    i64 to = (((i64)picture * w.out_height + row) * w.out_width + column) * w.channels + channel;
#pragma unroll
    for (int r = 0; r < R; r++)
        if (column + r < w.out_width) finish_pixel<V>(a, sums[r], to + (i64)r * w.channels);
}
template <int V> __device__ inline void depthwise_3x3(const Depthwise& a) { depthwise_row<V, 3, 1, 4>(a); }
EACH(FLAT, depthwise_3x3, Depthwise)
template <int V> __device__ inline void depthwise_3x3_by_2(const Depthwise& a) { depthwise_row<V, 3, 2, 2>(a); }
EACH(FLAT, depthwise_3x3_by_2, Depthwise)
template <int V> __device__ inline void depthwise_5x5(const Depthwise& a) { depthwise_row<V, 5, 1, 4>(a); }
EACH(FLAT, depthwise_5x5, Depthwise)

struct DepthwiseGrad {
    const REAL* dy;
    const float* kernel;
    REAL* dx;
    Window window;
    int pictures, add;
};

// Gradient to the input for any window: a thread gathers a vector of channels of one pixel.
template <int V> __device__ inline void depthwise_input_grad(const DepthwiseGrad& a) {
    const Window& w = a.window;
    u32 at = (u32)position(), vectors = (u32)(w.channels / V);
    u32 pixel = at / vectors;
    int channel = (int)(at % vectors) * V;
    int column = (int)(pixel % (u32)w.width), row = (int)(pixel / (u32)w.width % (u32)w.height);
    int picture = (int)(pixel / (u32)w.width / (u32)w.height);
    if (picture >= a.pictures) return;
    const REAL* dy = a.dy + (i64)picture * w.out_height * w.out_width * w.channels;
    i64 to = (i64)pixel * w.channels + channel;
    float sum[V];
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = 0.0f;
    if (a.add) read<V>(a.dx + to, sum);
    for (int ky = 0; ky < w.kernel_height; ky++) {
        int y = row + w.top - ky * w.dilation_height;
        if (y < 0 || y % w.stride_height || y / w.stride_height >= w.out_height) continue;
        for (int kx = 0; kx < w.kernel_width; kx++) {
            int x = column + w.left - kx * w.dilation_width;
            if (x < 0 || x % w.stride_width || x / w.stride_width >= w.out_width) continue;
            float value[V], weight[V];
            read<V>(dy + ((i64)(y / w.stride_height) * w.out_width + x / w.stride_width) * w.channels + channel, value);
            read_floats<V>(a.kernel + (i64)(ky * w.kernel_width + kx) * w.channels + channel, weight);
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += value[i] * weight[i];
        }
    }
    write<V>(a.dx + to, sum);
}
EACH(FLAT, depthwise_input_grad, DepthwiseGrad)

struct DepthwiseKernelGrad {
    const REAL* x;
    const REAL* dy;
    const float* in_mean;
    const float* in_scale;
    const float* in_offset;
    // [blocks, area, channels]
    float* partial;
    Window window;
    i64 rows;
    int rows_per_block, lanes;
    float in_low, in_high;
};

// Taps of one row of the kernel that a thread sums up.
enum { TAPS = 7 };

// Gradient to the row blockIdx.z of the kernel, from the output pixels of a block: `lanes` vectors of
// channels, summed over the other threads.
template <int V> __device__ inline void depthwise_kernel_grad(const DepthwiseKernelGrad& a) {
    __shared__ float shared[256 * VEC];
    const Window& w = a.window;
    int lane = threadIdx.x % a.lanes, line = threadIdx.x / a.lanes, lines = 256 / a.lanes;
    int channel = (blockIdx.x * a.lanes + lane) * V, ky = blockIdx.z;
    bool inside = channel < w.channels;
    i64 first = (i64)blockIdx.y * a.rows_per_block;
    i64 end = first + a.rows_per_block;
    if (end > a.rows) end = a.rows;
    float sums[TAPS][V];
#pragma unroll
    for (int t = 0; t < TAPS; t++)
#pragma unroll
        for (int i = 0; i < V; i++) sums[t][i] = 0.0f;
    if (inside) {
        Source<V> source;
        source.open(a.x, a.in_mean, a.in_scale, a.in_offset, channel, a.in_low, a.in_high);
        for (i64 pixel = first + line; pixel < end; pixel += lines) {
            int column = (int)((u32)pixel % (u32)w.out_width), row = (int)((u32)pixel / (u32)w.out_width % (u32)w.out_height);
            i64 picture = (u32)pixel / (u32)w.out_width / (u32)w.out_height;
            int y = row * w.stride_height + ky * w.dilation_height - w.top;
            if (y < 0 || y >= w.height) continue;
            float dy[V];
            read<V>(a.dy + pixel * w.channels + channel, dy);
#pragma unroll
            for (int kx = 0; kx < TAPS; kx++) {
                int x = column * w.stride_width + kx * w.dilation_width - w.left;
                if (kx >= w.kernel_width || x < 0 || x >= w.width) continue;
                float value[V];
                source.at(((picture * w.height + y) * w.width + x) * w.channels + channel, value);
#pragma unroll
                for (int i = 0; i < V; i++) sums[kx][i] += value[i] * dy[i];
            }
        }
    }
#pragma unroll
    for (int kx = 0; kx < TAPS; kx++) {
        if (kx >= w.kernel_width) break;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < V; i++) shared[threadIdx.x * V + i] = sums[kx][i];
        for (int half = lines / 2; half > 0; half /= 2) {
            __syncthreads();
            if (line < half)
#pragma unroll
                for (int i = 0; i < V; i++) shared[threadIdx.x * V + i] += shared[(threadIdx.x + half * a.lanes) * V + i];
        }
        __syncthreads();
        if (line == 0 && inside) {
            i64 to = ((i64)blockIdx.y * w.kernel_height + ky) * w.kernel_width + kx;
#pragma unroll
            for (int i = 0; i < V; i++) a.partial[to * w.channels + channel + i] = shared[threadIdx.x * V + i];
        }
    }
}
EACH(SYNCED, depthwise_kernel_grad, DepthwiseKernelGrad)
