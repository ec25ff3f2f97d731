// Passes over maps value by value or channel by channel.

struct Affine {
    const REAL* x;
    const REAL* residual;
    const float* mean;
    const float* scale;
    const float* offset;
    REAL* y;
    i64 count;
    int channels, activation;
};

// y = activation((x - mean) * scale + offset + residual); what is null is left out.
template <int V> __device__ inline void affine(const Affine& a) {
    i64 at = position() * V;
    if (at >= a.count) return;
    int channel = (int)((u32)(at / V) % (u32)(a.channels / V)) * V;
    float x[V], mean[V], scale[V], offset[V];
    read<V>(a.x + at, x);
    read_or<V>(a.mean, channel, 0.0f, mean);
    read_or<V>(a.scale, channel, 1.0f, scale);
    read_or<V>(a.offset, channel, 0.0f, offset);
#pragma unroll
    for (int i = 0; i < V; i++) x[i] = (x[i] - mean[i]) * scale[i] + offset[i];
    if (a.residual) {
        float residual[V];
        read<V>(a.residual + at, residual);
#pragma unroll
        for (int i = 0; i < V; i++) x[i] += residual[i];
    }
#pragma unroll
    for (int i = 0; i < V; i++) x[i] = activate(x[i], a.activation);
    write<V>(a.y + at, x);
}
EACH(FLAT, affine, Affine)

struct ActivateGrad {
    const REAL* of;
    REAL* dy;
    i64 count;
    int activation;
};

template <int V> __device__ inline void activate_grad(const ActivateGrad& a) {
    i64 at = position() * V;
    if (at >= a.count) return;
    float of[V], dy[V];
    read<V>(a.of + at, of);
    read<V>(a.dy + at, dy);
#pragma unroll
    for (int i = 0; i < V; i++) dy[i] = slope(of[i], a.activation, dy[i]);
    write<V>(a.dy + at, dy);
}
EACH(FLAT, activate_grad, ActivateGrad)

struct AddInto {
    const REAL* from;
    REAL* to;
    i64 count;
};

template <int V> __device__ inline void add_into(const AddInto& a) {
    i64 at = position() * V;
    if (at >= a.count) return;
    float from[V], to[V];
    read<V>(a.from + at, from);
    read<V>(a.to + at, to);
#pragma unroll
    for (int i = 0; i < V; i++) to[i] += from[i];
    write<V>(a.to + at, to);
}
EACH(FLAT, add_into, AddInto)

struct Mask {
    const REAL* x;
    const float* mask;
    REAL* y;
    i64 count;
};

FLAT(mask_1, Mask) {
    i64 at = position();
    if (at < a.count) store(a.y[at], load(a.x[at]) * a.mask[at]);
}

struct Convert {
    const void* from;
    void* to;
    i64 count;
};

FLAT(to_real_1, Convert) {
    i64 at = position();
    if (at < a.count) store(((REAL*)a.to)[at], ((const float*)a.from)[at]);
}

FLAT(to_float_1, Convert) {
    i64 at = position();
    if (at < a.count) ((float*)a.to)[at] = load(((const REAL*)a.from)[at]);
}

// Bytes of pixels, scaled as preprocessing has it.
struct Pixels {
    const unsigned char* from;
    const float* scale;
    const float* offset;
    REAL* to;
    i64 count;
    int channels;
};

FLAT(pixels_1, Pixels) {
    i64 at = position();
    if (at >= a.count) return;
    int channel = (int)(at % a.channels);
    store(a.to[at], (float)a.from[at] * a.scale[channel] + a.offset[channel]);
}

struct Gate {
    const REAL* x;
    const REAL* factors;
    REAL* y;
    i64 count;
    int channels, pixels;
};

// Times one value a picture and channel.
template <int V> __device__ inline void gate(const Gate& a) {
    i64 at = position() * V;
    if (at >= a.count) return;
    u32 vector = (u32)(at / V), vectors = (u32)(a.channels / V);
    int channel = (int)(vector % vectors) * V;
    i64 picture = vector / vectors / (u32)a.pixels;
    float x[V], factor[V];
    read<V>(a.x + at, x);
    read<V>(a.factors + picture * a.channels + channel, factor);
#pragma unroll
    for (int i = 0; i < V; i++) x[i] *= factor[i];
    write<V>(a.y + at, x);
}
EACH(FLAT, gate, Gate)

struct Spread {
    const REAL* dy;
    REAL* dx;
    i64 count;
    int channels, pixels;
};

// Gradient of the mean over a map: each pixel's share.
template <int V> __device__ inline void global_avg_grad(const Spread& a) {
    i64 at = position() * V;
    if (at >= a.count) return;
    u32 vector = (u32)(at / V), vectors = (u32)(a.channels / V);
    int channel = (int)(vector % vectors) * V;
    i64 picture = vector / vectors / (u32)a.pixels;
    float dy[V];
    read<V>(a.dy + picture * a.channels + channel, dy);
    float share = 1.0f / (float)a.pixels;
#pragma unroll
    for (int i = 0; i < V; i++) dy[i] *= share;
    write<V>(a.dx + at, dy);
}
EACH(FLAT, global_avg_grad, Spread)

struct GlobalMax {
    const REAL* x;
    const REAL* dy;
    REAL* to;
    i64 count;
    int channels, pixels;
};

// The first of the largest values of a channel; NaN is largest of all.
__device__ inline int first_maximum(const REAL* x, int pixels, int channels) {
    int best = 0;
    float most = load(x[0]);
    for (int pixel = 1; pixel < pixels; pixel++) {
        float value = load(x[(i64)pixel * channels]);
        if (value > most || (value != value && most == most)) {
            most = value;
            best = pixel;
        }
    }
    return best;
}

// A thread a picture and channel.
FLAT(global_max_1, GlobalMax) {
    i64 at = position();
    if (at >= a.count) return;
    const REAL* x = a.x + at / a.channels * a.pixels * a.channels + at % a.channels;
    a.to[at] = x[(i64)first_maximum(x, a.pixels, a.channels) * a.channels];
}

FLAT(global_max_grad_1, GlobalMax) {
    i64 at = position();
    if (at >= a.count) return;
    i64 first = at / a.channels * a.pixels * a.channels + at % a.channels;
    int best = first_maximum(a.x + first, a.pixels, a.channels);
    for (int pixel = 0; pixel < a.pixels; pixel++) {
        REAL* to = a.to + first + (i64)pixel * a.channels;
        if (pixel == best) *to = a.dy[at];
        else store(*to, 0.0f);
    }
}

// A box of one map in another: both of rows, columns and channels, and where it lies in them.
struct Box {
    const REAL* from;
    REAL* to;
    i64 count;
    int height, width, channels;
    int from_height, from_width, from_channels, from_row, from_column, from_channel;
    int to_height, to_width, to_channels, to_row, to_column, to_channel;
    int add;
};

// Copies or adds the box; pads, crops and joins maps side by side.
template <int V> __device__ inline void copy_box(const Box& a) {
    i64 at = position() * V;
    if (at >= a.count) return;
    u32 vector = (u32)(at / V), vectors = (u32)(a.channels / V);
    int channel = (int)(vector % vectors) * V;
    u32 pixel = vector / vectors;
    int column = (int)(pixel % (u32)a.width), row = (int)(pixel / (u32)a.width % (u32)a.height);
    i64 picture = pixel / (u32)a.width / (u32)a.height;
    i64 from = ((picture * a.from_height + row + a.from_row) * a.from_width + column + a.from_column) * a.from_channels + channel + a.from_channel;
    i64 to = ((picture * a.to_height + row + a.to_row) * a.to_width + column + a.to_column) * a.to_channels + channel + a.to_channel;
    float values[V];
    read<V>(a.from + from, values);
    if (a.add) {
        float there[V];
        read<V>(a.to + to, there);
#pragma unroll
        for (int i = 0; i < V; i++) values[i] += there[i];
    }
    write<V>(a.to + to, values);
}
EACH(FLAT, copy_box, Box)
