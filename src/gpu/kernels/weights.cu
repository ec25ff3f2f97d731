// Parameters before and after a step: folded with stored norms, stored in REAL, and their gradients
// taken apart again.

struct Fold {
    const float* gamma;
    const float* beta;
    const float* mean;
    const float* variance;
    const float* bias;
    // Of each channel: scale, inverse deviation, bias less mean, and the bias of the folded layer.
    float* scale;
    float* inverse;
    float* shift;
    float* offset;
    REAL* offset_real;
    double epsilon;
    int channels;
};

// A norm with stored statistics behind a layer as scale and bias of that. Of the norm all may be null:
// a layer scale has gamma alone, a layer without a norm only its bias.
FLAT(fold_1, Fold) {
    int c = (int)position();
    if (c >= a.channels) return;
    double variance = a.variance ? (double)a.variance[c] : 1.0;
    double inverse = 1.0 / sqrt(variance + a.epsilon);
    double scale = (a.gamma ? (double)a.gamma[c] : 1.0) * inverse;
    double shift = (a.bias ? (double)a.bias[c] : 0.0) - (a.mean ? (double)a.mean[c] : 0.0);
    float offset = (float)((a.beta ? (double)a.beta[c] : 0.0) + shift * scale);
    a.scale[c] = (float)scale;
    a.inverse[c] = (float)inverse;
    a.shift[c] = (float)shift;
    a.offset[c] = offset;
    store(a.offset_real[c], offset);
}

// A kernel that is scaled and stored: rows of filters, or for depthwise kernels rows of taps.
struct Part {
    const float* from;
    const float* scale;
    void* to;
    i64 count;
    // Values of a filter, or 0 where filters are columns; and how many filters.
    int row, filters;
    // Whether it stays in float.
    int single;
    int first_block;
};

struct Scale {
    const Part* parts;
    int count;
};

// All kernels of a network in one launch: a block finds its part by its first block.
FLAT(scale_parts_1, Scale) {
    int low = 0, high = a.count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (a.parts[middle].first_block <= (int)blockIdx.x) low = middle;
        else high = middle - 1;
    }
    const Part p = a.parts[low];
    i64 first = (i64)((int)blockIdx.x - p.first_block) * 1024;
    for (int i = 0; i < 4; i++) {
        i64 at = first + threadIdx.x + i * 256;
        if (at >= p.count) return;
        float value = p.from[at];
        if (p.scale) value *= p.scale[p.row ? at / p.row : at % p.filters];
        if (p.single) ((float*)p.to)[at] = value;
        else store(((REAL*)p.to)[at], value);
    }
}

struct Unfold {
    // The gradient to the scaled kernel, in REAL or in float.
    const REAL* real;
    const float* single;
    const float* kernel;
    const float* scale;
    const float* inverse;
    const float* shift;
    // Of the gradient to the output, a filter each; null where nothing wants it.
    const float* sums;
    // Gradients, or null.
    float* to_kernel;
    float* to_gamma;
    int row, filters, columns;
};

__device__ inline float gradient_at(const Unfold& a, i64 at) { return a.real ? load(a.real[at]) : a.single[at]; }

// A block a filter: dW = G scale, and to gamma (sum of W G + shift S) / deviation.
SYNCED(unfold_1, Unfold) {
    __shared__ double shared[256];
    int filter = blockIdx.x;
    float scale = a.scale ? a.scale[filter] : 1.0f;
    double sum = 0.0;
    for (int i = threadIdx.x; i < a.row; i += 256) {
        i64 at = a.columns ? (i64)i * a.filters + filter : (i64)filter * a.row + i;
        float g = gradient_at(a, at);
        if (a.to_gamma) sum += (double)g * (double)a.kernel[at];
        if (a.to_kernel) a.to_kernel[at] = g * scale;
    }
    if (!a.to_gamma) return;
    shared[threadIdx.x] = sum;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    if (threadIdx.x == 0) a.to_gamma[filter] = (float)((shared[0] + (double)a.shift[filter] * (double)a.sums[filter]) * (double)a.inverse[filter]);
}

struct UnfoldBias {
    const float* sums;
    const float* scale;
    float* to_bias;
    float* to_beta;
    int filters;
};

FLAT(unfold_bias_1, UnfoldBias) {
    int c = (int)position();
    if (c >= a.filters) return;
    if (a.to_bias) a.to_bias[c] = a.sums[c] * (a.scale ? a.scale[c] : 1.0f);
    if (a.to_beta) a.to_beta[c] = a.sums[c];
}
