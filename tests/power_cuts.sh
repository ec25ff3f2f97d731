#!/usr/bin/env bash
# Cuts the power of tiny runs at random moments: the run lies on an ext4 of its own, and what has
# reached that file system's disk at the moment of the cut is all that is left, as data that was
# not synced stays in memory. The rest of a journal is replayed and the run goes on from it, until
# there were so many cuts. Every run must end with the same bytes as an undisturbed one.
# Needs root, for mounting a file.
set -euo pipefail
cd "$(dirname "$0")/.."
cuts=${1:-100}
xp=$(realpath "${CARGO_TARGET_DIR:-target}/release/xp")
[ "$(id -u)" = 0 ] || { echo "power cuts: skipped, as mounting a disk needs root" >&2; exit 0; }
work=$(mktemp -d)
disk=$work/disk after=$work/after mount=$work/mount
trap 'pkill -KILL -f "$mount" || true; umount -q "$mount" || true; rm -rf --one-file-system "$work"' EXIT
mkdir "$mount"
export XP_CACHE__DISK=false
RANDOM=1

# Nothing is written because of its age, and no rename waits for the data of what it renames.
attach() { mount -o loop,noatime,commit=3600,noauto_da_alloc "$disk" "$mount"; }

new_disk() {
    rm -f "$disk"
    truncate -s 256M "$disk"
    mkfs.ext4 -q -O ^orphan_file "$disk" 2>/dev/null || mkfs.ext4 -q "$disk"
    attach
    mkdir "$mount/runs"
    sync -f "$mount"
}

begin() { # starts a run, or goes on with the one there is
    local run
    run=$(find "$mount/runs" -mindepth 2 -maxdepth 2 -name resolved.toml -printf '%h')
    if [ -n "$run" ]; then
        "$xp" resume "$run" --quiet
    elif find "$mount/runs" -mindepth 2 -maxdepth 2 | grep -qE 'checkpoints|metrics.csv'; then
        echo "power cuts: a run has lost its configuration" >&2
        exit 1
    else
        rm -rf "$mount"/runs/*
        "$xp" run configs/quickstart.toml --quiet --set runs_dir="$mount/runs" \
            --set data.generate.per_class=20 --set data.image_size=32 --set train.batch_size=4 \
            --set train.accumulate=2 --set train.ema.decay=0.9 --set phase[0].epochs=3 \
            --set phase[1].epochs=3 --set phase[1].evaluate_every=4 "${sets[@]}"
    fi
}

# What must be equal: all that a run leaves but times.
content() {
    (
        cd "$mount"/runs/*/
        cut -d, -f1-9 metrics.csv
        sha256sum model.safetensors predictions.csv test.json test_last.json \
            checkpoints/{last,best}/weights.safetensors
        find . -type f | sort
    )
}

# Waits until no thread of a stopped process is still in the kernel, syncing.
stand_still() {
    local state
    for _ in $(seq 500); do
        state=$(cat /proc/"$1"/task/*/stat 2>/dev/null | sed -E 's/.*\) (.).*/\1/' | sort -u | tr -d '\n')
        case $state in T | "" | Z) return ;; esac
        sleep 0.01
    done
}

verify() {
    echo "== $*"
    sets=()
    for set in "$@"; do sets+=(--set "$set"); done
    new_disk
    local started=${EPOCHREALTIME/./}
    begin >/dev/null
    local took=$((${EPOCHREALTIME/./} - started))
    content >"$work/whole"
    umount "$mount"
    local done=0 runs=0 lost=0
    while ((done < cuts)); do
        new_disk
        while :; do
            begin >/dev/null 2>"$work/said" &
            local process=$!
            local share=$RANDOM
            sleep "$(awk "BEGIN { print $took * $share / 32768 / 1e6 }")"
            # Still at work: the power goes now. What the disk holds is copied while xp stands still.
            if ((done < cuts)) && pkill -STOP -P "$process" xp 2>/dev/null; then
                stand_still "$(pgrep -P "$process" xp || true)"
                cp --sparse=always "$disk" "$after"
                pkill -KILL -P "$process" xp || true
                wait "$process" 2>/dev/null || true
                ((++done))
                umount "$mount"
                mv "$after" "$disk"
                attach
                find "$mount/runs" -mindepth 2 -name state.json | grep -q . || ((++lost))
                continue
            fi
            wait "$process" || { cat "$work/said" >&2; exit 1; }
            break
        done
        content >"$work/resumed"
        diff "$work/whole" "$work/resumed" || { echo "power cuts: a run differs" >&2; exit 1; }
        umount "$mount"
        ((++runs))
    done
    echo "$done cuts, $runs runs, all equal to the undisturbed one; $lost cuts before a checkpoint"
}

verify checkpoint.every='{ steps = 1 }' data.augment.flip_horizontal=true
verify checkpoint.every=epoch
