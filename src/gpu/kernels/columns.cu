// Sums over rows of channels, in two launches whose order depends on the shape alone: blocks of rows
// first, then over the blocks in double precision.

// What is summed: `which` of the SUMS below.
struct Columns {
    const REAL* x;
    const REAL* dy;
    // One value a channel: the mean, and scale and offset of a norm whose clamp `dy` lies behind.
    const float* mean;
    const float* scale;
    const float* offset;
    // Mean and inverse deviation of each row, for layer norms.
    const float* moments;
    // [blocks, sums, channels]
    float* partial;
    i64 rows;
    int rows_per_block, channels, lanes;
    float low, high;
};

struct SumOf {
    enum { SUMS = 1 };
    template <int V> static __device__ inline void add(const Columns& a, i64 row, int channel, float (&sums)[1][V]) {
        float x[V];
        read<V>(a.x + row * a.channels + channel, x);
#pragma unroll
        for (int i = 0; i < V; i++) sums[0][i] += x[i];
    }
};

// Of deviations from the first row, and of their squares.
struct MomentsOf {
    enum { SUMS = 2 };
    template <int V> static __device__ inline void add(const Columns& a, i64 row, int channel, float (&sums)[2][V]) {
        float x[V], pilot[V];
        read<V>(a.x + row * a.channels + channel, x);
        read<V>(a.x + channel, pilot);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float d = x[i] - pilot[i];
            sums[0][i] += d;
            sums[1][i] += d * d;
        }
    }
};

struct ProductOf {
    enum { SUMS = 1 };
    template <int V> static __device__ inline void add(const Columns& a, i64 row, int channel, float (&sums)[1][V]) {
        float x[V], dy[V];
        read<V>(a.x + row * a.channels + channel, x);
        read<V>(a.dy + row * a.channels + channel, dy);
#pragma unroll
        for (int i = 0; i < V; i++) sums[0][i] += x[i] * dy[i];
    }
};

// Of `dy` behind the clamp, and of its product with `x - mean`.
struct NormSumsOf {
    enum { SUMS = 2 };
    template <int V> static __device__ inline void add(const Columns& a, i64 row, int channel, float (&sums)[2][V]) {
        float x[V], dy[V], mean[V];
        read<V>(a.x + row * a.channels + channel, x);
        read<V>(a.dy + row * a.channels + channel, dy);
        read_floats<V>(a.mean + channel, mean);
#pragma unroll
        for (int i = 0; i < V; i++) x[i] -= mean[i];
        if (a.scale) {
            float scale[V], offset[V];
            read_floats<V>(a.scale + channel, scale);
            read_floats<V>(a.offset + channel, offset);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float y = x[i] * scale[i] + offset[i];
                dy[i] = y > a.low && y < a.high ? dy[i] : 0.0f;
            }
        }
#pragma unroll
        for (int i = 0; i < V; i++) {
            sums[0][i] += dy[i];
            sums[1][i] += dy[i] * x[i];
        }
    }
};

// Gradients to gamma and beta of a layer norm.
struct LayerNormSumsOf {
    enum { SUMS = 2 };
    template <int V> static __device__ inline void add(const Columns& a, i64 row, int channel, float (&sums)[2][V]) {
        float x[V], dy[V];
        read<V>(a.x + row * a.channels + channel, x);
        read<V>(a.dy + row * a.channels + channel, dy);
        float mean = a.moments[2 * row], inverse = a.moments[2 * row + 1];
#pragma unroll
        for (int i = 0; i < V; i++) {
            sums[0][i] += dy[i] * ((x[i] - mean) * inverse);
            sums[1][i] += dy[i];
        }
    }
};

// A block takes `lanes` vectors of channels and `rows_per_block` rows.
template <class Of, int V> __device__ inline void columns(const Columns& a) {
    __shared__ float shared[256 * VEC];
    int lane = threadIdx.x % a.lanes, line = threadIdx.x / a.lanes, lines = 256 / a.lanes;
    int channel = (blockIdx.x * a.lanes + lane) * V;
    bool inside = channel < a.channels;
    i64 first = (i64)blockIdx.y * a.rows_per_block;
    i64 end = first + a.rows_per_block;
    if (end > a.rows) end = a.rows;
    float sums[Of::SUMS][V];
#pragma unroll
    for (int s = 0; s < Of::SUMS; s++)
#pragma unroll
        for (int i = 0; i < V; i++) sums[s][i] = 0.0f;
    if (inside)
        for (i64 row = first + line; row < end; row += lines) Of::template add<V>(a, row, channel, sums);
    for (int s = 0; s < Of::SUMS; s++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < V; i++) shared[threadIdx.x * V + i] = sums[s][i];
        // Halves, as long as the number of lines is even: it is a power of two.
        for (int half = lines / 2; half > 0; half /= 2) {
            __syncthreads();
            if (line < half)
#pragma unroll
                for (int i = 0; i < V; i++) shared[threadIdx.x * V + i] += shared[(threadIdx.x + half * a.lanes) * V + i];
        }
        __syncthreads();
        if (line == 0 && inside)
#pragma unroll
            for (int i = 0; i < V; i++)
                a.partial[((i64)blockIdx.y * Of::SUMS + s) * a.channels + channel + i] = shared[threadIdx.x * V + i];
    }
}

template <int V> __device__ inline void sum_columns(const Columns& a) { columns<SumOf, V>(a); }
EACH(SYNCED, sum_columns, Columns)
template <int V> __device__ inline void product_columns(const Columns& a) { columns<ProductOf, V>(a); }
EACH(SYNCED, product_columns, Columns)
template <int V> __device__ inline void moments_columns(const Columns& a) { columns<MomentsOf, V>(a); }
EACH(SYNCED, moments_columns, Columns)
template <int V> __device__ inline void norm_columns(const Columns& a) { columns<NormSumsOf, V>(a); }
EACH(SYNCED, norm_columns, Columns)
template <int V> __device__ inline void layer_norm_columns(const Columns& a) { columns<LayerNormSumsOf, V>(a); }
EACH(SYNCED, layer_norm_columns, Columns)

struct Finish {
    const float* partial;
    float* to;
    i64 count;
    int blocks, add;
    float factor;
};

// Sum over the blocks of `count` values each.
FLAT(finish_sums_1, Finish) {
    i64 at = position();
    if (at >= a.count) return;
    double sum = 0.0;
    for (int block = 0; block < a.blocks; block++) sum += (double)a.partial[(i64)block * a.count + at];
    float value = (float)(sum * (double)a.factor);
    a.to[at] = a.add ? a.to[at] + value : value;
}

struct Scaled {
    const float* from;
    REAL* to;
    i64 count;
    float factor;
};

// Sums of pictures as values of a map.
FLAT(scaled_1, Scaled) {
    i64 at = position();
    if (at < a.count) store(a.to[at], a.from[at] * a.factor);
}

struct FinishMoments {
    const float* partial;
    // The first row, which deviations are from.
    const REAL* x;
    const float* gamma;
    const float* beta;
    float* mean;
    float* inverse;
    float* scale;
    // Running statistics, moved by `momentum`.
    float* running_mean;
    float* running_variance;
    double rows, epsilon, momentum;
    int blocks, channels;
};

FLAT(finish_moments_1, FinishMoments) {
    int channel = (int)position();
    if (channel >= a.channels) return;
    double sum = 0.0, squares = 0.0;
    for (int block = 0; block < a.blocks; block++) {
        sum += (double)a.partial[(i64)(2 * block) * a.channels + channel];
        squares += (double)a.partial[(i64)(2 * block + 1) * a.channels + channel];
    }
    double shift = sum / a.rows;
    double variance = squares / a.rows - shift * shift;
    if (variance < 0.0) variance = 0.0;
    double mean = (double)load(a.x[channel]) + shift;
    double inverse = 1.0 / sqrt((double)(float)variance + a.epsilon);
    a.mean[channel] = (float)mean;
    a.inverse[channel] = (float)inverse;
    a.scale[channel] = (float)((double)a.gamma[channel] * inverse);
    // PyTorch divides by `rows - 1` here.
    double unbiased = variance * (a.rows / (a.rows > 1.0 ? a.rows - 1.0 : 1.0));
    a.running_mean[channel] = (float)((double)a.running_mean[channel] * (1.0 - a.momentum) + mean * a.momentum);
    a.running_variance[channel] = (float)((double)a.running_variance[channel] * (1.0 - a.momentum) + unbiased * a.momentum);
}

struct StoredNorm {
    const float* gamma;
    const float* mean;
    const float* variance;
    float* inverse;
    float* scale;
    float* to_mean;
    double epsilon;
    int channels;
};

// What the passes of a norm with stored statistics read; a null gamma is 1, a null mean 0, a null
// variance 1.
FLAT(stored_norm_1, StoredNorm) {
    int channel = (int)position();
    if (channel >= a.channels) return;
    double variance = a.variance ? (double)a.variance[channel] : 1.0;
    double inverse = 1.0 / sqrt(variance + a.epsilon);
    a.inverse[channel] = (float)inverse;
    a.scale[channel] = (float)((a.gamma ? (double)a.gamma[channel] : 1.0) * inverse);
    a.to_mean[channel] = a.mean ? a.mean[channel] : 0.0f;
}

struct FinishNorm {
    // Sums of `dy` and `dy (x - mean)`.
    const float* sums;
    const float* inverse;
    const float* scale;
    // [3, channels]
    float* coefficients;
    // Gradients, or null.
    float* gamma;
    float* beta;
    double rows;
    int channels, by_batch;
};

// Coefficients [a, b, c] of the gradient a dy + b (x - mean) + c to the input of a norm, and the
// gradients to its scale and offset.
FLAT(finish_norm_1, FinishNorm) {
    int channel = (int)position();
    if (channel >= a.channels) return;
    double inverse = (double)a.inverse[channel], scale = (double)a.scale[channel];
    double sum = 0.0, product = 0.0;
    if (a.sums) {
        sum = (double)a.sums[channel];
        product = (double)a.sums[a.channels + channel];
    }
    if (a.gamma) a.gamma[channel] = (float)(product * inverse);
    if (a.beta) a.beta[channel] = (float)sum;
    double share = a.by_batch ? 1.0 / a.rows : 0.0;
    a.coefficients[channel] = (float)scale;
    a.coefficients[a.channels + channel] = (float)(-scale * inverse * inverse * product * share);
    a.coefficients[2 * a.channels + channel] = (float)(-scale * sum * share);
}

struct NormGrad {
    const REAL* x;
    const REAL* dy;
    const float* mean;
    // Of the norm whose clamp `dy` lies behind, or null.
    const float* scale;
    const float* offset;
    const float* coefficients;
    REAL* dx;
    i64 count;
    int channels;
    float low, high;
};

template <int V> __device__ inline void norm_grad(const NormGrad& a) {
    i64 at = position() * V;
    if (at >= a.count) return;
    int channel = (int)((u32)(at / V) % (u32)(a.channels / V)) * V;
    float x[V], dy[V], mean[V], k[3][V];
    read<V>(a.x + at, x);
    read<V>(a.dy + at, dy);
    read_floats<V>(a.mean + channel, mean);
#pragma unroll
    for (int s = 0; s < 3; s++) {
        // Rows of coefficients are aligned only if the channels are.
        read_floats<V>(a.coefficients + s * a.channels + channel, k[s]);
    }
#pragma unroll
    for (int i = 0; i < V; i++) x[i] -= mean[i];
    if (a.scale) {
        float scale[V], offset[V];
        read_floats<V>(a.scale + channel, scale);
        read_floats<V>(a.offset + channel, offset);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float y = x[i] * scale[i] + offset[i];
            dy[i] = y > a.low && y < a.high ? dy[i] : 0.0f;
        }
    }
#pragma unroll
    for (int i = 0; i < V; i++) x[i] = k[0][i] * dy[i] + (k[1][i] * x[i] + k[2][i]);
    write<V>(a.dx + at, x);
}
EACH(FLAT, norm_grad, NormGrad)
