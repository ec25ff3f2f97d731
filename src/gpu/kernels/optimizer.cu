// Steps over all trained parameters at once. They lie one behind the other, each in blocks of 1024
// of its own; the rest of a parameter's last block is 0 and stays so. PyTorch's formulas.

// Hyper-parameters of some of the parameters.
struct Rule {
    // SGD, RMSprop, Adam.
    int kind, nesterov, centered, moments;
    float lr, momentum, l2, rho, share, epsilon, correction, share1, keep;
};

struct Optimize {
    float* values;
    const float* gradients;
    float* first;
    float* second;
    float* third;
    const Rule* rules;
    // Of each block the number of its rule.
    const int* rule_of;
    i64 count;
};

FLAT(optimize_1, Optimize) {
    const Rule r = a.rules[a.rule_of[blockIdx.x]];
    for (int i = 0; i < 4; i++) {
        i64 at = (i64)blockIdx.x * 1024 + i * 256 + threadIdx.x;
        if (at >= a.count) return;
        float p = a.values[at];
        float g = a.gradients[at] + r.l2 * p;
        if (r.kind == 0) {
            if (r.moments == 0) {
                a.values[at] = p - r.lr * g;
            } else {
                float velocity = r.momentum * a.first[at] + g;
                a.first[at] = velocity;
                a.values[at] = p - r.lr * (r.nesterov ? g + r.momentum * velocity : velocity);
            }
        } else if (r.kind == 1) {
            float square = r.rho * a.first[at] + r.share * g * g;
            a.first[at] = square;
            float* velocity = a.second;
            if (r.centered) {
                float mean = a.second[at];
                mean += r.share * (g - mean);
                a.second[at] = mean;
                // Rounding can push the difference a little below 0.
                square = fmaxf(square - mean * mean, 0.0f);
                velocity = a.third;
            }
            float direction = g / (sqrtf(square) + r.epsilon);
            if (r.momentum > 0.0f) {
                direction = r.momentum * velocity[at] + direction;
                velocity[at] = direction;
            }
            a.values[at] = p - r.lr * direction;
        } else {
            float mean = a.first[at];
            mean += r.share1 * (g - mean);
            float square = r.rho * a.second[at] + r.share * g * g;
            a.first[at] = mean;
            a.second[at] = square;
            a.values[at] = r.keep * p - r.lr * (mean / (sqrtf(square) / r.correction + r.epsilon));
        }
    }
}

struct Blend {
    float* to;
    const float* from;
    i64 count;
    float keep, share;
};

// to = keep * to + share * from; of two parts that make 1 from the nearer end, as PyTorch does.
FLAT(blend_1, Blend) {
    i64 at = position();
    if (at < a.count) a.to[at] = a.keep * a.to[at] + (a.from ? a.share * a.from[at] : 0.0f);
}

FLAT(lerp_1, Blend) {
    i64 at = position();
    if (at >= a.count) return;
    float start = a.to[at], end = a.from[at];
    a.to[at] = a.share < 0.5f ? start + a.share * (end - start) : end - (end - start) * (1.0f - a.share);
}

struct Limit {
    float* to;
    i64 count;
    float most;
};

FLAT(limit_1, Limit) {
    i64 at = position();
    if (at < a.count) a.to[at] = clamp(a.to[at], -a.most, a.most);
}

struct Squares {
    const float* from;
    double* partial;
    i64 count;
    int per_block;
};

// Sums of squares, a block each.
SYNCED(squares_1, Squares) {
    __shared__ double shared[256];
    i64 first = (i64)blockIdx.x * a.per_block, end = first + a.per_block;
    if (end > a.count) end = a.count;
    double sum = 0.0;
    for (i64 at = first + threadIdx.x; at < end; at += 256) sum += (double)a.from[at] * (double)a.from[at];
    shared[threadIdx.x] = sum;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    if (threadIdx.x == 0) a.partial[blockIdx.x] = shared[0];
}
