#!/usr/bin/env bash
# Every experiment of configs/ to its end, each into a run directory under runs/tutorials, on the
# pictures and weights of ../shared: in full with the real weights of MobileNetV2 and from random
# weights, and on few pictures where a backbone's ImageNet weights are not at hand. Names as arguments
# run only these. Prints a line a run. Skips where the pictures are absent.
set -euo pipefail
cd "$(dirname "$0")/.."
xp="${CARGO_TARGET_DIR:-target}/release/xp"
shared=$(realpath -m ../shared)
if [ ! -d "$shared/data" ]; then
    echo "skipped: no pictures in $shared/data"
    exit 0
fi
runs=$PWD/runs/tutorials
mkdir -p "$runs"
flowers=$shared/data/flowers_1k dog_cat=$shared/data/dog_cat
mobilenet=$shared/weights/mobilenet_v2_imagenet.safetensors
wanted=" $* "

# experiment NAME KEY=VALUE...
experiment() {
    local name=$1 sets=(--set runs_dir="$runs") set answer
    shift
    [[ "$wanted" == "  " || "$wanted" == *" $name "* ]] || return 0
    for set in "$@"; do sets+=(--set "$set"); done
    SECONDS=0
    answer=$("$xp" run "configs/$name.toml" --quiet "${sets[@]}" | paste -sd, | sed 's/,/, /g')
    echo "$name: $answer, $SECONDS s"
}

# With real weights, or from random ones, as they are.
experiment cats_vs_dogs_mobilenet data.root="$dog_cat" model.weights="$mobilenet" data.normalize=imagenet
experiment flowers_mobilenet data.root="$flowers" model.weights="$mobilenet"
experiment flowers_mobilenet_head data.root="$flowers" model.weights="$mobilenet"
experiment flowers_mobilenet_cut data.root="$flowers" model.weights="$mobilenet"
experiment flowers_mobilenet_labels data.root="$flowers" model.weights="$mobilenet"
experiment flowers_resnet_scratch data.root="$flowers"

# Without their weights: few pictures, few epochs, to see that they run.
few=(model.weights=none data.max_per_class=20)
experiment flowers_inception data.root="$flowers" "${few[@]}" model.flavour=tf
experiment cats_vs_dogs_xception data.root="$dog_cat" "${few[@]}" model.flavour=tf
experiment pokemon_vgg19 data.root="$flowers" "${few[@]}" "phase[0].epochs=2" \
    data.manifest="$runs/images.csv"
experiment flowers_dinov2_linear data.root="$flowers" "${few[@]}"
experiment flowers_convnext_lpft data.root="$flowers" "${few[@]}" "phase[1].epochs=2"
