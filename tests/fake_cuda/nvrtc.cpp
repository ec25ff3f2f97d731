// An NVRTC whose machine code is the name of a library that g++ made of the kernels and host.h.
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>

#include "real.h"

struct Program {
    std::string source, path;
};
static std::atomic<int> made{0};

FAKE int nvrtcVersion(int* major, int* minor) { return *major = 0, *minor = 0, 0; }
FAKE int nvrtcCreateProgram(Program** to, const char* source, const char*, int, const char* const*, const char* const*) {
    return *to = new Program{source, ""}, 0;
}
FAKE int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    REQUIRE(count >= 1 && std::string(options[0]) == "--gpu-architecture=sm_90");
    std::string base = std::string(getenv("FAKE_CUDA")) + "/kernels_" + std::to_string(getpid()) + "_" + std::to_string(made++);
    std::ofstream(base + ".cpp") << "#include \"" << getenv("FAKE_CUDA_HOST") << "\"\n" << program->source;
    program->path = base + ".so";
    std::string command = "g++ -std=c++17 -O2 -w -fPIC -shared " + base + ".cpp -o " + program->path;
    return system(command.c_str()) != 0 ? 6 : 0;
}
FAKE int nvrtcGetProgramLogSize(Program*, size_t* size) { return *size = 1, 0; }
FAKE int nvrtcGetProgramLog(Program*, char* log) { return *log = 0, 0; }
FAKE int nvrtcGetCUBINSize(Program* program, size_t* size) { return *size = program->path.size() + 1, 0; }
FAKE int nvrtcGetCUBIN(Program* program, char* to) { return strcpy(to, program->path.c_str()), 0; }
FAKE int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, 0; }
