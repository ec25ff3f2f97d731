// Maximum and mean over windows, forward and back; a thread a vector of channels of one pixel.

struct Pool {
    const REAL* x;
    const REAL* dy;
    REAL* to;
    Window window;
    int pictures;
    // Whether padding counts in the mean.
    int count_pad;
};

struct Place {
    int picture, row, column, channel;
};

template <int V> __device__ inline Place place(int height, int width, int channels) {
    u32 at = (u32)position(), vectors = (u32)(channels / V), pixel = at / vectors;
    Place p;
    p.channel = (int)(at % vectors) * V;
    p.column = (int)(pixel % (u32)width);
    p.row = (int)(pixel / (u32)width % (u32)height);
    p.picture = (int)(pixel / (u32)width / (u32)height);
    return p;
}

// Rows or columns of the map under a window.
__device__ inline int first_under(int index, int stride, int before) {
    int first = index * stride - before;
    return first < 0 ? 0 : first;
}

__device__ inline int end_under(int index, int stride, int before, int kernel, int size) {
    int end = index * stride - before + kernel;
    return end > size ? size : end;
}

template <int V> __device__ inline void max_pool(const Pool& a) {
    const Window& w = a.window;
    Place p = place<V>(w.out_height, w.out_width, w.channels);
    if (p.picture >= a.pictures) return;
    float most[V];
#pragma unroll
    for (int i = 0; i < V; i++) most[i] = -INFINITY;
    int rows = end_under(p.row, w.stride_height, w.top, w.kernel_height, w.height);
    int columns = end_under(p.column, w.stride_width, w.left, w.kernel_width, w.width);
    for (int y = first_under(p.row, w.stride_height, w.top); y < rows; y++)
        for (int x = first_under(p.column, w.stride_width, w.left); x < columns; x++) {
            float value[V];
            read<V>(a.x + (((i64)p.picture * w.height + y) * w.width + x) * w.channels + p.channel, value);
#pragma unroll
            for (int i = 0; i < V; i++) most[i] = value[i] > most[i] || value[i] != value[i] ? value[i] : most[i];
        }
    write<V>(a.to + (((i64)p.picture * w.out_height + p.row) * w.out_width + p.column) * w.channels + p.channel, most);
}
EACH(FLAT, max_pool, Pool)

template <int V> __device__ inline void avg_pool(const Pool& a) {
    const Window& w = a.window;
    Place p = place<V>(w.out_height, w.out_width, w.channels);
    if (p.picture >= a.pictures) return;
    float sum[V];
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = 0.0f;
    int top = first_under(p.row, w.stride_height, w.top), left = first_under(p.column, w.stride_width, w.left);
    int rows = end_under(p.row, w.stride_height, w.top, w.kernel_height, w.height);
    int columns = end_under(p.column, w.stride_width, w.left, w.kernel_width, w.width);
    for (int y = top; y < rows; y++)
        for (int x = left; x < columns; x++) {
            float value[V];
            read<V>(a.x + (((i64)p.picture * w.height + y) * w.width + x) * w.channels + p.channel, value);
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += value[i];
        }
    int values = a.count_pad ? w.kernel_height * w.kernel_width : (rows - top) * (columns - left);
    float share = 1.0f / (float)values;
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] *= share;
    write<V>(a.to + (((i64)p.picture * w.out_height + p.row) * w.out_width + p.column) * w.channels + p.channel, sum);
}
EACH(FLAT, avg_pool, Pool)

// Windows that a row or column of the map lies under.
__device__ inline int first_over(int at, int stride, int before, int kernel) {
    int first = at + before - kernel + 1;
    return first <= 0 ? 0 : (first + stride - 1) / stride;
}

__device__ inline int end_over(int at, int stride, int before, int size) {
    int end = (at + before) / stride + 1;
    return end > size ? size : end;
}

// The gradient goes to the first maximum of a window, row by row: a pixel asks of each window over it
// whether it is that.
template <int V> __device__ inline void max_pool_grad(const Pool& a) {
    const Window& w = a.window;
    Place p = place<V>(w.height, w.width, w.channels);
    if (p.picture >= a.pictures) return;
    const REAL* map = a.x + (i64)p.picture * w.height * w.width * w.channels + p.channel;
    float own[V], sum[V];
    read<V>(map + ((i64)p.row * w.width + p.column) * w.channels, own);
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = 0.0f;
    int row_end = end_over(p.row, w.stride_height, w.top, w.out_height);
    int column_end = end_over(p.column, w.stride_width, w.left, w.out_width);
    for (int oy = first_over(p.row, w.stride_height, w.top, w.kernel_height); oy < row_end; oy++)
        for (int ox = first_over(p.column, w.stride_width, w.left, w.kernel_width); ox < column_end; ox++) {
            bool first[V];
#pragma unroll
            for (int i = 0; i < V; i++) first[i] = true;
            int rows = end_under(oy, w.stride_height, w.top, w.kernel_height, w.height);
            int columns = end_under(ox, w.stride_width, w.left, w.kernel_width, w.width);
            for (int y = first_under(oy, w.stride_height, w.top); y < rows; y++)
                for (int x = first_under(ox, w.stride_width, w.left); x < columns; x++) {
                    if (y == p.row && x == p.column) continue;
                    bool before = y < p.row || (y == p.row && x < p.column);
                    float other[V];
                    read<V>(map + ((i64)y * w.width + x) * w.channels, other);
#pragma unroll
                    for (int i = 0; i < V; i++) {
                        // The first NaN is the maximum where there is one.
                        bool nan = other[i] != other[i], own_nan = own[i] != own[i];
                        bool beats = nan ? before || !own_nan : !own_nan && (before ? other[i] >= own[i] : other[i] > own[i]);
                        first[i] = first[i] && !beats;
                    }
                }
            float dy[V];
            read<V>(a.dy + (((i64)p.picture * w.out_height + oy) * w.out_width + ox) * w.channels + p.channel, dy);
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += first[i] ? dy[i] : 0.0f;
        }
    write<V>(a.to + (((i64)p.picture * w.height + p.row) * w.width + p.column) * w.channels + p.channel, sum);
}
EACH(FLAT, max_pool_grad, Pool)

template <int V> __device__ inline void avg_pool_grad(const Pool& a) {
    const Window& w = a.window;
    Place p = place<V>(w.height, w.width, w.channels);
    if (p.picture >= a.pictures) return;
    float sum[V];
#pragma unroll
    for (int i = 0; i < V; i++) sum[i] = 0.0f;
    int row_end = end_over(p.row, w.stride_height, w.top, w.out_height);
    int column_end = end_over(p.column, w.stride_width, w.left, w.out_width);
    for (int oy = first_over(p.row, w.stride_height, w.top, w.kernel_height); oy < row_end; oy++)
        for (int ox = first_over(p.column, w.stride_width, w.left, w.kernel_width); ox < column_end; ox++) {
            int rows = end_under(oy, w.stride_height, w.top, w.kernel_height, w.height) - first_under(oy, w.stride_height, w.top);
            int columns = end_under(ox, w.stride_width, w.left, w.kernel_width, w.width) - first_under(ox, w.stride_width, w.left);
            float share = 1.0f / (float)(a.count_pad ? w.kernel_height * w.kernel_width : rows * columns);
            float dy[V];
            read<V>(a.dy + (((i64)p.picture * w.out_height + oy) * w.out_width + ox) * w.channels + p.channel, dy);
#pragma unroll
            for (int i = 0; i < V; i++) sum[i] += share * dy[i];
        }
    write<V>(a.to + (((i64)p.picture * w.height + p.row) * w.width + p.column) * w.channels + p.channel, sum);
}
EACH(FLAT, avg_pool_grad, Pool)
