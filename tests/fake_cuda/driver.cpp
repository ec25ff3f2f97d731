// A CUDA driver without a device: memory is main memory, kernels run at once, compiled for the CPU by
// the fake NVRTC.
#include <dlfcn.h>

#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "real.h"

typedef unsigned long long Address;
typedef void (*Function)(const unsigned*, unsigned, const void*);
static std::mutex running, taking;
static std::map<Address, size_t> taken;

static bool known(Address address, size_t bytes) {
    std::lock_guard<std::mutex> guard(taking);
    auto after = taken.upper_bound(address);
    if (after == taken.begin()) return false;
    --after;
    return address + bytes <= after->first + after->second;
}

FAKE int cuInit(unsigned) { return 0; }
FAKE int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
FAKE int cuDeviceGetCount(int* count) { return *count = 1, 0; }
FAKE int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal != 0; }
FAKE int cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "fake"), 0; }
FAKE int cuDeviceGetAttribute(int* to, int attribute, int) {
    *to = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 4 : -1;
    return *to < 0;
}
FAKE int cuDevicePrimaryCtxRetain(void** context, int) { return *context = (void*)1, 0; }
FAKE int cuCtxSetCurrent(void* context) { return context == (void*)1 ? 0 : 201; }
FAKE int cuStreamCreate(void** stream, unsigned) { return *stream = (void*)2, 0; }
FAKE int cuStreamSynchronize(void* stream) { return stream == (void*)2 ? 0 : 400; }
FAKE int cuMemGetInfo_v2(size_t* free, size_t* total) { return *free = *total = 1ull << 30, 0; }
FAKE int cuMemAlloc_v2(Address* to, size_t bytes) {
    REQUIRE(bytes > 0);
    void* memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(memory, 0xff, bytes);
    std::lock_guard<std::mutex> guard(taking);
    taken[(Address)memory] = bytes;
    return *to = (Address)memory, 0;
}
FAKE int cuMemFree_v2(Address address) {
    std::lock_guard<std::mutex> guard(taking);
    REQUIRE(taken.erase(address) == 1);
    return free((void*)address), 0;
}
FAKE int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
    REQUIRE(known(to, bytes));
    return memcpy((void*)to, from, bytes), 0;
}
FAKE int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
    REQUIRE(known(from, bytes));
    return memcpy(to, (void*)from, bytes), 0;
}
FAKE int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void*) {
    REQUIRE(known(to, bytes) && known(from, bytes));
    return memmove((void*)to, (void*)from, bytes), 0;
}
FAKE int cuMemsetD8Async(Address to, unsigned char byte, size_t bytes, void*) {
    REQUIRE(known(to, bytes));
    return memset((void*)to, byte, bytes), 0;
}
FAKE int cuMemAllocHost_v2(void** to, size_t bytes) { return *to = malloc(bytes), 0; }
FAKE int cuEventCreate(void** event, unsigned) { return *event = new double(0), 0; }
FAKE int cuEventRecord(void* event, void*) {
    auto now = std::chrono::steady_clock::now().time_since_epoch();
    *(double*)event = std::chrono::duration<double, std::milli>(now).count();
    return 0;
}
FAKE int cuEventSynchronize(void*) { return 0; }
FAKE int cuEventElapsedTime_v2(float* to, void* first, void* last) {
    return *to = (float)(*(double*)last - *(double*)first), 0;
}
FAKE int cuModuleLoadData(void** module, const void* image) {
    *module = dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
    if (!*module) fprintf(stderr, "%s\n", dlerror());
    return *module ? 0 : 200;
}
FAKE int cuModuleGetFunction(void** function, void* module, const char* name) {
    return *function = dlsym(module, name), *function ? 0 : 500;
}
FAKE int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned across, unsigned deep, unsigned, void* stream, void** params, void**) {
    REQUIRE(stream == (void*)2 && across == 1 && deep == 1 && threads == 256);
    REQUIRE(x > 0 && y > 0 && z > 0 && y < 65536 && z < 65536);
    unsigned grid[3] = {x, y, z};
    std::lock_guard<std::mutex> guard(running);
    ((Function)function)(grid, threads, params[0]);
    return 0;
}
FAKE int cuGetErrorString(int, const char** text) { return *text = "told above", 0; }
