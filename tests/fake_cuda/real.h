// Values in f32 or bfloat16, as the fake libraries read and write them.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define FAKE extern "C" __attribute__((visibility("default")))

static inline float value(const void* from, int64_t at, bool brain) {
    if (!brain) return ((const float*)from)[at];
    uint32_t bits = (uint32_t)((const uint16_t*)from)[at] << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline void put(void* to, int64_t at, float x, bool brain) {
    if (!brain) {
        ((float*)to)[at] = x;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &x, 4);
    ((uint16_t*)to)[at] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// A misuse that NVIDIA's library would answer with an error or worse.
#define REQUIRE(condition)                                                                          \
    if (!(condition)) {                                                                             \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                             \
        return 7;                                                                                   \
    }
