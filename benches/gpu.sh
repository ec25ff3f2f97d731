#!/usr/bin/env bash
# Parity and races on a machine with an NVIDIA GPU, PyTorch and no Rust: bring the binary that
# `just gpu-binary` made as target/gpu/gpu. `gpu.sh parity` or `gpu.sh race [NAME...]`; both without.
set -euo pipefail
cd "$(dirname "$0")/.."
gpu=${GPU_BENCH:-target/gpu/gpu}
python=${PEERS_TORCH:-python3}
[ -x "$python" ] || command -v "$python" >/dev/null || python=python3
what=${1:-all}
[ $# -gt 0 ] && shift
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
case $what in parity | all)
    "$gpu" parity "$@" || echo "parity: NOT all within the bar"
    "$gpu" same || echo "NOT deterministic"
    ;;
esac
case $what in race | all)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "$gpu" race "$@" | tee "$work/xp"
    "$python" benches/peers/torch_gpu.py "$@" | tee "$work/torch"
    "$python" - "$work/xp" "$work/torch" <<'PYTHON'
import json
import sys

ours, theirs = ({line["name"]: line for line in map(json.loads, open(path))} for path in sys.argv[1:])
print("| race | xp ms | PyTorch ms | xp is |")
print("|---|---|---|---|")
for name in {**ours, **theirs}:
    cells = [(side.get(name) or {}).get("milliseconds") for side in (ours, theirs)]
    times = f"{cells[1] / cells[0]:.2f}x" if all(cells) else "-"
    print(f"| {name} | " + " | ".join(f"{cell:.2f}" if cell else "failed" for cell in cells) + f" | {times} |")
PYTHON
    ;;
esac
