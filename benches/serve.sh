#!/usr/bin/env bash
# xp serve against the same MobileNetV2 behind FastAPI and ONNX Runtime: requests a second and their
# times, interleaved, five rounds, medians.
#
#     benches/serve.sh PICTURE.jpg [CONCURRENCY=8] [REQUESTS=2000]
#
# Wants ab (Debian's apache2-utils), and fastapi, uvicorn and onnxruntime in $PEERS_TORCH.
set -euo pipefail
picture=$(realpath "$1")
concurrency=${2:-8}
requests=${3:-2000}
root=$(cd "$(dirname "$0")/.." && pwd)
xp=${CARGO_TARGET_DIR:-$root/target}/release/xp
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

# The size of the peers' races; random weights cost as much as trained ones.
"$xp" run "$root/configs/quickstart.toml" --quiet --run-dir "$work/run" --set model.width=1.0 \
    --set model.weights=none --set data.image_size=160 --set data.generate.per_class=12 \
    --set phase[0].epochs=1 --set phase[1].epochs=1 --set cache.disk=false >/dev/null
"$xp" export "$work/run" --quiet >/dev/null
"$xp" serve "$work/run" --port 8471 --quiet >/dev/null &
ours=$!
"$PEERS_TORCH" "$root/benches/peers/serve_fastapi.py" "$work/run/model.onnx" 8472 &
theirs=$!
answers() { curl --silent --fail --output /dev/null --data-binary "@$picture" "http://127.0.0.1:$1/predict"; }
for port in 8471 8472; do
    for _ in $(seq 100); do
        answers "$port" && break
        sleep 0.2
    done
    answers "$port" || { echo "nothing answers at port $port" >&2; exit 1; }
done
# A server of before would answer, too.
kill -0 "$ours" && kill -0 "$theirs"

measure() { # requests a second, then milliseconds within which 50 and 99 of 100 were answered
    ab -q -k -c "$concurrency" -n "$requests" -T application/octet-stream -p "$picture" \
        "http://127.0.0.1:$1/predict" >"$work/out" 2>&1
    grep -q "^Non-2xx" "$work/out" && { cat "$work/out" >&2; exit 1; }
    awk '/^Requests per second/ { rate = $4 } $1 == "50%" { half = $2 } $1 == "99%" { most = $2 }
        END { print rate, half, most }' "$work/out"
}
for _ in 1 2 3 4 5; do
    ours=$(measure 8471)
    theirs=$(measure 8472)
    echo "xp $ours  fastapi $theirs"
done | tee "$work/rounds"
python3 - "$work/rounds" <<'PYTHON'
import statistics
import sys
rows = [[float(x) for x in line.replace("xp", "").replace("fastapi", "").split()] for line in open(sys.argv[1])]
ratio = statistics.median(row[0] / row[3] for row in rows)
ours, theirs = (statistics.median(row[i] for row in rows) for i in (2, 5))
print(f"requests a second: {ratio:.2f} times FastAPI's; 99 of 100 within {ours:.0f} ms, FastAPI {theirs:.0f} ms")
PYTHON
