#!/usr/bin/env bash
# Makes a run and a sweep, and uses their pages in headless Chromium: see tests/browser.py. Skipped
# without Debian's chromium-driver and python3-selenium.
#
#     tests/browser.sh [SCREENSHOTS]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
xp=${CARGO_TARGET_DIR:-$root/target}/release/xp
python=/usr/bin/python3
if ! command -v chromedriver >/dev/null || ! "$python" -c "import selenium" 2>/dev/null; then
    echo "skipped: wants the Debian packages chromium, chromium-driver and python3-selenium"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XP_CACHE__DIR=$work/features

# Five classes: a thousand pictures of the test split.
"$xp" run "$root/configs/quickstart.toml" --quiet --set runs_dir="$work/runs" \
    --set data.generate.per_class=1000 --set phase[0].epochs=3 --set phase[1].epochs=2 >/dev/null
run=$(echo "$work"/runs/2*)
"$xp" report "$run" >/dev/null
"$xp" sweep "$root/configs/quickstart.toml" --quiet --set runs_dir="$work/runs" --name sweep --jobs 2 \
    --set data.generate.per_class=40 --set phase[0].epochs=3 --set phase[1].epochs=1 --seeds 2 \
    --axis 'phase[0].optimizer.lr=[1e-3, 1e-2]' --axis 'model.head=[[{ dense = 5 }], [{ dropout = 0.2 }, { dense = 5 }]]' \
    >/dev/null
"$python" "$root/tests/browser.py" "$run/report.html" "$work/runs/sweep/sweep.html" ${1:+--screenshots "$1"}
