#!/usr/bin/env bash
# What twelve trials of head and learning rate on the same frozen features cost beside one of them
# alone: MobileNetV2 at 160 pixels, 1,000 flowers, ten epochs, no features kept from before. Seconds of
# both and their ratio a round, medians at the end. Needs ../shared.
#
#     benches/sweep.sh [ROUNDS=5]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
xp=${CARGO_TARGET_DIR:-$root/target}/release/xp
shared=$(realpath -m "$root/../shared")
if [ ! -d "$shared/data" ]; then
    echo "skipped: no pictures in $shared/data"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >heads.toml <<CONF
name = "heads"
runs_dir = "runs"
[data]
root = "$shared/data/flowers_1k"
image_size = 160
split = { train = 0.8, val = 0.1, test = 0.1 }
[cache]
dir = "features"
[model]
backbone = "mobilenet_v2"
weights = "$shared/weights/mobilenet_v2_imagenet.safetensors"
head = [{ dropout = 0.2 }, { dense = 5 }]
[[phase]]
name = "head"
epochs = 10
freeze = "all"
optimizer = { kind = "adam", lr = 1e-3 }
CONF

seconds() { # of a command that starts without features
    rm -rf runs features
    local started=$EPOCHREALTIME
    "$@" >/dev/null 2>&1
    awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'
}
for _ in $(seq "${1:-5}"); do
    one=$(seconds "$xp" run heads.toml --quiet)
    twelve=$(seconds "$xp" sweep heads.toml --jobs 2 --quiet \
        --axis 'phase[0].optimizer.lr={log=[1e-4,1e-2],steps=4}' \
        --axis 'model.head=[[{dense=5}],[{dropout=0.2},{dense=5}],[{dense=64,activation="relu"},{dense=5}]]')
    echo "$one $twelve"
done | tee rounds | awk '{ printf "one %s s, twelve %s s: %.2f\n", $1, $2, $2 / $1; fflush() }'
python3 -c 'import statistics
rows = [[float(x) for x in line.split()] for line in open("rounds")]
print(f"median ratio {statistics.median(b / a for a, b in rows):.2f}")'
