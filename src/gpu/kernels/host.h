// Runs kernels on a CPU, for tests: a block's threads one after the other, or in turns where they
// wait for one another.
#define HOST
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

struct Dim {
    unsigned x, y, z;
};
static Dim blockIdx, threadIdx, blockDim, gridDim;

#define __device__
#define __shared__ static
#define __noinline__ __attribute__((noinline))
#define __restrict__

typedef void (*Body)(const void*);

static void each_block(const Dim* grid, unsigned threads, const void* args, void (*block)(Body, const void*), Body body) {
    gridDim = *grid;
    blockDim.x = threads;
    blockDim.y = blockDim.z = 1;
    for (blockIdx.z = 0; blockIdx.z < grid->z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid->y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid->x; blockIdx.x++) block(body, args);
}

static void flat_block(Body body, const void* args) {
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) body(args);
}

// Threads that wait: contexts of their own, switched in turn.
enum { MOST = 256, STACK = 64 << 10 };
static ucontext_t scheduler, fibers[MOST];
static char* stacks;
static bool done[MOST];
static float exchanged[MOST];
static Body fiber_body;
static const void* fiber_args;

static void run_fiber(int index) {
    fiber_body(fiber_args);
    done[index] = true;
}

// Lets every other thread of the block get to the same place.
static void __syncthreads() {
    unsigned own = threadIdx.x;
    swapcontext(&fibers[own], &scheduler);
}

static float __shfl_xor_sync(unsigned, float value, int mask) {
    unsigned own = threadIdx.x;
    exchanged[own] = value;
    __syncthreads();
    float other = exchanged[own ^ mask];
    __syncthreads();
    return other;
}

static void synced_block(Body body, const void* args) {
    if (!stacks) stacks = (char*)malloc((size_t)MOST * STACK);
    fiber_body = body;
    fiber_args = args;
    for (unsigned i = 0; i < blockDim.x; i++) {
        done[i] = false;
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
        fibers[i].uc_stack.ss_size = STACK;
        fibers[i].uc_link = &scheduler;
        makecontext(&fibers[i], (void (*)())run_fiber, 1, (int)i);
    }
    bool left = true;
    while (left) {
        left = false;
        for (unsigned i = 0; i < blockDim.x; i++) {
            if (done[i]) continue;
            threadIdx.x = i;
            swapcontext(&scheduler, &fibers[i]);
            left |= !done[i];
        }
    }
}

#define DEFINE(name, Args, block)                                                                  \
    static void name##_body(const Args& a);                                                        \
    static void name##_thread(const void* args) { name##_body(*(const Args*)args); }               \
    extern "C" void name(const Dim* grid, unsigned threads, const void* args) {                    \
        each_block(grid, threads, args, block, name##_thread);                                     \
    }                                                                                              \
    static void name##_body(const Args& a)
#define FLAT(name, Args) DEFINE(name, Args, flat_block)
#define SYNCED(name, Args) DEFINE(name, Args, synced_block)
