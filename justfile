# Recipes for working on xp. `just ci` is exactly what .ci/run runs.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Interpreters of the peers that xp races: set them to use environments of your own
export PEERS_TORCH := env("PEERS_TORCH", justfile_directory() / "target/peers/torch/bin/python")
export PEERS_TRACKING := env("PEERS_TRACKING", "python3")
export PEERS_TF := env("PEERS_TF", justfile_directory() / "target/peers/tf/bin/python")

# List the recipes
default:
    @just --list

# Everything that must pass
[group('check')]
ci: fmt lint cuda-lint test docs release quickstart fuzz sweep-kills slurm browser

# Formatting
[group('check')]
fmt:
    cargo fmt --check

# Lints
[group('check')]
lint:
    cargo clippy --all-targets --locked -- -D warnings
    ! grep -rnE 'todo!\(|unimplemented!\(|dbg!\(|FIXME' --include='*.rs' src tests benches

# The README's test command
[group('check')]
test:
    cargo test

# Documentation builds without warnings
[group('check')]
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

# The binary that people use, and its size and start-up time
[group('check')]
release:
    cargo build --release --locked
    test "$(stat -c %s "${CARGO_TARGET_DIR:-target}/release/xp")" -lt 40000000

# The README's first command, twice: transferred and from random weights
[group('check')]
quickstart: release
    tests/quickstart.sh

# Race xp against its peers and write benches/RESULTS.md: all groups (about 40 minutes), or some of forward, steps, load, runs
[group('measure')]
bench *args:
    python3 benches/race.py {{ args }}

# GFLOP/s of every kernel and its share of the machine's peak
[group('measure')]
kernels:
    cargo bench --bench kernels

# Every CUDA kernel compiled to machine code by NVRTC from PyPI; needs no GPU
[group('check')]
cuda-kernels *architectures:
    mkdir -p target/cuda
    [ -d target/cuda/nvidia ] || { python3 -m pip download -q --no-deps --only-binary=:all: -d target/cuda nvidia-cuda-nvrtc==13.0.88 && python3 -m zipfile -e target/cuda/nvidia_cuda_nvrtc-*.whl target/cuda; }
    python3 tests/cuda_kernels.py target/cuda {{ architectures }}

# The code for NVIDIA GPUs compiles without CUDA, free of warnings
[group('check')]
cuda-lint:
    cargo clippy --lib --bins --benches --locked --features cuda -- -D warnings

# The kernels' sources on an emulated GPU, against the CPU (needs g++)
[group('check')]
cuda-numerics:
    cargo test --lib -- device_tests a_gpu_trains structs_are

# The whole way to NVIDIA's libraries on fakes of them: parity of some networks (needs g++; minutes)
[group('check')]
cuda-fakes *networks="mobilenet_v2 resnet18":
    cargo build --release --locked --features cuda --bench gpu
    tests/fake_cuda.sh "$(ls -t "${CARGO_TARGET_DIR:-target}"/release/deps/gpu-* | grep -v '\.d$' | head -1)" parity {{ networks }}

# target/gpu/gpu and target/gpu/xp, for a GPU machine without Rust
[group('measure')]
gpu-binary:
    cargo build --release --locked --features cuda --bench gpu --bin xp
    mkdir -p target/gpu
    cp "$(ls -t "${CARGO_TARGET_DIR:-target}"/release/deps/gpu-* | grep -v '\.d$' | head -1)" target/gpu/gpu
    cp "${CARGO_TARGET_DIR:-target}/release/xp" target/gpu/xp
    strip target/gpu/gpu

# On a GPU machine: parity with the CPU, then races against PyTorch (PEERS_TORCH); wants `just gpu-binary`'s files
[group('measure')]
bench-gpu *args:
    benches/gpu.sh {{ args }}

# Make the peers' environments where PEERS_TORCH and PEERS_TF do not exist (Python 3.11, downloads gigabytes)
[group('measure')]
peers:
    [ -x "$PEERS_TORCH" ] || { python3 -m venv target/peers/torch && target/peers/torch/bin/pip install -r benches/peers/requirements-torch.txt; }
    [ -x "$PEERS_TF" ] || { python3 -m venv target/peers/tf && target/peers/tf/bin/pip install -r benches/peers/requirements-tf.txt; }

# Every architecture against its reference in both implementations, every parameter disturbed, every cutoff trained; on real pictures with ../shared and a Python with torch in PARITY_PYTHON
[group('measure')]
parity:
    cargo test --release --locked --lib -- --include-ignored --nocapture --test-threads=1 parity cutoffs

# Every backbone exported to ONNX, in ONNX Runtime, with the PyTorch peers' Python
[group('measure')]
export:
    EXPORT_PYTHON="$PEERS_TORCH" cargo test --release --locked --lib -- --include-ignored --nocapture export::onnx

# Every backbone exported under the names of timm and torchvision, loaded strictly and compared there, with the PyTorch peers' Python
[group('measure')]
export-names:
    EXPORT_PYTHON="$PEERS_TORCH" cargo test --release --locked --lib -- --include-ignored --nocapture export::checkpoint

# xp serve against FastAPI with ONNX Runtime on a picture: requests a second, times (wants ab, and fastapi and uvicorn beside the PyTorch peers)
[group('measure')]
bench-serve picture: release
    benches/serve.sh {{ picture }}

# Twelve trials on the same frozen features beside one of them alone (needs ../shared)
[group('measure')]
bench-sweep rounds="5": release
    benches/sweep.sh {{ rounds }}

# 10,000 hostile requests to xp serve: none may end it or make it grow
[group('measure')]
hostile requests="10000": release
    #!/usr/bin/env bash
    set -euo pipefail
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    xp=${CARGO_TARGET_DIR:-target}/release/xp
    "$xp" run configs/quickstart.toml --quiet --run-dir "$work/run" --set cache.disk=false >/dev/null
    python3 tests/hostile_requests.py "$xp" "$work/run" {{ requests }}

# 300 kills at random moments of tiny runs, cached and not, augmented and not; every one must resume to the same bytes
[group('measure')]
kills kills="60": release
    tests/kills.sh {{ kills }}

# 50 jobs of 2 to 4 ranks that lose one at a random moment, killed or hung; every one must end within 30 s and go on with another number of ranks to the same bytes
[group('measure')]
rank-kills kills="50": release
    tests/rank_kills.sh {{ kills }}

# Everything with a state on 1 to 4 ranks: the same bytes
[group('measure')]
rank-bytes: release
    tests/rank_bytes.sh

# Pictures a second of 1, 2 and 4 ranks beside one process of two threads (needs ../shared)
[group('measure')]
bench-ranks rounds="5": release
    benches/ranks.sh {{ rounds }}

# What ranks exchange and compute in a step, for each backbone and cutoff, and how far that scales: docs/ranks.md
[group('measure')]
rank-costs:
    cargo bench --bench ranks

# The same over Open MPI's library, built apart and run with mpirun (skipped where Open MPI is absent)
[group('check')]
mpi:
    tests/mpi.sh

# 100 power cuts of tiny runs on a disk that forgets what was not synced; every one must resume to the same bytes (as root)
[group('measure')]
power-cuts cuts="50": release
    tests/power_cuts.sh {{ cuts }}

# Sweeps on a real Slurm of this machine: a task requeued, the node drained, the submitter killed (as root, with slurm-wlm and munge; skipped without)
[group('check')]
slurm: release
    tests/slurm.sh

# A sweep of 200 tiny trials whose trials are killed at random and which is itself killed ten times: the table must be that of an undisturbed one
[group('check')]
sweep-kills: release
    tests/sweep_kills.sh

# Fuzz every reader of foreign files for so many seconds each, or some by name
[group('check')]
fuzz seconds="10" *targets: release
    fuzz/run.sh {{ seconds }} {{ targets }}

# The same guided by the branches of all dependencies too, an hour each (installs cargo-fuzz; builds 10 minutes)
[group('measure')]
fuzz-deep seconds="3600" *targets: release
    fuzz/run.sh --deep {{ seconds }} {{ targets }}

# Accuracy on real pictures, five seeds, beside PyTorch's recipe where PEERS_TORCH is there (needs ../shared)
[group('measure')]
accuracy: release
    tests/accuracy.sh

# From a folder of pictures to an answer over HTTP in five commands, each timed (needs ../shared)
[group('measure')]
newcomer: release
    tests/newcomer.sh

# Every experiment of configs/ to its end on real pictures, all or some by name; full size where the weights are at hand (needs ../shared)
[group('measure')]
tutorials *names: release
    tests/tutorials.sh {{ names }}

# The pages of a run and of a sweep in headless Chromium: used, counted, printed (wants Debian's chromium-driver and python3-selenium; with AXE, axe-core's file, accessibility too)
[group('check')]
browser: release
    tests/browser.sh

# Runs in TensorBoard's and MLflow's own packages and in a real MLflow server, live, later, killed and resumed (a Python with tensorboard and mlflow in PEERS_TRACKING; skips what is absent)
[group('check')]
tracking: release
    "$PEERS_TRACKING" tests/tracking.py "${CARGO_TARGET_DIR:-target}/release/xp"

# Redraw the accepted snapshots after reading their differences
[group('maintain')]
snapshots:
    INSTA_UPDATE=always cargo test --locked

# Make the fixtures of the architectures again: all, or some by name (needs the peers' environments)
[group('maintain')]
fixtures *names:
    PARITY_KEYS="$PWD/target/parity_keys.json" cargo test --lib -- --include-ignored lists_nodes_and_parameters
    "$PEERS_TORCH" tests/fixtures/make_parity.py target/parity_keys.json {{ names }}
    "$PEERS_TF" tests/fixtures/make_parity.py target/parity_keys.json {{ names }}
    "$PEERS_TORCH" tests/fixtures/make_gradcam.py target/parity_keys.json
    "$PEERS_TORCH" tests/fixtures/make_scores.py
