#!/usr/bin/env bash
# Test accuracy of the shipped two-phase recipe on real pictures, three seeds each, on the split of
# the pictures' manifests. Prints one line a run and the mean. Skips where the pictures are absent.
set -euo pipefail
cd "$(dirname "$0")/.."
xp="${CARGO_TARGET_DIR:-target}/release/xp"
shared=$(realpath -m ../shared)
if [ ! -d "$shared/data" ]; then
    echo "skipped: no pictures in $shared/data"
    exit 0
fi
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
export XP_CACHE__DIR="$runs/features"

for pair in flowers_1k:5 dog_cat:1; do
    name=${pair%%:*} outputs=${pair##*:} data=$shared/data/${pair%%:*}
    for seed in 0 1 2; do
        "$xp" run configs/flowers_mobilenet.toml --quiet --json \
            --set seed=$seed --set runs_dir="$runs" --set model.head="[{ dense = $outputs }]" \
            --set data.root="$data" --set data.manifest="$data/manifest.csv" \
            --set data.split='{ by = "column" }' \
            --set model.weights="$shared/weights/mobilenet_v2_imagenet.safetensors"
    done | sed -E 's/.*"best_epoch":([0-9]+).*"val_accuracy":([0-9.]+).*"test_accuracy":([0-9.]+).*"seconds":([0-9.]+).*/\1 \2 \3 \4/' |
        awk -v name="$name" '{
            printf "%s seed %d: best epoch %s, val %.1f %%, test %.1f %%, %.1f s\n", name, NR - 1, $1, 100 * $2, 100 * $3, $4
            sum += $3
        } END { printf "%s mean test accuracy %.1f %% of %d runs\n", name, 100 * sum / NR, NR }'
done
