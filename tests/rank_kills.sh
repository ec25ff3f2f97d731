#!/usr/bin/env bash
# Jobs of 2 to 4 ranks that lose one at a random moment, killed (SIGKILL) or hung (SIGSTOP): every job
# must end within 30 s with 75, and go on with another number of ranks to the bytes of one process.
#
#     tests/rank_kills.sh [KILLS=50]
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-50}
xp="${CARGO_TARGET_DIR:-target}/release/xp"
work=$(mktemp -d)
trap 'kill -KILL $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
export XP_CACHE__DISK=false
sets=()
for set in data.generate.per_class=20 data.image_size=32 train.batch_size=10 train.accumulate=2 \
    train.ema.decay=0.9 data.augment.flip_horizontal=true checkpoint.every='{ steps = 3 }' threads=1 \
    phase[0].epochs=3 phase[0].augment=false phase[1].epochs=4 phase[1].bn=train phase[1].mixup=0.2; do
    sets+=(--set "$set")
done

# job COUNT DIR: starts so many ranks; their numbers as processes are in `pids`.
job() {
    local count=$1 dir=$2 rank port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    pids=()
    for ((rank = 0; rank < count; rank++)); do
        local launcher=(RANK=$rank WORLD_SIZE=$count MASTER_ADDR=127.0.0.1 MASTER_PORT=$port)
        [ "$count" -gt 1 ] || launcher=()
        env "${launcher[@]}" "$xp" run configs/quickstart.toml --quiet --run-dir "$dir" \
            --peer-timeout 8 "${sets[@]}" >"$work/out.$rank" 2>&1 &
        pids+=($!)
    done
}
finish() {
    local pid code=0
    for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
    return $code
}
same() {
    cmp "$1/model.safetensors" "$2/model.safetensors" && cmp "$1/predictions.csv" "$2/predictions.csv" &&
        cmp <(cut -d, -f1-9 "$1/metrics.csv") <(cut -d, -f1-9 "$2/metrics.csv")
}

began=$(date +%s%N)
job 1 "$work/whole" && finish
took=$((($(date +%s%N) - began) / 1000000))
echo "one process takes $took ms"
slowest=0 ended=0 done_before=0
for ((kill = 1; kill <= kills; kill++)); do
    count=$((2 + RANDOM % 3)) then=$((1 + RANDOM % 4))
    [ $then != $count ] || then=$((then % 4 + 1))
    rank=$((RANDOM % count)) signal=KILL
    [ $((kill % 3)) != 0 ] || signal=STOP
    dir=$work/run.$kill
    job $count "$dir"
    delay=$((200 + (RANDOM * 32768 + RANDOM) % took))
    sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
    kill -$signal "${pids[rank]}" 2>/dev/null || true
    at=$(date +%s%N)
    codes=()
    for ((other = 0; other < count; other++)); do
        [ $other != $rank ] || continue
        code=0
        timeout 40 tail --pid="${pids[other]}" -f /dev/null || true
        ! kill -0 "${pids[other]}" 2>/dev/null || { echo "rank $other of $count hangs"; exit 1; }
        wait "${pids[other]}" || code=$?
        codes+=("$code")
    done
    ms=$((($(date +%s%N) - at) / 1000000))
    # The launcher's part.
    kill -KILL "${pids[rank]}" 2>/dev/null || true
    wait "${pids[rank]}" 2>/dev/null || true
    for code in "${codes[@]}"; do
        [ "$code" = 75 ] || [ "$code" = 0 ] || { echo "ended with $code"; cat "$work"/out.*; exit 1; }
        [ "$code" = 75 ] && ended=$((ended + 1)) || done_before=$((done_before + 1))
    done
    [ $ms -le 30000 ] || { echo "took $ms ms to end"; exit 1; }
    [ $ms -le $slowest ] || slowest=$ms
    job $then "$dir"
    finish || { echo "does not go on"; cat "$work"/out.*; exit 1; }
    same "$work/whole" "$dir" || { echo "other bytes after rank $rank of $count, then $then"; exit 1; }
    echo "$kill: SIG$signal to rank $rank of $count after $delay ms, ended ${codes[*]} in $ms ms, then $then: same bytes"
    rm -rf "$dir"
done
echo "$kills jobs, the slowest ended $slowest ms after its loss; $ended ranks ended with 75, $done_before were done"
