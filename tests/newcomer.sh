#!/usr/bin/env bash
# From a folder of pictures to an answer over HTTP in five commands, no file edited; prints how long each
# takes. With photographs and ImageNet's weights of ../shared, else skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
xp=$(realpath "${CARGO_TARGET_DIR:-target}/release/xp")
shared=$(realpath -m ../shared)
if [ ! -d "$shared/data" ]; then
    echo "skipped: no pictures in $shared/data"
    exit 0
fi
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
export XP_CACHE__DIR=$work/features
cp -r "$shared/data/flowers_1k" flowers
picture=$(find flowers -name '*.jpg' | sort | head -1)

step() { # COMMAND...: runs it and prints its time
    local started=$EPOCHREALTIME
    "$@" >>out 2>&1 || { cat out >&2; exit 1; }
    awk -v a="$started" -v b="$EPOCHREALTIME" -v name="${*/#$xp/xp}" \
        'BEGIN { printf "%6.1f s  %s\n", b - a, name }'
}
serve() { # until the first answer
    "$xp" serve runs/*_flowers_* --port 8473 --quiet &
    for _ in $(seq 100); do
        curl --silent --fail --data-binary "@$picture" http://127.0.0.1:8473/predict && return
        sleep 0.05
    done
    return 1
}
whole=$EPOCHREALTIME
# The weights come from the hub where there is one.
step "$xp" new flowers --backbone mobilenet_v2 --weights "$shared/weights/mobilenet_v2_imagenet.safetensors" --size 160
step "$xp" run flowers.toml
step "$xp" evaluate runs/*_flowers_*
step "$xp" predict runs/*_flowers_* "$picture"
step serve
awk -v a="$whole" -v b="$EPOCHREALTIME" 'BEGIN { printf "%6.1f s  in all\n", b - a }'
tail -1 out
