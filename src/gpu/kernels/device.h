// What all kernels share. Compiled by NVRTC for a device, once with REAL = float and once with
// REAL = bf16; by a C++ compiler behind host.h for tests without one.
//
// Maps are channels-last and contiguous, computed in float whatever they are stored in. A kernel
// takes one struct by value (args.rs has the same). Kernels whose names end in `_v` handle VEC
// channels a thread and want channels to be a multiple of that; their `_1` take any.
typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;

#ifdef HOST
static inline u32 bits_of(float x) { u32 u; memcpy(&u, &x, 4); return u; }
static inline float float_of(u32 u) { float x; memcpy(&x, &u, 4); return x; }
#else
__device__ inline u32 bits_of(float x) { return __float_as_uint(x); }
__device__ inline float float_of(u32 u) { return __uint_as_float(u); }
#define FLAT(name, Args) extern "C" __global__ void __launch_bounds__(256) name(const Args a)
#define SYNCED(name, Args) extern "C" __global__ void __launch_bounds__(256) name(const Args a)
#define INFINITY float_of(0x7f800000u)
#endif

struct bf16 {
    u16 bits;
};

__device__ inline float load(float x) { return x; }
__device__ inline float load(bf16 x) { return float_of((u32)x.bits << 16); }
__device__ inline void store(float& to, float x) { to = x; }
__device__ inline void store(bf16& to, float x) {
    // To nearest, ties to even; NaN stays NaN.
    u32 u = bits_of(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
        to.bits = (u16)((u >> 16) | 0x40);
    } else {
        to.bits = (u16)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
    }
}

// Values of 16 bytes.
#define VEC (16 / (int)sizeof(REAL))

template <class T, int V> struct alignas(sizeof(T) * V) Pack {
    T v[V];
};

template <int V> __device__ inline void read(const REAL* from, float (&to)[V]) {
    Pack<REAL, V> pack = *(const Pack<REAL, V>*)from;
#pragma unroll
    for (int i = 0; i < V; i++) to[i] = load(pack.v[i]);
}

template <int V> __device__ inline void write(REAL* to, const float (&from)[V]) {
    Pack<REAL, V> pack;
#pragma unroll
    for (int i = 0; i < V; i++) store(pack.v[i], from[i]);
    *(Pack<REAL, V>*)to = pack;
}

// Floats beside the maps, such as one value a channel; V of them, 4 at most at a time.
template <int V> __device__ inline void read_floats(const float* from, float (&to)[V]) {
    if (V % 4 == 0) {
#pragma unroll
        for (int i = 0; i < V; i += 4) {
            Pack<float, 4> pack = *(const Pack<float, 4>*)(from + i);
#pragma unroll
            for (int j = 0; j < 4; j++) to[(i + j) % V] = pack.v[j];
        }
    } else {
#pragma unroll
        for (int i = 0; i < V; i++) to[i] = from[i];
    }
}

template <int V> __device__ inline void read_or(const float* from, int at, float otherwise, float (&to)[V]) {
    if (from) {
        read_floats<V>(from + at, to);
    } else {
#pragma unroll
        for (int i = 0; i < V; i++) to[i] = otherwise;
    }
}

// The numbers that activations have in args.rs.
enum { LINEAR, RELU, RELU6, SIGMOID, HARD_SIGMOID, SILU, HARD_SWISH, GELU };

__device__ inline float clamp(float x, float low, float high) {
    // NaN stays NaN.
    x = x < low ? low : x;
    return x > high ? high : x;
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Apart from the rest, so that a kernel that unrolls over values does not repeat it.
__device__ __noinline__ float curve(float x, int activation) {
    switch (activation) {
    case SIGMOID: return sigmoid(x);
    case HARD_SIGMOID: return clamp(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f);
    case SILU: return x * sigmoid(x);
    case HARD_SWISH: return x * clamp(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f);
    default: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    }
}

__device__ inline float activate(float x, int activation) {
    if (activation == LINEAR) return x;
    if (activation <= RELU6) return clamp(x, 0.0f, activation == RELU6 ? 6.0f : INFINITY);
    return curve(x, activation);
}

// `dy` behind an activation: `of` is the output of a clamp, the input of a curve. At and beyond a
// clamp's bounds nothing passes (PyTorch's convention at both kinks).
__device__ __noinline__ float curve_slope(float of, int activation, float dy) {
    switch (activation) {
    case SIGMOID: {
        float y = sigmoid(of);
        return dy * y * (1.0f - y);
    }
    case HARD_SIGMOID: return of > -3.0f && of < 3.0f ? dy * (1.0f / 6.0f) : 0.0f;
    case SILU: {
        float y = sigmoid(of);
        return dy * y * (1.0f + of * (1.0f - y));
    }
    case HARD_SWISH:
        if (of <= -3.0f) return 0.0f;
        return of >= 3.0f ? dy : dy * (of * (1.0f / 3.0f) + 0.5f);
    case GELU: {
        float below = 0.5f * (1.0f + erff(of * 0.70710678f));
        return dy * (below + of * 0.39894228f * expf(-0.5f * of * of));
    }
    default: return dy;
    }
}

__device__ inline float slope(float of, int activation, float dy) {
    if (activation == LINEAR) return dy;
    if (activation > RELU6) return curve_slope(of, activation, dy);
    return of > 0.0f && (activation == RELU || of < 6.0f) ? dy : 0.0f;
}

// The number of this thread among all of a grid that is one-dimensional.
__device__ inline i64 position() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

// Sums and maxima over a warp, in one order.
__device__ inline float warp_sum(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

// A kernel for vectors of channels, and for single ones.
#define EACH(kind, name, Args)                                                                     \
    kind(name##_v, Args) { name<VEC>(a); }                                                         \
    kind(name##_1, Args) { name<1>(a); }

// The window over a map and the map that it makes.
struct Window {
    int height, width, channels;
    int out_height, out_width;
    int kernel_height, kernel_width;
    int stride_height, stride_width;
    int dilation_height, dilation_width;
    int top, left;
};
