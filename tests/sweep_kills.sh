#!/usr/bin/env bash
# A sweep of 200 tiny trials, two at a time, whose trials are killed at random moments and which is
# itself killed ten times; in the end its table must be that of an undisturbed sweep, byte for byte
# but for the times, and no trial may have been finished twice.
#
#     tests/sweep_kills.sh [SEEDS=20] [KILLS=10]
set -euo pipefail

seeds=${1:-20}
kills=${2:-10}
root=$(cd "$(dirname "$0")/.." && pwd)
xp=${CARGO_TARGET_DIR:-$root/target}/release/xp
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
RANDOM=7
export XP_CACHE__DIR=$work/features

# To be run in a shell of its own, whose place it takes: its number is then that of xp.
sweep() {
    exec "$xp" sweep "$root/configs/quickstart.toml" --jobs 2 --name "$1" --seeds "$seeds" \
        --axis 'phase[0].optimizer.lr={ log = [1e-4, 1e-1], steps = 10 }' \
        --set runs_dir="$work/runs" --set data.generate.per_class=10 --set data.image_size=32 \
        --set train.batch_size=8 --set phase[0].epochs=2 --set phase[1].epochs=2
}

started=$SECONDS
(sweep calm) >/dev/null 2>&1
echo "undisturbed: $((SECONDS - started)) s"

killed=0
for ((kill = 1; kill <= kills; kill++)); do
    sweep wild >"$work/said" 2>&1 &
    pid=$!
    for _ in 1 2 3 4 5 6 7 8; do
        sleep "0.$((RANDOM % 5))"
        trial=$(pgrep -P "$pid" | shuf -n 1 --random-source=<(yes "$kill")) || continue
        kill -9 "$trial" 2>/dev/null && killed=$((killed + 1))
    done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
done
echo "killed the sweep $kills times, its trials $killed times"

for attempt in 1 2 3; do
    (sweep wild) >"$work/said" 2>&1 && break
    [ "$attempt" -lt 3 ] || { cat "$work/said"; exit 1; }
done

timeless() {
    python3 -c 'import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
print(len(rows))
for row in rows:
    row.pop("seconds")
    print(",".join(row.values()))' "$work/runs/$1/sweep.csv"
}
diff <(timeless calm) <(timeless wild)
for run in "$work"/runs/wild/*/; do
    [ -e "$run/metrics.csv" ] || continue
    # model.safetensors also says how many threads it was given.
    for file in predictions.csv checkpoints/best/weights.safetensors; do
        cmp "$run/$file" "$work/runs/calm/$(basename "$run")/$file"
    done
done
twice=$(grep -c '^done in' "$work"/runs/wild/trials/*.log | grep -vc ':[01]$' || true)
[ "$twice" = 0 ] || { echo "$twice trials were finished twice"; exit 1; }
[ "$killed" -gt 0 ] || { echo "no trial was killed"; exit 1; }
echo "$(timeless wild | sed -n 1p) trials: the same table, weights and predictions, each finished once"
