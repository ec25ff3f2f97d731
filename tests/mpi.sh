#!/usr/bin/env bash
# Builds xp with `--features mpi` and runs it with mpirun: 2 and 3 ranks must give the bytes of one process,
# over MPI and, with a build that does not know it, over TCP; a job that loses a rank must end.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v mpirun mpicc >/dev/null; then
    echo "skipped: wants Debian's libopenmpi-dev, openmpi-bin and libclang-dev"
    exit 0
fi
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --release --locked --features mpi
cp "$target/release/xp" "$work/xp-mpi"
cargo build --release --locked
cp "$target/release/xp" "$work/xp-tcp"
export XP_CACHE__DISK=false
export OMPI_MCA_rmaps_base_oversubscribe=1
arguments=(run configs/quickstart.toml --quiet --set data.generate.per_class=20 --set data.image_size=32
    --set train.batch_size=10 --set threads=1 --set phase[0].epochs=2 --set phase[1].epochs=2
    --set phase[1].bn=train --set data.augment.flip_horizontal=true)
launch() { mpirun --allow-run-as-root --oversubscribe "$@"; }
"$work/xp-tcp" "${arguments[@]}" --run-dir "$work/one"
for binary in "$work/xp-tcp" "$work/xp-mpi"; do
    name=${binary##*/}
    for count in 2 3; do
        run=$work/$count
        launch -n $count "$binary" "${arguments[@]}" --run-dir "$run"
        cmp "$work/one/model.safetensors" "$run/model.safetensors"
        cmp "$work/one/predictions.csv" "$run/predictions.csv"
        cmp <(cut -d, -f1-9 "$work/one/metrics.csv") <(cut -d, -f1-9 "$run/metrics.csv")
        grep -q "\"ranks\": $count" "$run/manifest.json"
        rm -rf "$run"
        echo "$name: $count ranks give the bytes of one process"
    done
    launch -n 2 "$binary" "${arguments[@]}" --set phase[1].epochs=200 --run-dir "$work/lost" >"$work/out" 2>&1 &
    job=$!
    for _ in $(seq 300); do
        [ ! -e "$work/lost/checkpoints/last" ] || break
        sleep 0.1
    done
    victim=$(pgrep -P "$(pgrep -P $job -x mpirun || echo $job)" -x "$name" | tail -n 1)
    kill -KILL "$victim"
    began=$SECONDS code=0
    wait $job || code=$?
    [ $code != 0 ] && [ $((SECONDS - began)) -le 30 ] || { cat "$work/out"; exit 1; }
    rm -rf "$work/lost"
    echo "$name: a job that lost a rank ended with $code"
done
