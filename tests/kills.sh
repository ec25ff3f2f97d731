#!/usr/bin/env bash
# Kills runs of a tiny experiment at random moments: so many of each kind, cached and not, with and
# without augmentation, in phases counted in epochs and in steps. All must resume to the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-60}
xp="${CARGO_TARGET_DIR:-target}/release/xp"
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
export XP_CACHE__DISK=false

verify() {
    echo "== $*"
    sets=()
    for set in "$@"; do sets+=(--set "$set"); done
    "$xp" verify-resume configs/quickstart.toml --quiet --kills "$kills" --set runs_dir="$runs" \
        --set data.generate.per_class=20 --set data.image_size=32 --set train.batch_size=4 \
        --set train.accumulate=2 --set train.ema.decay=0.9 --set phase[0].epochs=3 \
        --set phase[1].epochs=3 --set phase[1].evaluate_every=4 "${sets[@]}" |
        awk '{ print } END { exit !/ runs, / }'
}

verify checkpoint.every='{ steps = 1 }'
verify checkpoint.every='{ steps = 3 }' data.augment.flip_horizontal=true phase[1].bn=train
verify checkpoint.every=epoch cache.features=false
verify checkpoint.every='{ minutes = 0.001 }' cache.features=false data.augment.flip_horizontal=true
verify checkpoint.every='{ steps = 2 }' train.sampling=balanced data.augment.flip_horizontal=true \
    data.augment.views=3 phase[1].mixup=0.2 phase[1].cutmix=1
