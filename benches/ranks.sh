#!/usr/bin/env bash
# Pictures a second in full fine-tuning of MobileNetV2 at 160 pixels on real pictures: one process with
# 2 threads beside 1, 2 and 4 ranks of one thread, taking turns; medians (needs ../shared).
#
#     benches/ranks.sh [ROUNDS=5] [SET...]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
shift || true
xp="${CARGO_TARGET_DIR:-target}/release/xp"
shared=$(cd ../shared 2>/dev/null || cd /work/shared && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/full.toml" <<CONF
name = "full"
runs_dir = "$work/runs"
[data]
root = "$shared/data/dog_cat"
image_size = 160
split = { train = 0.8, val = 0.1, test = 0.1 }
max_per_class = 200
[model]
backbone = "mobilenet_v2"
weights = "$shared/weights/mobilenet_v2_imagenet.safetensors"
head = [{ dense = 1 }]
[cache]
dir = "$work/cache"
[[phase]]
name = "all"
freeze = "none"
epochs = 2
optimizer = { kind = "adam", lr = 1e-4 }
CONF
more=()
for set in "$@"; do more+=(--set "$set"); done

# once NAME RANKS THREADS
once() {
    local port=$((20000 + RANDOM % 10000)) rank pids=()
    for ((rank = 0; rank < $2; rank++)); do
        local launcher=(RANK=$rank WORLD_SIZE=$2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port)
        [ "$2" -gt 1 ] || launcher=()
        env "${launcher[@]}" "$xp" run "$work/full.toml" --quiet --run-dir "$work/$1" \
            --set threads="$3" "${more[@]}" >"$work/out" 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || { cat "$work/out"; exit 1; }; done
    python3 -c 'import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
print(rows[-1]["images_per_second"])' "$work/$1/metrics.csv" >>"$work/$1.rates"
    # Without the header, which names the number of threads.
    python3 -c 'import hashlib, sys
data = open(sys.argv[1], "rb").read()
print(hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest())' \
        "$work/$1/model.safetensors" >>"$work/sums"
    rm -rf "${work:?}/$1"
}
for ((round = 0; round < rounds; round++)); do
    once 1x2 1 2
    once 2x1 2 1
    once 1x1 1 1
    once 4x1 4 1
    uptime | sed 's/.*load/load/'
done
python3 - "$work" <<'END'
import statistics, sys
rate = lambda name: [float(line) for line in open(f"{sys.argv[1]}/{name}.rates")]
whole = statistics.median(rate("1x2"))
for name in ["1x2", "2x1", "1x1", "4x1"]:
    rates = rate(name)
    middle = statistics.median(rates)
    print(f"{name} (ranks x threads): {middle:6.1f} pictures/s ({min(rates):.1f} to {max(rates):.1f}), {middle / whole:.3f} of 1x2")
pairs = [two / one for two, one in zip(rate("2x1"), rate("1x2"))]
print(f"2x1 / 1x2, round by round: median {statistics.median(pairs):.3f} ({min(pairs):.3f} to {max(pairs):.3f})")
print(f"different weights: {len(set(open(sys.argv[1] + '/sums')))}")
END
