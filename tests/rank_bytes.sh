#!/usr/bin/env bash
# 1, 2, 3 and 4 ranks: the same metrics (times aside), model and predictions, with
# augmentation, mixup, dropout, averaged weights, accumulation and either batch norm.
set -euo pipefail
cd "$(dirname "$0")/.."
xp="${CARGO_TARGET_DIR:-target}/release/xp"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XP_CACHE__DISK=false

# job NAME RANKS THREADS SET...
job() {
    local name=$1 count=$2 threads=$3 rank pids=() more=()
    shift 3
    for set in "$@"; do more+=(--set "$set"); done
    local port=$((20000 + RANDOM % 10000))
    for ((rank = 0; rank < count; rank++)); do
        local launcher=(RANK=$rank WORLD_SIZE=$count MASTER_ADDR=127.0.0.1 MASTER_PORT=$port)
        [ "$count" -gt 1 ] || launcher=()
        env "${launcher[@]}" "$xp" run configs/quickstart.toml --quiet --run-dir "$work/$name" \
            --set threads="$threads" --set data.generate.per_class=20 --set data.image_size=32 \
            --set train.batch_size=14 --set phase[0].epochs=2 --set phase[1].epochs=2 "${more[@]}" \
            >"$work/out.$rank" 2>&1 &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || { cat "$work"/out.*; exit 1; }; done
}
same() {
    rm -rf "$work/one" && job one 1 1 "$@"
    for count in 2 3 4; do
        rm -rf "$work/many" && job many $count 1 "$@"
        cmp "$work/one/model.safetensors" "$work/many/model.safetensors"
        cmp "$work/one/predictions.csv" "$work/many/predictions.csv"
        cmp <(cut -d, -f1-9 "$work/one/metrics.csv") <(cut -d, -f1-9 "$work/many/metrics.csv")
    done
    echo "the same bytes with 1 to 4 ranks: ${*:-as it is}"
}
same
same phase[1].freeze_before=block_1_expand
same data.augment.flip_horizontal=true data.augment.rotate=20 phase[1].bn=train
same data.augment.random_resized_crop=true phase[0].augment=false phase[1].mixup=0.3 phase[1].cutmix=1
same data.augment.flip_horizontal=true data.augment.views=3 train.ema.decay=0.9 train.accumulate=3
same train.ema.decay=0.9 train.accumulate=2 phase[1].bn=train train.sampling=balanced cache.features=false
same train.class_weights=balanced train.micro_batch=3 phase[1].evaluate_every=2 train.test_last=true
same train.batch_size=3 train.drop_last=true
same data.split='{ train = 0.5, val = 0.0, test = 0.5 }' phase[1].clip_norm=0.5
