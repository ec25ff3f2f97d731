"""Compiles every CUDA kernel of src/gpu/kernels to machine code with NVRTC, which needs no GPU.

Usage: cuda_kernels.py FOLDER [ARCHITECTURE...]. NVRTC is looked for in FOLDER, where
`pip download nvidia-cuda-nvrtc` was unpacked; architectures are numbers such as 90.
"""

import ctypes
import glob
import os
import sys
import time

SOURCES = os.path.join(os.path.dirname(__file__), "..", "src", "gpu", "kernels")


def main():
    folder, architectures = sys.argv[1], sys.argv[2:] or ["80", "90", "100"]
    [library] = glob.glob(os.path.join(folder, "**", "libnvrtc.so.*[0-9]"), recursive=True)
    ctypes.CDLL(glob.glob(os.path.join(folder, "**", "libnvrtc-builtins.so.*"), recursive=True)[0])
    nvrtc = ctypes.CDLL(library)
    with open(os.path.join(SOURCES, "device.h")) as file:
        prelude = file.read()
    failed, kernels = 0, 0
    for path in sorted(glob.glob(os.path.join(SOURCES, "*.cu"))):
        with open(path) as file:
            source = file.read()
        for architecture in architectures:
            for real in ["float", "bf16"]:
                # As src/gpu/cuda/compile.rs puts it together.
                text = f"struct bf16;\n#define REAL {real}\n{prelude}{source}"
                begun = time.time()
                size, log = compiled(nvrtc, text, architecture)
                name = f"{os.path.basename(path)} sm_{architecture} {real}"
                if size is None:
                    failed += 1
                    print(f"{name}: FAILED\n{log}")
                else:
                    kernels += 1
                    print(f"{name}: {size} bytes, {time.time() - begun:.1f} s")
                    if log.strip():
                        print(log)
    print(f"{kernels} compiled, {failed} failed")
    sys.exit(failed > 0)


def compiled(nvrtc, text, architecture):
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture=sm_{architecture}".encode(), b"--std=c++17"]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    log = log.value.decode()
    if failed:
        return None, log
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    return size.value, log


main()
