#!/usr/bin/env bash
# Runs the code for NVIDIA GPUs on fakes of NVIDIA's libraries that compute in plain loops on the CPU
# and refuse what the documentation forbids. Arguments are those of benches/gpu.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
export FAKE_CUDA=$PWD/target/fake_cuda FAKE_CUDA_HOST=$PWD/src/gpu/kernels/host.h
mkdir -p "$FAKE_CUDA"
rm -rf "$FAKE_CUDA"/kernels_* "$FAKE_CUDA/cache"
build() { g++ -std=c++17 -O2 -Wall -Wno-unused-function -fPIC -shared -fvisibility=hidden -Wl,-soname,"$2" "tests/fake_cuda/$1.cpp" -o "$FAKE_CUDA/$2" -ldl; }
build driver libcuda.so.1
build nvrtc libnvrtc.so.13
build cublaslt libcublasLt.so.13
build cudnn libcudnn.so.9
export XP_CUDA_LIBS=$FAKE_CUDA XDG_CACHE_HOME=$FAKE_CUDA/cache LD_LIBRARY_PATH=$FAKE_CUDA
program=$1
shift
"$program" "$@"
