#!/usr/bin/env bash
# Test accuracy of the shipped two-phase recipe on real pictures, five seeds each, on the split of the
# pictures' manifests, and that of PyTorch's recipe (benches/peers/torch_two_phase.py) where
# PEERS_TORCH is there. Prints one line a run and the means. Names of backbones as arguments run only
# these. Skips where the pictures are absent.
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
# With these PyTorch is fastest; they change no result.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

# number KEY: its value in the line of JSON on stdin
number() { sed -E "s/.*\"$1\": ?([0-9.]+).*/\1/"; }

# race NAME COMMAND... -> a line a seed and the means of best and last checkpoint
race() {
    local name=$1 seed answer
    shift
    for seed in 0 1 2 3 4; do
        answer=$("$@" "$seed" | tail -1)
        echo "$(number "$best" <<<"$answer") $(number "$last" <<<"$answer")"
    done | awk -v name="$name" '{
        printf "%s, seed %d: best checkpoint %.1f %%, last %.1f %%\n", name, NR - 1, 100 * $1, 100 * $2
        best += $1; last += $2
    } END { printf "%s, mean of %d: best %.2f %%, last %.2f %%\n", name, NR, 100 * best / NR, 100 * last / NR }'
}

of_xp() {
    local upper='block_11_expand_BN'
    [ "$network" = mobilenet_v2 ] || upper='fire8_squeeze1x1'
    "$xp" run configs/flowers_mobilenet.toml --quiet --json \
        --set seed="$1" --set runs_dir="$runs" --set model.head="[{ dense = $outputs }]" \
        --set model.backbone="$network" --set "phase[1].freeze_before=$upper" \
        --set data.root="$data" --set data.manifest="$data/manifest.csv" \
        --set data.split='{ by = "column" }' \
        --set model.weights="$weights" |
        sed -E 's/"test_last_accuracy":null/"test_last_accuracy":same/; s/(.*"test_accuracy":)([0-9.]+)(.*"test_last_accuracy":)same/\1\2\3\2/'
}

of_torch() {
    "$PEERS_TORCH" benches/peers/torch_two_phase.py --network "$network" --data "$data" \
        --weights "$weights" --seed "$1" --cache-phase1
}

for network in ${*:-mobilenet_v2 squeezenet1_1}; do
    weights=$shared/weights/${network}_imagenet.safetensors
    for pair in flowers_1k:5 dog_cat:2; do
        data=$shared/data/${pair%%:*} outputs=${pair##*:}
        best=test_accuracy last=test_last_accuracy
        race "xp, $network on ${pair%%:*}" of_xp
        best=test last=test_last
        if [ -x "${PEERS_TORCH:-}" ]; then race "PyTorch, $network on ${pair%%:*}" of_torch; fi
    done
done
