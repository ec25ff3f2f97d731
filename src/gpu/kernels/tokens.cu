// Layers of transformers and ConvNeXt. Rows are tokens; a warp takes a row where it reduces one.

struct LayerNorm {
    const REAL* x;
    const REAL* dy;
    const float* gamma;
    const float* beta;
    REAL* to;
    // Mean and inverse deviation of each row, where they are wanted.
    float* moments;
    i64 rows;
    int channels;
    float epsilon;
};

template <int V> __device__ inline void row_moments(const REAL* row, int channels, float epsilon, float& mean, float& inverse) {
    int lane = threadIdx.x % 32;
    float sum = 0.0f;
    for (int c = lane * V; c < channels; c += 32 * V) {
        float x[V];
        read<V>(row + c, x);
#pragma unroll
        for (int i = 0; i < V; i++) sum += x[i];
    }
    mean = warp_sum(sum) / (float)channels;
    float squares = 0.0f;
    for (int c = lane * V; c < channels; c += 32 * V) {
        float x[V];
        read<V>(row + c, x);
#pragma unroll
        for (int i = 0; i < V; i++) squares += (x[i] - mean) * (x[i] - mean);
    }
    inverse = 1.0f / sqrtf(warp_sum(squares) / (float)channels + epsilon);
}

template <int V> __device__ inline void layer_norm(const LayerNorm& a) {
    i64 row = position() / 32;
    // All of a warp wait for one another, those beyond the end with the last row.
    bool inside = row < a.rows;
    const REAL* x = a.x + (inside ? row : a.rows - 1) * a.channels;
    float mean, inverse;
    row_moments<V>(x, a.channels, a.epsilon, mean, inverse);
    if (!inside) return;
    for (int c = threadIdx.x % 32 * V; c < a.channels; c += 32 * V) {
        float value[V], gamma[V], beta[V];
        read<V>(x + c, value);
        read_floats<V>(a.gamma + c, gamma);
        read_floats<V>(a.beta + c, beta);
#pragma unroll
        for (int i = 0; i < V; i++) value[i] = (value[i] - mean) * inverse * gamma[i] + beta[i];
        write<V>(a.to + row * a.channels + c, value);
    }
}
EACH(SYNCED, layer_norm, LayerNorm)

template <int V> __device__ inline void layer_norm_moments(const LayerNorm& a) {
    i64 row = position() / 32;
    bool inside = row < a.rows;
    float mean, inverse;
    row_moments<V>(a.x + (inside ? row : a.rows - 1) * a.channels, a.channels, a.epsilon, mean, inverse);
    if (inside && threadIdx.x % 32 == 0) {
        a.moments[2 * row] = mean;
        a.moments[2 * row + 1] = inverse;
    }
}
EACH(SYNCED, layer_norm_moments, LayerNorm)

// With g = dy gamma and the normalised input n: (g - mean(g) - n mean(g n)) / deviation.
template <int V> __device__ inline void layer_norm_grad(const LayerNorm& a) {
    i64 row = position() / 32;
    bool inside = row < a.rows;
    i64 first = (inside ? row : a.rows - 1) * a.channels;
    int lane = threadIdx.x % 32;
    float mean, inverse, sum = 0.0f, product = 0.0f;
    row_moments<V>(a.x + first, a.channels, a.epsilon, mean, inverse);
    for (int c = lane * V; c < a.channels; c += 32 * V) {
        float x[V], dy[V], gamma[V];
        read<V>(a.x + first + c, x);
        read<V>(a.dy + first + c, dy);
        read_floats<V>(a.gamma + c, gamma);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float g = dy[i] * gamma[i];
            sum += g;
            product += g * ((x[i] - mean) * inverse);
        }
    }
    float share = 1.0f / (float)a.channels;
    float offset = share * warp_sum(sum), slant = share * warp_sum(product) * inverse;
    if (!inside) return;
    for (int c = lane * V; c < a.channels; c += 32 * V) {
        float x[V], dy[V], gamma[V];
        read<V>(a.x + first + c, x);
        read<V>(a.dy + first + c, dy);
        read_floats<V>(a.gamma + c, gamma);
#pragma unroll
        for (int i = 0; i < V; i++) dy[i] = inverse * (dy[i] * gamma[i] - offset - slant * (x[i] - mean));
        write<V>(a.to + first + c, dy);
    }
}
EACH(SYNCED, layer_norm_grad, LayerNorm)

struct Softmax {
    // [rows, width], of which `columns` count; weights, and for the gradient that to them.
    REAL* weights;
    REAL* gradient;
    i64 rows;
    int columns, width;
    float scale;
};

// Softmax of each row in place; 0 beyond its columns.
SYNCED(softmax_1, Softmax) {
    i64 row = position() / 32;
    bool inside = row < a.rows;
    REAL* w = a.weights + (inside ? row : a.rows - 1) * a.width;
    int lane = threadIdx.x % 32;
    float most = -INFINITY, sum = 0.0f;
    for (int c = lane; c < a.columns; c += 32) most = fmaxf(most, load(w[c]));
    most = warp_max(most);
    for (int c = lane; c < a.columns; c += 32) sum += expf(load(w[c]) - most);
    float share = 1.0f / warp_sum(sum);
    if (!inside) return;
    for (int c = lane; c < a.width; c += 32) store(w[c], c < a.columns ? expf(load(w[c]) - most) * share : 0.0f);
}

// Turns gradients to weights into those to what the softmax was taken of, before its scale.
SYNCED(softmax_grad_1, Softmax) {
    i64 row = position() / 32;
    bool inside = row < a.rows;
    i64 first = (inside ? row : a.rows - 1) * a.width;
    int lane = threadIdx.x % 32;
    float sum = 0.0f;
    for (int c = lane; c < a.columns; c += 32) sum += load(a.weights[first + c]) * load(a.gradient[first + c]);
    sum = warp_sum(sum);
    if (!inside) return;
    for (int c = lane; c < a.width; c += 32) {
        float value = c < a.columns ? load(a.weights[first + c]) * (load(a.gradient[first + c]) - sum) * a.scale : 0.0f;
        store(a.gradient[first + c], value);
    }
}

struct Tokens {
    const REAL* x;
    // [values], or null.
    const float* position;
    // The class token and its position, or null.
    const float* first;
    const float* first_position;
    REAL* y;
    i64 count;
    // Values of a picture of input and output, and where the first of the one lies in the other.
    int input, output, offset;
};

// y = x + position, values before and behind which are left out or added: `offset` is how many values
// of the output come before the first of the input; negative, how many of the input are skipped.
FLAT(tokens_1, Tokens) {
    i64 at = position();
    if (at >= a.count) return;
    i64 picture = at / a.output;
    int inner = (int)(at % a.output), from = inner - a.offset;
    if (a.first && inner < a.offset) {
        store(a.y[at], a.first[inner] + (a.first_position ? a.first_position[inner] : 0.0f));
        return;
    }
    float value = from >= 0 && from < a.input ? load(a.x[picture * a.input + from]) : 0.0f;
    if (a.position) value += a.position[inner];
    store(a.y[at], value);
}

struct PictureSums {
    const REAL* dy;
    float* to;
    int pictures, values, stride;
};

// Sums over pictures of the first `values` of each.
FLAT(picture_sums_1, PictureSums) {
    int at = (int)position();
    if (at >= a.values) return;
    double sum = 0.0;
    for (int picture = 0; picture < a.pictures; picture++) sum += (double)load(a.dy[(i64)picture * a.stride + at]);
    a.to[at] = (float)sum;
}
