// cuBLASLt by its documentation, in plain loops: columns first, transposes, batches, epilogues.
#include "real.h"

struct Desc {
    int turned_a, turned_b, epilogue;
    const void* bias;
};
struct Layout {
    bool brain;
    int64_t rows, columns, ld, count, stride;
};
struct Algo {
    uint64_t data[8];
};
struct Result {
    Algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

FAKE int cublasLtCreate(void** handle) { return *handle = (void*)3, 0; }
FAKE int cublasLtMatmulDescCreate(Desc** to, int compute, int scale) {
    REQUIRE((compute == 68 || compute == 77) && scale == 0);
    return *to = new Desc{0, 0, 1, nullptr}, 0;
}
FAKE int cublasLtMatmulDescSetAttribute(Desc* desc, int attribute, const void* from, size_t bytes) {
    switch (attribute) {
    case 3: REQUIRE(bytes == 4); memcpy(&desc->turned_a, from, 4); return 0;
    case 4: REQUIRE(bytes == 4); memcpy(&desc->turned_b, from, 4); return 0;
    case 7: REQUIRE(bytes == 4); memcpy(&desc->epilogue, from, 4); return 0;
    case 8: REQUIRE(bytes == 8); memcpy(&desc->bias, from, 8); return 0;
    default: return 7;
    }
}
FAKE int cublasLtMatrixLayoutCreate(Layout** to, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    REQUIRE((type == 0 || type == 14) && ld >= (int64_t)rows);
    return *to = new Layout{type == 14, (int64_t)rows, (int64_t)columns, ld, 1, 0}, 0;
}
FAKE int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* from, size_t bytes) {
    if (attribute == 5) {
        REQUIRE(bytes == 4);
        return layout->count = *(const int32_t*)from, 0;
    }
    REQUIRE(attribute == 6 && bytes == 8);
    return layout->stride = *(const int64_t*)from, 0;
}
FAKE int cublasLtMatmulPreferenceCreate(void** to) { return *to = (void*)4, 0; }
FAKE int cublasLtMatmulPreferenceSetAttribute(void*, int attribute, const void*, size_t bytes) {
    REQUIRE((attribute == 1 && bytes == 8) || (attribute == 3 && bytes == 4));
    return 0;
}
static int fits(const Desc* desc, const Layout* a, const Layout* b, const Layout* c) {
    int64_t m = desc->turned_a ? a->columns : a->rows, k = desc->turned_a ? a->rows : a->columns;
    int64_t n = desc->turned_b ? b->rows : b->columns, inner = desc->turned_b ? b->columns : b->rows;
    REQUIRE(k == inner && c->rows == m && c->columns == n);
    REQUIRE(a->count == b->count && a->count == c->count && a->brain == b->brain);
    return 0;
}
FAKE int cublasLtMatmulAlgoGetHeuristic(void* handle, const Desc* desc, const Layout* a, const Layout* b, const Layout* c, const Layout* d, void* preference, int asked, Result* to, int* count) {
    REQUIRE(handle == (void*)3 && preference == (void*)4 && c == d && asked >= 2);
    if (int error = fits(desc, a, b, c)) return error;
    to[0].state = to[1].state = 0;
    return *count = 2, 0;
}
FAKE int cublasLtMatmul(void* handle, const Desc* desc, const float* alpha, const void* a, const Layout* as, const void* b, const Layout* bs, const float* beta, const void* c, const Layout* cs, void* d, const Layout* ds, const Algo* algo, void* workspace, size_t bytes, void* stream) {
    REQUIRE(handle == (void*)3 && stream == (void*)2 && algo && workspace && bytes && cs == ds);
    if (int error = fits(desc, as, bs, cs)) return error;
    bool has_bias = desc->epilogue & 4, relu = desc->epilogue & 2;
    REQUIRE(!has_bias || desc->bias);
    int64_t k = desc->turned_a ? as->rows : as->columns;
    std::vector<float> left(cs->rows * k), right(cs->columns * k);
    for (int64_t batch = 0; batch < cs->count; batch++) {
        for (int64_t i = 0; i < cs->rows; i++)
            for (int64_t p = 0; p < k; p++)
                left[i * k + p] = value(a, batch * as->stride + (desc->turned_a ? p + i * as->ld : i + p * as->ld), as->brain);
        for (int64_t j = 0; j < cs->columns; j++)
            for (int64_t p = 0; p < k; p++)
                right[j * k + p] = value(b, batch * bs->stride + (desc->turned_b ? j + p * bs->ld : p + j * bs->ld), bs->brain);
        for (int64_t j = 0; j < cs->columns; j++)
            for (int64_t i = 0; i < cs->rows; i++) {
                float sum = 0;
                for (int64_t p = 0; p < k; p++) sum += left[i * k + p] * right[j * k + p];
                int64_t at = batch * cs->stride + i + j * cs->ld;
                sum *= *alpha;
                if (*beta != 0) sum += *beta * value(c, at, cs->brain);
                if (has_bias) sum += value(desc->bias, i, cs->brain);
                put(d, at, relu && sum < 0 ? 0 : sum, ds->brain);
            }
    }
    return 0;
}
